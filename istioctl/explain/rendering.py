"""A journey for people, and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from istiod.config.origin import Origin
from istiod.explain.answer import Lost, Stage, Step
from istiod.explain.call import Direction
from istiod.explain.journey import Hop, Journey, Outcome

Cause = Callable[[Origin], str]
_WIDTH: Final = 16
_LOST: Final = 5
"""Of so many rules that lost each is shown, of more the last and how many there are: those nearest to the winner."""
_QUIET: Final = (Stage.LISTENER, Stage.CHAIN)
"""Whose losers say little: other ports and protocols."""


def text(journey: Journey, cause: Cause, *, verbose: bool = False) -> str:
    """The outcome first, then each proxy's steps. ``verbose`` shows every rule that lost."""
    lines = [journey.question.said(), ""]
    lines += [f"=> {_outcome(one)}" for one in journey.outcomes()]
    lines += [f"   note: {one}" for one in journey.notes]
    told: dict[tuple[str, ...], str] = {}
    for hop, share in journey.hops():
        body = tuple(_hop(hop, cause, verbose=verbose))
        part = "" if share > 99.9 else f", {share:.3g}% of the requests"  # noqa: PLR2004 (all, but for rounding)
        head = f"{hop.party.name}, {_DIRECTIONS[hop.call.direction]}{part}"
        if (same := told.get(body)) is not None:
            lines += ["", f"{head}: as {same}"]
            continue
        told[body] = hop.party.name
        lines += ["", head, *body]
    return "\n".join(lines) + "\n"


_DIRECTIONS: Final = {
    Direction.OUTBOUND: "outbound",
    Direction.INBOUND: "inbound",
    Direction.GATEWAY: "gateway",
}


def _outcome(one: Outcome) -> str:
    doubt = " (with doubts, see below)" if one.doubtful else ""
    return f"{one.share:.3g}%  {one.text}{doubt}"


def _hop(hop: Hop, cause: Cause, *, verbose: bool) -> Iterator[str]:
    for step in hop.answer.steps:
        if step.stage is Stage.ENDPOINTS and hop.call.direction is Direction.INBOUND:
            yield _line(step.stage.value, "the app beside it")  # whose address says nothing, and keeps equals apart
        else:
            yield from _step(step, cause, verbose=verbose)
    if hop.answer.detail:
        yield _line("end", f"{hop.answer.end.value}{_status(hop)}: {hop.answer.detail}")
    for doubt in hop.answer.doubts:
        yield _line("doubt", doubt)


def _status(hop: Hop) -> str:
    return f" {hop.answer.status}" if hop.answer.status else ""


def _step(step: Step, cause: Cause, *, verbose: bool) -> Iterator[str]:
    said = ": ".join(part for part in (step.name, step.text) if part)
    if step.stage is Stage.ENDPOINTS:
        said = step.text
    yield _line(step.stage.value, said)
    if step.origin is not None:
        yield _line("", f"<- {cause(step.origin)}")
    if step.stage in _QUIET and not verbose:
        return
    lost = step.lost if verbose or len(step.lost) <= _LOST else step.lost[-1:]
    if len(lost) < len(step.lost):
        yield _line("", f"not {len(step.lost) - len(lost)} others before it (--verbose)")
    for one in lost:
        yield _line("", f"not {_loser(one, cause)}: {one.reason}")


def _loser(one: Lost, cause: Cause) -> str:
    return cause(one.origin) if one.origin is not None else one.name or "a rule"


def _line(head: str, said: str) -> str:
    printable = said if said.isprintable() else "".join(filter(str.isprintable, said))
    return f"  {head:{_WIDTH}}{printable}".rstrip()


def plain(journey: Journey, cause: Cause) -> Mapping[str, Any]:
    """The journey as JSON."""
    asked = journey.question
    return {
        "request": {
            "from": journey.client.name,
            "method": asked.method,
            "scheme": asked.scheme,
            "host": asked.host,
            "port": asked.port,
            "path": asked.path,
            "headers": dict(asked.headers),
        },
        "outcomes": [
            {
                "percent": round(one.share, 4),
                "text": one.text,
                "workload": one.workload or None,
                "status": one.status or None,
                "cluster": one.cluster or None,
                "certain": not one.doubtful,
            }
            for one in journey.outcomes()
        ],
        "notes": list(journey.notes),
        "proxies": [_proxy(hop, share, cause) for hop, share in journey.hops()],
    }


def _proxy(hop: Hop, share: float, cause: Cause) -> Mapping[str, Any]:
    answer = hop.answer
    return {
        "proxy": hop.party.name,
        "direction": hop.call.direction.value,
        "percent": round(share, 4),
        "end": answer.end.name.lower(),
        "status": answer.status or None,
        "detail": answer.detail,
        "location": answer.location or None,
        "names": dict(answer.facts),
        "steps": [_plain_step(one, cause) for one in answer.steps],
        "clusters": [
            {
                "name": target.cluster,
                "percent": round(target.share, 4),
                "cause": _plain_origin(target.origin, cause),
                "endpoints": _endpoints(target.hosts),
            }
            for target in answer.targets
        ],
        "mirrors": list(answer.mirrors),
        "doubts": list(answer.doubts),
    }


def _endpoints(hosts: Sequence[Any] | None) -> list[Mapping[str, Any]] | None:
    if hosts is None:
        return None
    return [
        {
            "address": one.address,
            "port": one.port,
            "percent": round(one.share, 4),
            "weight": one.weight,
            "priority": one.priority,
            "locality": one.locality,
            "health": one.health,
            "tls": one.tls,
        }
        for one in hosts
    ]


def _plain_step(one: Step, cause: Cause) -> Mapping[str, Any]:
    return {
        "stage": one.stage.value,
        "name": one.name,
        "text": one.text,
        "cause": _plain_origin(one.origin, cause),
        "lost": [
            {"name": lost.name, "reason": lost.reason, "cause": _plain_origin(lost.origin, cause)} for lost in one.lost
        ],
    }


def _plain_origin(origin: Origin | None, cause: Cause) -> Mapping[str, Any] | None:
    if origin is None:
        return None
    key = origin.key
    return {
        "kind": key.kind,
        "namespace": key.namespace,
        "name": key.name,
        "field": origin.field,
        "text": cause(origin),
    }
