"""``istioctl experimental envoy-stats``: what an Envoy counts, of itself or by clusters (row U6)."""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from istioctl import options, output
from istioctl.errors import CommandError
from wire import names

_MERGED: Final = "prom-merged"
_PATHS: Final = {
    ("server", "short"): "/stats",
    ("server", "json"): "/stats?format=json",
    ("server", "yaml"): "/stats?format=json",
    ("server", "prom"): "/stats/prometheus",
    ("clusters", "short"): "/clusters",
    ("clusters", "json"): "/clusters?format=json",
    ("clusters", "yaml"): "/clusters?format=json",
}
"""Envoy's pages by type and form."""


def register(subparsers: Any) -> None:
    """Add the command below ``experimental``."""
    parser = subparsers.add_parser(
        "envoy-stats", aliases=["es"], parents=[options.shared()], help="what an Envoy counts", allow_abbrev=False
    )
    add = parser.add_argument
    add("pod", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]")
    add("-t", "--type", choices=("server", "clusters"), default="server", help="default: server")
    forms = ("short", "json", "yaml", "prom", _MERGED)
    text = f"default: short; prom: for Prometheus; {_MERGED}: with the app's and the agent's"
    add("-o", "--output", choices=forms, default="short", help=text)
    add("--admin-address", default="", metavar="HOST:PORT", help="Envoy's admin interface here")
    parser.set_defaults(run=_run, file="")


def _run(given: argparse.Namespace) -> int:
    if given.output == _MERGED and given.type == "server":
        output.say(_merged(given).decode(errors="replace"))
        return 0
    path = _PATHS.get((given.type, given.output))
    if path is None:
        raise CommandError(f"Envoy does not give {given.type} as {given.output}")
    admin = options.admins(given, given.pod)[0]
    body = admin.ask(path)
    if given.output in ("short", "prom"):
        output.say(body.decode(errors="replace"))
        return 0
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{admin.name}: {path} is no JSON: {error}") from error
    output.say(output.structured(found, given.output))
    return 0


def _merged(given: argparse.Namespace) -> bytes:
    """The agent's page, which is not Envoy's: it has to be asked in the pod."""
    if not given.pod:
        raise CommandError(f"{_MERGED} is the agent's: name a pod")
    where = options.cluster(given)
    asked = ("pilot-agent", "request", "--debug-port", str(names.STATUS_PORT), "GET", "/stats/prometheus")
    found: bytes = where.run(where.pods(given.pod)[0], asked)
    return found
