"""``istioctl version``: of this program, of the control plane and of the proxies (features row U8)."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from istioctl import options, output, reach, syncz
from istioctl.errors import CommandError
from wire import names

_PATH: Final = "/version"


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "version", parents=[options.shared()], help="versions of client, control plane and proxies", allow_abbrev=False
    )
    options.add_truth(parser, "--remote", default=True, text="ask the control plane too")
    options.add_truth(parser, "-s", "--short", default=True, text="numbers only")
    options.add_control_plane(parser)
    parser.add_argument("-o", "--output", choices=("json", "yaml"), default="", help="for programs")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    planes: list[tuple[str, str]] = []
    proxies: list[syncz.Synced] = []
    silent: list[str] = []
    more: list[str] = []
    problem = ""
    if given.remote:
        try:
            reached = options.control_planes(given)
            planes, silent = reach.ask_all(reached, _PATH, _read)
            proxies, more = syncz.fetch([each for each in reached if each.name in dict(planes)])
        except CommandError as error:
            problem = str(error)
    for reason in (*silent, *more):
        output.complain(f"the versions of one istiod or of its proxies are missing here: {reason}", "Warning")
    output.say(_structured(planes, proxies, given) if given.output else _lines(planes, proxies, given))
    if problem:
        raise CommandError(f"the control plane's version is not known: {problem}")
    return 0


def _read(name: str, body: bytes) -> list[tuple[str, str]]:
    return [(name, body.decode(errors="replace").strip())]


def _info(version: str) -> dict[str, str]:
    return {"version": version, "revision": "unknown", "golang_version": "", "status": "", "tag": version}


def _structured(planes: Sequence[tuple[str, str]], proxies: Sequence[syncz.Synced], given: argparse.Namespace) -> str:
    found: dict[str, Any] = {"clientVersion": _info(names.VERSION)}
    if planes:
        found["meshVersion"] = [{"Component": "pilot", "Info": _info(version), "ID": name} for name, version in planes]
        found["dataPlaneVersion"] = [{"ID": each.name, "IstioVersion": each.version} for each in proxies]
    return output.structured(found, given.output)


def _lines(planes: Sequence[tuple[str, str]], proxies: Sequence[syncz.Synced], given: argparse.Namespace) -> str:
    def shown(version: str) -> str:
        return version if given.short else f"version.BuildInfo{{Version:{version!r}}}"

    lines = [f"client version: {shown(names.VERSION)}"]
    if planes:
        lines.append(f"control plane version: {', '.join(shown(each) for each in sorted({v for _, v in planes}))}")
        counted = sorted(Counter(each.version for each in proxies).items())
        data = ", ".join(f"{shown(version)} ({count} proxies)" for version, count in counted)
        lines.append(f"data plane version: {data or 'none'}")
    return "\n".join(lines) + "\n"
