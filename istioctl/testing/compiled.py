"""The engine that runs nothing: what explain reads off the configuration that istiod would send."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Final

from istioctl.explain.offline import Files
from istioctl.offline.world import Names, World
from istioctl.testing import asking, members
from istioctl.testing.seen import Arrived, Ending, Headers, Seen
from istioctl.testing.spec import Case, Place
from istiod.config.origin import Origin
from istiod.explain import journey
from istiod.explain.answer import Change, End, Stage, Step
from istiod.explain.journey import Hop, Outcome
from istiod.explain.question import Question

_MADE: Final = re.compile(
    r"x-forwarded-(proto|client-cert)|x-request-id|x-envoy-.*|x-b3-.*|b3|traceparent|tracestate|baggage|forwarded|"
    r"connection|content-length|transfer-encoding|accept.*|user-agent|date|server|content-type|te"
)
"""Headers that proxies, clients and servers make themselves."""
_REFUSING: Final = (Stage.AUTHENTICATION, Stage.AUTHORIZATION, Stage.TLS, Stage.CHAIN)
_OK, _NOT_FOUND, _UNAVAILABLE = 200, 404, 503
_LOSERS: Final = 3
"""So many rules of a step are told that did not decide: the last, which are nearest to the one that did."""
_LEAVES: Final = "leaves the mesh"


class Compiled:
    """See istioctl.testing.seen.Engine."""

    def __init__(self, world: World, flags: str) -> None:
        """``flags`` name the mesh's files, for the hint."""
        self._names = Names(world)
        self._files = Files(world)
        self.members = members.Members(world, self._names, self._files)
        self._flags = flags

    def see(self, case: Case) -> Seen:
        """See Engine."""
        asked = asking.asked(case)
        found = asking.sender(case.source, self._names)
        client = asking.OUTSIDE if found is None else self._files.party(found)
        way = journey.travel(self._files, asked, client)
        hint = f"istioctl explain --from {client.name} {_command(asked)} {self._flags}" if found is not None else ""
        return Seen(endings=tuple(self._ending(one, asked) for one in way.ends()), hint=hint)

    def holds(self, place: Place, ending: Ending) -> bool:
        """See Engine."""
        if place.outside and not ending.left:
            return False
        if place.workload and ending.workload not in self.members.workloads(place):
            return False
        if not place.service:
            return True
        return members.is_host(place, ending.service) and place.subset in ("", ending.subset)

    def cause(self, origin: Origin) -> str:
        """See Engine."""
        return self._files.cause(origin)

    def reachable(self, asked: Question, namespace: str) -> str:
        """What a client of a namespace in a running mesh connects to for a host: its name where it is a Service's."""
        found = self._files.resolve(asked.host, asked.port, namespace)
        return found.address if found.note and "headless" not in found.note else asked.host

    def _ending(self, one: Outcome, asked: Question) -> Ending:
        last = one.way[-1] if one.way else None
        ended = last is not None and last.answer.end in (End.ANSWER, End.CLOSE)
        step = last.answer.steps[-1] if last is not None and ended and last.answer.steps else None
        refused = step is not None and not one.workload and step.stage in _REFUSING
        host, subset = members.parts(one.cluster)
        arrived = _arrived(one, asked)
        reached = arrived is not None
        routed = next((hop.answer for hop in one.way if hop.answer.end is End.FORWARD), None)
        text, status = one.text, one.status
        if reached and asked.http:
            status = _OK
        if reached and asked.scheme == "grpc" and one.targets and not _is_http2(one):
            text, status, arrived, reached = (
                f"{text} over HTTP/1.1, which no gRPC server speaks",
                _UNAVAILABLE,
                None,
                False,
            )
        return Ending(
            share=one.share,
            text=text,
            status=status,
            workload=self.members.of(one.party) if reached and one.party is not None else "",
            left=one.text.startswith(_LEAVES),
            service=host if reached else "",
            subset=subset if reached else "",
            closed=one.text.startswith("connection closed"),
            denied=refused,
            by=tuple(_by(step)) if refused and step is not None else (),
            no_route=_unrouted(last),
            location=last.answer.location if last is not None and step is not None else "",
            arrived=arrived,
            returned=_returned(one),
            rules=tuple(_rules(one.way)),
            lost=tuple(_lost(one.way)),
            timeout=0.0 if routed is None else routed.timeout,
            retries=0 if routed is None else routed.retries,
            doubts=tuple(doubt for hop in one.way for doubt in hop.answer.doubts),
        )


def _is_http2(one: Outcome) -> bool:
    call = one.targets[-1].call
    return call is not None and call.http2


def _command(asked: Question) -> str:
    words = [] if asked.method == "GET" or not asked.http else ["-X", asked.method]
    path = asked.path if asked.http else ""
    host = f"[{asked.host}]" if ":" in asked.host else asked.host
    words.append(f"{asked.scheme}://{host}:{asked.port}{path}")
    for name, value in asked.headers.items():
        words += ["-H", f"{name}: {value}"]
    for flag, value in (("--sni", asked.sni), ("--ip", asked.address), ("--source-ip", asked.source)):
        words += [flag, value] if value else []
    words += ["--claims", json.dumps(asked.claims)] if asked.claims is not None else []
    return shlex.join(words)


def _unrouted(hop: Hop | None) -> bool:
    """Whether a proxy answers 404 because nothing in its routes is for the request."""
    if hop is None or hop.answer.end is not End.ANSWER or hop.answer.status != _NOT_FOUND:
        return False
    step = hop.answer.step(Stage.ROUTE)
    return step is None or (not step.name and step.origin is None)


def _by(step: Step) -> Iterator[Origin]:
    """The rule that refused; where none allowed, those that might have."""
    if step.origin is not None:
        yield step.origin
    else:
        yield from (lost.origin for lost in step.lost if lost.origin is not None)


def _rules(way: Iterable[Hop]) -> Iterator[Origin]:
    for hop in way:
        yield from (step.origin for step in hop.answer.steps if step.origin is not None)


def _lost(way: Iterable[Hop]) -> Iterator[tuple[Origin, str]]:
    for hop in way:
        for step in hop.answer.steps:
            yield from ((each.origin, each.reason) for each in step.lost[-_LOSERS:] if each.origin is not None)


def _arrived(one: Outcome, asked: Question) -> Arrived | None:
    """The request behind the last proxy; None where it comes to no app."""
    if one.status or one.text.startswith(("connection closed", "cannot be said")):
        return None
    call = one.targets[-1].call if one.targets else None
    if call is None:
        return Arrived(host=asked.authority, path=asked.path, headers=Headers(values=dict(asked.headers)))
    headers = Headers(values=dict(call.headers), unknown=call.unknown)
    return Arrived(host=call.authority, path=call.path, headers=headers)


def _returned(one: Outcome) -> Headers:
    """The response's headers as the proxies change them, the one next to the app first."""
    values: dict[str, str] = {}
    unknown: set[str] = set()
    own = one.way[-1].answer.changes if one.way else ()
    for change in (*own, *(change for target in reversed(one.targets) for change in target.changes)):
        _change(values, unknown, change)
    crossing = any(step.name == "CORS" for hop in one.way for step in hop.answer.steps)
    return Headers(values=values, unknown=frozenset(unknown | ({"access-control-*"} if crossing else set())))


def _change(values: dict[str, str], unknown: set[str], change: Change) -> None:
    name = change.name
    if change.value is None:
        values.pop(name, None)
        unknown.discard(name)
        return
    if "%" in change.value:
        unknown.add(name)
    values[name] = f"{values[name]},{change.value}" if change.appends and name in values else change.value


def is_unknown(headers: Headers, name: str) -> bool:
    """Whether nobody can say what a header is without sending the request."""
    if headers.certain:
        return False
    if name in headers.unknown:
        return True
    crossing = name.startswith("access-control-") and "access-control-*" in headers.unknown
    return crossing or (name not in headers.values and _MADE.fullmatch(name) is not None)
