"""``istioctl experimental internal-debug PAGE`` (``x internal-debug syncz``): a debug page of istiod (row U6)."""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from istioctl import options, output, reach
from istioctl.errors import CommandError

_UNDER: Final = "/debug/"


def register(subparsers: Any) -> None:
    """Add the command below ``experimental``."""
    parser = subparsers.add_parser(
        "internal-debug", parents=[options.shared()], help="a debug page of istiod", allow_abbrev=False
    )
    parser.add_argument(
        "page", metavar="PAGE", help="such as syncz, or config_dump?proxyID=POD.NAMESPACE; list has all"
    )
    options.add_truth(parser, "--all", default=False, text="of all replicas, by name; else of the first that answers")
    options.add_control_plane(parser)
    parser.add_argument("-o", "--output", choices=("json", "yaml"), default="json", help="default: json")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    path = _UNDER + given.page.removeprefix(_UNDER).lstrip("/")
    planes = options.control_planes(given)
    if given.all:
        every, silent = reach.ask_all(planes, path, lambda name, body: [(name, _read(name, body))])
        for reason in silent:
            output.complain(f"one istiod is missing here: {reason}", "Warning")
        found: Any = dict(every)
    else:
        found = _first(planes, path)
    output.say(output.structured(found, given.output))
    return 0


def _first(planes: list[reach.Address], path: str) -> Any:
    """What the first says that has it: a proxy is connected to one replica only."""
    reasons = []
    for plane in planes:
        try:
            return _read(plane.name, plane.ask(path))
        except CommandError as error:
            reasons.append(str(error))
    raise CommandError("; ".join(reasons))


def _read(name: str, body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{name} does not answer with JSON: {error}") from error
