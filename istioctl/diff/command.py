"""The command ``diff``: its flags. What it does is running.py's, imported when it runs."""

from __future__ import annotations

import argparse
from typing import Any

from istioctl import options


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "diff",
        parents=[options.shared()],
        help="what a change of YAML would do to every proxy",
        description="Compares two meshes proxy by proxy and says what each would do differently. Exit status 0: "
        "nothing; 1: something; 2: it could not be said.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folders", nargs="*", metavar="OLD NEW", help="two meshes, each a file or a folder")
    add("-f", "--filename", action="append", default=[], metavar="FILE|FOLDER", help="the mesh as it is")
    add("--new", action="append", default=[], metavar="FILE|FOLDER", help="what is applied to it")
    add("--delete", action="append", default=[], metavar="FILE|FOLDER", help="whose objects are taken out of it")
    options.add_control_plane(parser)
    options.add_truth(parser, "--verbose", default=False, text="how listeners are built, too")
    parser.add_argument("-o", "--output", choices=("short", "json", "yaml"), default="short", help="default: short")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from istioctl.diff import running  # noqa: PLC0415 (the compiler's second of CPU is not other commands' to pay)

    return running.run(given)
