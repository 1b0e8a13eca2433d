"""``istioctl wait TYPE NAME``: until every proxy that an object concerns has acknowledged it (Istio: x wait).

All replicas of istiod are asked, since each knows its own proxies; one that does not answer counts as no. Waits by
asking again: no command holds a stream of istiod open.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from crds.registry import KINDS, Effect, KindInfo
from istioctl import options, output, reach
from istioctl.errors import CommandError

PATH: Final = "/debug/config_distribution"
PERIOD: Final = 0.2
"""Seconds between two looks."""
_NAMED: Final = 5
_UNKNOWN: Final = "no such object is known to this istiod"
_SHORT: Final = {"vs": "virtualservices", "dr": "destinationrules", "gw": "gateways", "se": "serviceentries"}
_SHORT_TOO: Final = {"we": "workloadentries", "ap": "authorizationpolicies", "pa": "peerauthentications"}
_SHORTS: Final = {**_SHORT, **_SHORT_TOO, "ra": "requestauthentications", "telemetry": "telemetries"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What all replicas say together. ``reasons`` are why it is not done, a line each.

    ``heard``: one of them answered.
    """

    heard: bool
    exists: bool
    proxies: int
    waiting: int
    reasons: tuple[str, ...]

    def done(self, threshold: float, *, gone: bool) -> bool:
        """Whether so large a part of the proxies has it, and nothing else is in the way."""
        if self.exists == gone or len(self.reasons) > self.waiting:
            return False
        return self.waiting <= (1.0 - threshold) * self.proxies + 1e-9


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "wait",
        parents=[options.shared()],
        help="until proxies have acknowledged an object",
        description="Wait until every proxy that an object concerns has acknowledged its present version.",
        allow_abbrev=False,
    )
    parser.add_argument("type", metavar="TYPE", help="such as virtualservice or vs")
    parser.add_argument("name", metavar="NAME[.NAMESPACE]")
    add = parser.add_argument
    add("--for", dest="what", default="distribution", choices=("distribution", "delete"), help="default: distribution")
    add("--timeout", type=options.seconds, default=30.0, metavar="30s", help="how long to wait; default: 30s")
    add("--threshold", type=ratio, default=1.0, metavar="1.0", help="which part of the proxies is enough; default: 1.0")
    add("--generation", type=int, default=None, help="at least this one; default: the present one, in a cluster")
    options.add_control_plane(parser)
    parser.set_defaults(run=_run)


def ratio(text: str) -> float:
    """A number from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return found


def kind_of(text: str) -> KindInfo:
    """The kind of a name as kubectl takes it: singular, plural, short, with or without the group.

    Raises:
        CommandError: there is no such kind of Istio's API.
    """
    name, _, group = text.lower().partition(".")
    name = _SHORTS.get(name, name)
    for info in KINDS.values():
        ours = "." in info.group and not info.group.endswith("k8s.io") and info.effect is Effect.READ
        fits = not group or group in (info.group, *(f"{version}.{info.group}" for version in info.versions))
        if ours and fits and name in (info.plural, info.kind.lower()):
            return info
    raise CommandError(f"type {text!r} is none of Istio's that proxies get anything of")


def _run(given: argparse.Namespace) -> int:
    info = kind_of(given.type)
    name, _, namespace = given.name.partition(".")
    namespace = namespace or given.namespace or "default"
    planes = options.control_planes(given)
    generation = given.generation
    if generation is None:
        generation = _present(given, info, namespace, name)
    shown, gone = f"{info.kind}/{namespace}/{name}", given.what == "delete"
    end = time.monotonic() + given.timeout
    while True:
        answer = _ask(planes, shown, 0 if gone else generation)
        if answer.done(given.threshold, gone=gone):
            how = "gone from" if gone else "present on"
            output.say(f"{shown} {how} {answer.proxies - answer.waiting} out of {answer.proxies} proxies\n")
            return 0
        if time.monotonic() >= end:
            raise CommandError(_late(shown, answer, gone=gone))
        time.sleep(PERIOD)


def _present(given: argparse.Namespace, info: KindInfo, namespace: str, name: str) -> int:
    """The generation of the object at the API server; 0 where that is not asked: an istiod elsewhere, or a deletion.

    Raises:
        CommandError: it is not there.
    """
    if given.monitoring_address or given.what == "delete":
        return 0
    path = f"/apis/{info.group}/{info.versions[0]}/namespaces/{namespace}/{info.plural}/{name}"
    found = options.cluster(given).read(path)
    if found is None:
        raise CommandError(f"there is no {info.kind} {name} in namespace {namespace}")
    return int(found.get("metadata", {}).get("generation") or 0)


def _ask(planes: Sequence[reach.Address], shown: str, generation: int) -> Answer:
    path = f"{PATH}?resource={urllib.parse.quote(shown)}"
    reasons: list[str] = []
    heard, exists, proxies, waiting = False, False, 0, 0
    for plane in planes:
        try:
            found = json.loads(plane.ask(path))
            heard, exists = True, exists or bool(found["exists"])
            proxies += int(found["proxies"])
            waiting += len(found["waiting"])
            reasons += [f"{each['proxy']}: {each['reason']}" for each in found["waiting"]]
            if found["pending"]:
                reasons.append(f"{plane.name}: changes are on their way to proxies")
            if found["exists"] and found["generation"] < generation:
                reasons.append(f"{plane.name}: has seen generation {found['generation']}, not yet {generation}")
        except CommandError as error:
            if _UNKNOWN in str(error):
                heard = True
            else:
                reasons.append(str(error))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CommandError(f"{plane.name}: {PATH} is not what istiod says: {error}") from error
    return Answer(heard=heard, exists=exists, proxies=proxies, waiting=waiting, reasons=tuple(reasons))


def _late(shown: str, answer: Answer, *, gone: bool) -> str:
    if not answer.heard:
        return f"no istiod says how {shown} stands: {'; '.join(answer.reasons[:_NAMED])}"
    if not answer.exists and not gone:
        return f"{shown} is not known to istiod" + "".join(f"; {each}" for each in answer.reasons[:_NAMED])
    if answer.exists and gone:
        return f"{shown} is still there"
    more = len(answer.reasons) - _NAMED
    listed = "".join(f"\n  {each}" for each in (*answer.reasons[:_NAMED], *([f"and {more} more"] if more > 0 else ())))
    return f"timeout expired before {shown} became effective on all proxies:{listed}"
