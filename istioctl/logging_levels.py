"""``istioctl proxy-config log``: what Envoy logs, shown and changed."""

from __future__ import annotations

import argparse
from typing import Any, Final

from istioctl import options, output, reach
from istioctl.errors import CommandError

LEVELS: Final = ("trace", "debug", "info", "warning", "error", "critical", "off")
_OTHER_NAMES: Final = {"none": "off", "warn": "warning"}
_DEFAULT: Final = "warning"
_ALL: Final = ("all", "")


def register(kinds: Any) -> None:
    """Add the command to those of proxy-config."""
    parser = kinds.add_parser(
        "log",
        aliases=["o"],
        parents=[options.shared()],
        help="its log levels; --level changes them",
        allow_abbrev=False,
    )
    parser.add_argument("pod", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]")
    parser.add_argument("-l", "--selector", default="", help="all running pods with these labels")
    parser.add_argument("--admin-address", default="", metavar="HOST:PORT", help="Envoy's admin interface here")
    parser.add_argument("--level", default="", help=f"[LOGGER:]LEVEL,...; a level is one of {', '.join(LEVELS)}")
    parser.add_argument("-r", "--reset", action="store_true", help=f"all loggers to {_DEFAULT}")
    options.add_output(parser)
    parser.set_defaults(run=_run, file="")


def paths(level: str, *, reset: bool) -> list[str]:
    """What to ask of Envoy's admin interface, in order; levels of all loggers come before those of one.

    Raises:
        CommandError: a level is none.
    """
    asked = [f"/logging?level={_DEFAULT}"] if reset else []
    pairs = [_pair(part.strip()) for part in level.split(",") if part.strip()]
    asked += [f"/logging?level={found}" for logger, found in pairs if logger in _ALL]
    return asked + [f"/logging?{logger}={found}" for logger, found in pairs if logger not in _ALL] or ["/logging"]


def _pair(text: str) -> tuple[str, str]:
    logger, _, level = text.rpartition(":")
    level = _OTHER_NAMES.get(level.lower(), level.lower())
    if level not in LEVELS:
        raise CommandError(f"{text!r}: a level is one of {', '.join(LEVELS)}")
    if not all(each.isalnum() or each in "_-." for each in logger):
        raise CommandError(f"{text!r}: {logger!r} is no logger of Envoy")
    return logger, level


def parse(answer: str) -> dict[str, str]:
    """Logger -> level of Envoy's answer."""
    pairs = (line.strip().partition(": ") for line in answer.splitlines() if line.startswith(" "))
    return {logger: level for logger, _, level in pairs}


def _run(given: argparse.Namespace) -> int:
    asked = paths(given.level, reset=given.reset)
    found = {admin.name: _ask(admin, asked) for admin in _admins(given)}
    if given.output != "short":
        output.say(output.structured({name: parse(text) for name, text in found.items()}, given.output))
        return 0
    for name, text in found.items():
        output.say(f"{name}:\n{text}")
    return 0


def _admins(given: argparse.Namespace) -> list[reach.Admin]:
    if not given.selector:
        return options.admins(given, given.pod)
    where = options.cluster(given)
    return [where.admin(each) for each in where.proxies(given.selector)]


def _ask(admin: reach.Admin, asked: list[str]) -> str:
    answer = b""
    for path in asked:
        answer = admin.ask(path, "POST")
    return answer.decode(errors="replace")
