"""The command ``test``: its flags. What it does is running.py's, imported when it runs."""

from __future__ import annotations

import argparse
from typing import Any

from istioctl import options

_EXAMPLE = "istioctl test examples/bookinfo/tests"


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "test",
        parents=[options.shared()],
        help="traffic tests of mesh YAML: who calls what, and what must come of it",
        description="Runs the tests of some files against the configuration that istiod would send, or with --envoy "
        f"against real Envoys in a mesh on this machine. Example: {_EXAMPLE}. Exit status 0: all held; 1: one did not; "
        "2: a file of tests or of the mesh cannot be read, or no Envoys can be had.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("tests", nargs="+", metavar="TESTS", help="files of tests, and folders of them")
    add(
        *("-f", "--filename"),
        action="append",
        default=[],
        metavar="FILE|FOLDER",
        help="YAML of the mesh, beside what the files of tests name themselves; may stand several times",
    )
    add("--filter", default="", metavar="REGEX", help="only tests whose name holds this")
    options.add_truth(parser, "--envoy", default=False, text="send the requests through real Envoys (needs root)")
    parser.add_argument("-o", "--output", choices=("short", "json", "junit"), default="short", help="default: short")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from istioctl.testing import running  # noqa: PLC0415 (the compiler's second of CPU is not other commands' to pay)

    return running.run(given)
