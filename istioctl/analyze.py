"""``istioctl analyze``: what is wrong with the configuration of a cluster, of files, or of files on top of a cluster.

The analyzers are istiod.analysis; here are the flags, which objects they see, and how findings are filtered and printed
(Istio: ``istioctl analyze``, features row U5).
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Final

from istioctl import analyze_findings, options, output
from istioctl.errors import CommandError

FOUND: Final = 79
"""Exit code: there are findings of the failure threshold or worse."""
UNREADABLE: Final = 65
"""Exit code: a file has documents that are no Kubernetes objects."""
_ALL: Final = "all namespaces"
_PAGES: Final = "https://istio.io/latest/docs/reference/config/analysis/ (IST) and docs/analyze.md (M)"
_EXAMPLES: Final = """examples:
  istioctl analyze                               the live cluster, its namespace of the kubeconfig
  istioctl analyze -A                            the live cluster, all namespaces
  istioctl analyze a.yaml my-app/                the cluster as if these files were applied; without a cluster the files
  istioctl analyze --use-kube=false -R my-app/   files only, with all folders below
  istioctl analyze -S "IST0103=Pod *.testing"    without one message about pods of a namespace
"""


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "analyze",
        parents=[options.shared()],
        help="what is wrong with the configuration of a cluster or of files",
        description="Analyses Istio's configuration and prints messages with stable codes. Exit code 79: there are "
        "messages of the failure threshold or worse; 65: a file cannot be read whole.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="files or folders of YAML or JSON; - is the standard input")
    truth = options.add_truth
    truth(parser, "-k", "--use-kube", default=None, text="analyse the live cluster, files on top of it (default: true)")
    truth(parser, "-A", "--all-namespaces", default=False, text="messages of all namespaces")
    truth(parser, "-R", "--recursive", default=False, text="folders with all folders below them")
    truth(parser, "-L", "--list-analyzers", default=False, text="only list the analyzers")
    truth(parser, "-v", "--verbose", default=False, text="say which analyzers ran")
    truth(parser, "--color", default=_coloured(), text="colours; default: on a terminal")
    truth(parser, "--ignore-unknown", default=False, text="documents that are no Kubernetes objects are no failure")
    truth(parser, "--multi-cluster", default=False, text="not supported: one cluster is analysed")
    levels = [each.lower() for each in analyze_findings.LEVELS]
    for flag, default, text in (
        ("--failure-threshold", "error", "messages of this level or worse make the command fail"),
        ("--output-threshold", "info", "messages of this level or worse are printed"),
    ):
        add(flag, type=_level, default=_level(default), metavar="LEVEL", help=f"{text}: {', '.join(levels)}")
    add("-o", "--output", choices=analyze_findings.FORMATS, default="log", help="default: log")
    add("--meshConfigFile", default="", metavar="FILE", help="mesh configuration to use instead of the cluster's")
    add(
        *("-S", "--suppress"),
        action="append",
        default=[],
        metavar="CODE=RESOURCE",
        help='leave a message about a resource out, such as "IST0102=Namespace frod"; * stands for anything',
    )
    add("--revision", default="default", help="the control plane whose configuration is analysed")
    add("--timeout", type=options.seconds, default=30.0, help="how long reading the cluster may take, such as 30s")
    parser.set_defaults(run=_run)


def _coloured() -> bool:
    return output.is_terminal() and os.environ.get("TERM") != "dumb"


def _level(text: str) -> int:
    """A level by its name, in any case.

    Raises:
        argparse.ArgumentTypeError: there is no such level.
    """
    if text.capitalize() not in analyze_findings.LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(analyze_findings.LEVELS)}")
    return analyze_findings.LEVELS.index(text.capitalize())


def _run(given: argparse.Namespace) -> int:
    from istioctl import analyze_sources  # noqa: PLC0415 (0.3 s that other commands need not pay)
    from istiod.analysis import analyzers  # noqa: PLC0415 (as above)

    chosen = sorted(analyzers.usual(), key=lambda each: each.name)
    if given.list_analyzers:
        output.say("\n".join(f"* {each.name}:\n    {each.description}" for each in chosen))
        return 0
    if given.multi_cluster:
        raise CommandError("--multi-cluster is not supported: one cluster is analysed")
    suppressions = tuple(_suppression(each) for each in given.suppress)
    source = analyze_sources.gather(given)
    found = analyzers.run(chosen, source.collection)
    filters = analyze_findings.Filter(namespace=source.namespace, suppressions=suppressions)
    messages = [each for each in found if filters.keeps(each)]
    if given.verbose:
        sys.stderr.write("Executed analyzers:\n" + "".join(f"\t{each.name}\n" for each in chosen))
    shown = [each for each in messages if each.type.level <= given.output_threshold]
    output.say(analyze_findings.written(shown, given.output, colour=given.color))
    failed = any(each.type.level <= given.failure_threshold for each in messages)
    return _verdict(given, source, failed=failed, shown=bool(shown))


def _verdict(given: argparse.Namespace, source: Any, *, failed: bool, shown: bool) -> int:
    """What is said last, and the exit code."""
    for problem in source.problems:
        output.complain(problem)
    if given.output != "log":  # as Istio: who reads JSON judges it
        return 0
    target = _target(given, source)
    unread = bool(source.problems) and not given.ignore_unknown
    if not shown:
        hint = f" (but {len(source.problems)} documents could not be parsed)" if source.problems else ""
        sys.stderr.write(f"\N{HEAVY CHECK MARK} No validation issues found when analyzing {target}{hint}.\n")
    if failed:
        output.complain(f"Analyzers found issues when analyzing {target}.\nSee {_PAGES} about the codes.")
        return FOUND
    if unread:
        output.complain("Some files couldn't be parsed.")
        return UNREADABLE
    return 0


def _target(given: argparse.Namespace, source: Any) -> str:
    if not source.live:
        return ", ".join(given.files)
    return f"namespace: {source.namespace}" if source.namespace else _ALL


def _suppression(text: str) -> tuple[str, str]:
    """A code and the objects that it is not to be reported of, from CODE=RESOURCE.

    Raises:
        CommandError: it is not of that form.
    """
    code, sign, resource = text.partition("=")
    if not sign or "=" in resource:
        raise CommandError(f"{text} is not a valid suppression value: CODE=RESOURCE, such as IST0102=Namespace frod")
    if code not in analyze_findings.codes():
        said = f"Supplied message code '{code}' is an unknown message code and will not have any effect."
        output.complain(said, "Warning")
    return code, resource
