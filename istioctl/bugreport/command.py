"""``istioctl bug-report``: the flags, which are Istio's, and what is said meanwhile."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from istioctl import options, output
from istioctl.bugreport import selection
from istioctl.errors import CommandError
from wire import decimal, names

_SPEC: Final = "NAMESPACES/DEPLOYMENTS/PODS/LABELS/ANNOTATIONS/CONTAINERS"
_MOST: Final = 64
_ABOUT: Final = (
    "Writes an archive about a mesh: objects of the control plane's namespace and of Istio's kinds, logs, istiod's "
    "debug pages, and of each proxy its configuration, clusters, statistics and log. manifest.json says what could not "
    "be had. "
    "Values of Secrets, private keys, tokens and variables that are called so are left out. "
    f"A spec is {_SPEC}; each part is a list with commas, * stands for anything, and parts at the end may be left out."
)


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "bug-report",
        parents=[options.shared()],
        help="an archive for whoever looks for a fault",
        description=_ABOUT,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--istio-namespace", dest="istioNamespace", default=argparse.SUPPRESS, help="as --istioNamespace")
    add("--include", action="append", default=[], metavar="SPEC", help="proxies of these only; may stand several times")
    usual = selection.USUALLY_NOT[0]
    add("--exclude", action="append", default=None, metavar="SPEC", help=f"not of these; default: {usual}")
    add("--duration", type=options.seconds, default=0.0, help="logs of so long only, such as 1h")
    add("--timeout", type=options.seconds, default=1800.0, help="how long it may take; default: 30m")
    add("--rq-concurrency", type=_count, default=8, help=f"questions at a time, 1 to {_MOST}; default: 8")
    add("--dir", default="", help="folder for what is not finished yet; default: of temporary files")
    add("--output-dir", default=".", help="folder of the archive; default: this one")
    options.add_truth(parser, "--full-secrets", default=False, text="leave nothing out: the archive is a secret then")
    options.add_truth(parser, "--dry-run", default=False, text="only say what would be asked for")
    parser.set_defaults(run=_run)


def _count(text: str) -> int:
    """A number of threads.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    found = decimal.number(text)
    if not found or found > _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {_MOST}")
    return found


def _run(given: argparse.Namespace) -> int:
    from istioctl import cluster  # noqa: PLC0415 (a second that other commands need not pay)
    from istioctl.bugreport import archive, pieces, source  # noqa: PLC0415 (as above)

    chosen = selection.Selection(
        include=selection.parsed(given.include),
        exclude=selection.parsed(selection.USUALLY_NOT if given.exclude is None else given.exclude),
    )
    wishes = pieces.Wishes(
        selection=chosen,
        system=given.istioNamespace,
        seconds=round(given.duration),
        full=given.full_secrets,
        flags=tuple(_flags(given)),
    )
    where = source.Source(
        cluster.Options(kubeconfig=given.kubeconfig, context=given.context, istio_namespace=given.istioNamespace)
    )
    report = pieces.Report(where, wishes)
    found = [*report.pieces(_pods(where, report))]
    if given.dry_run:
        output.say("".join(f"{each.path}\n" for each in found))
        return 0
    sys.stderr.write(f"asking for {len(found)} files, {given.rq_concurrency} at a time\n")
    return _written(given, found, archive)


def _pods(where: Any, report: Any) -> list[Any]:
    """The pods of the cluster; none where the user may not list them, which is said.

    Raises:
        CommandError: the cluster cannot be reached.
    """
    where.read("/version")
    try:
        return [*report.pods()]
    except CommandError as error:
        output.complain(f"nothing of istiod and of proxies will be in it: {error}", "Warning")
        return []


def _written(given: argparse.Namespace, found: list[Any], archive: Any) -> int:
    if not Path(given.output_dir).is_dir():
        raise CommandError(f"{given.output_dir} is no folder")
    began, made = time.monotonic(), archive.Archive(given.dir)
    try:
        bounds = archive.Bounds(concurrency=given.rq_concurrency, seconds=given.timeout)
        manifest = archive.gather(found, bounds, made.add)
        facts = {
            "istioctl": names.VERSION,
            "written": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - began, 1),
            "namespace": given.istioNamespace,
            "include": given.include,
            "exclude": given.exclude,
            "redacted": not given.full_secrets,
        }
        made.add(archive.MANIFEST, archive.told(manifest, facts))
        place = made.finish(Path(given.output_dir))
    except BaseException:
        made.abandon()
        raise
    if manifest.missing:
        output.complain(f"{len(manifest.missing)} files are missing: {archive.MANIFEST} says why", "Warning")
    output.say(f"{place}: {len(manifest.held)} files; look through it before you give it to anybody\n")
    return 0


def _flags(given: argparse.Namespace) -> Iterator[str]:
    """By which the commands that are run for it reach the same cluster."""
    for flag, value in (("-c", given.kubeconfig), ("--context", given.context), ("-i", given.istioNamespace)):
        yield from (flag, value) if value else ()
