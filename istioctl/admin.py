"""``istioctl admin log``: what the replicas of istiod log, by scope, shown and changed while they run (row U8).

Istio asks ControlZ; here it is the page /debug/scopej of the monitoring port, which only a port-forward may change.
"""

from __future__ import annotations

import argparse
import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from istioctl import options, output, reach
from istioctl.errors import CommandError
from wire import names

LEVELS: Final = ("none", "fatal", "error", "warn", "info", "debug")
_PAGE: Final = "/debug/scopej"
_DEFAULT: Final = "default"
_HEADER: Final = ("ACTIVE SCOPE", "DESCRIPTION", "LOG LEVEL", "STACK TRACES")

Changes = Mapping[str, Mapping[str, str]]
"""Scope -> field -> level."""


def register(subparsers: Any) -> None:
    """Add the command and the one below it."""
    parser = subparsers.add_parser(
        "admin", aliases=["istiod"], parents=[options.shared()], help="what istiod logs", allow_abbrev=False
    )
    log = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "log",
        aliases=["l"],
        parents=[options.shared()],
        help="istiod's log levels by scope; --level changes them",
        allow_abbrev=False,
    )
    add = log.add_argument
    add("pod", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]", help="one istiod; else all")
    add("-l", "--selector", default="", help="istiods with these labels")
    options.add_control_plane(log)
    add("--level", default="", metavar="[SCOPE:]LEVEL,...", help=f"a level is one of {', '.join(LEVELS)}")
    add("--stack-trace-level", default="", metavar="[SCOPE:]LEVEL,...", help="log stacks from this level on")
    add("--reset", action="store_true", help="all scopes as at istiod's start")
    options.add_output(log)
    log.set_defaults(run=_run)


def changes(level: str, stack_trace_level: str) -> Changes:
    """What the flags ask for, by scope, the scope of all first: what comes later is for fewer.

    Raises:
        CommandError: a level is none.
    """
    found: dict[str, dict[str, str]] = {}
    for field, said in (("output_level", level), ("stack_trace_level", stack_trace_level)):
        for part in filter(None, map(str.strip, said.split(","))):
            scope, _, wanted = part.rpartition(":")
            if wanted not in LEVELS:
                raise CommandError(f"{part!r}: a level is one of {', '.join(LEVELS)}")
            found.setdefault(_DEFAULT if scope in ("", "all") else scope, {})[field] = wanted
    return dict(sorted(found.items(), key=lambda each: each[0] != _DEFAULT))


def _run(given: argparse.Namespace) -> int:
    asked = changes(given.level, given.stack_trace_level)
    planes = _planes(given)
    found = {plane.name: _told(plane, asked, reset=given.reset) for plane in planes}
    if given.output != "short":
        output.say(output.structured(found if len(found) > 1 else found[planes[0].name], given.output))
        return 0
    for name, scopes in found.items():
        output.say(f"{name}:\n" if len(found) > 1 else "")
        output.say(output.table(_HEADER, [*_rows(scopes)]))
    return 0


def _planes(given: argparse.Namespace) -> list[reach.Address]:
    if given.monitoring_address or not (given.pod or given.selector):
        return options.control_planes(given)
    where = options.cluster(given)
    pods = where.pods(given.pod) if given.pod else where.beside(given.selector)
    return [where.page(each, names.DEBUG_PORT) for each in pods]


def _told(plane: reach.Address, asked: Changes, *, reset: bool) -> Sequence[Mapping[str, Any]]:
    """The scopes of one istiod after the change."""
    if reset:
        plane.ask(_PAGE, "DELETE")
    for scope, levels in asked.items():
        plane.ask(f"{_PAGE}/{urllib.parse.quote(scope, safe='')}", "PUT", json.dumps(levels).encode())
    body = plane.ask(_PAGE)
    try:
        found: list[Mapping[str, Any]] = [dict(each) for each in json.loads(body)]
    except (ValueError, RecursionError, TypeError) as error:
        raise CommandError(f"{plane.name}: {_PAGE} is not what istiod says: {error}") from error
    return found


def _rows(scopes: Sequence[Mapping[str, Any]]) -> Iterator[output.Row]:
    for each in scopes:
        yield tuple(str(each.get(key, "")) for key in ("name", "description", "output_level", "stack_trace_level"))
