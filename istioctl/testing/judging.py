"""What was expected against what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from istioctl.testing import compiled
from istioctl.testing.seen import Ending, Engine, Headers, Seen
from istioctl.testing.spec import Case, Expectation, Place
from istiod.config.origin import Origin

_ALL: Final = 100.0
_EXACT: Final = 0.5
_DEVIATIONS: Final = 4.0
"""So many standard deviations a share of a sample may be off: chance does that once in 15,000 samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An expectation that did not hold. ``causes`` are the objects that decided."""

    field: str
    expected: str
    happened: str
    causes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """Rules that did not, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of a test. ``skipped`` says why it was not tried.

    ``unseen`` are the expectations that the engine cannot look at.
    """

    case: Case
    seconds: float
    failures: tuple[Failure, ...] = ()
    skipped: str = ""
    unseen: tuple[str, ...] = ()
    hint: str = ""

    @property
    def passed(self) -> bool:
        """Whether all held."""
        return not (self.failures or self.skipped)


def judge(case: Case, seen: Seen, engine: Engine, seconds: float) -> Verdict:
    """Compare.

    Raises:
        CommandError: the test names a destination that the mesh does not have.
    """
    if seen.skipped:
        return Verdict(case=case, seconds=seconds, skipped=seen.skipped)
    wanted = case.expect
    if wanted.rule is not None and not _tells(wanted.rule, seen):
        wanted = wanted.model_copy(update={"rule": None})
    failures = [*_each(wanted, seen, engine)]
    if wanted.reaches is not None:
        failures += _reached(wanted, wanted.reaches, seen, engine)
    failures += _doubtful(seen, failures)
    hint = seen.hint if failures else ""
    unseen = tuple(_unseen(case.expect, seen))
    return Verdict(case=case, seconds=seconds, failures=tuple(failures), unseen=unseen, hint=hint)


def _unseen(wanted: Expectation, seen: Seen) -> Iterator[str]:
    """The expectations of which an engine cannot tell whether they hold."""
    if wanted.rule is not None and not _tells(wanted.rule, seen):
        yield "rule"
    for name in ("timeout", "retries", "denied"):
        if getattr(wanted, name) is not None and any(getattr(one, name) is None for one in seen.endings):
            yield name
    if isinstance(wanted.denied, str) and any(one.denied and one.by is None for one in seen.endings):
        yield "denied"


def _tells(rule: str, seen: Seen) -> bool:
    return seen.tells is None or rule.partition("/")[0] in seen.tells


def _doubtful(seen: Seen, failures: list[Failure]) -> Iterator[Failure]:
    """A doubt is a failure, but where something else is one already: nobody knows what the test was to show."""
    doubts = dict.fromkeys(doubt for one in seen.endings for doubt in one.doubts)
    if doubts and not failures:
        yield Failure(field="expect", expected="an answer", happened="cannot be said offline: " + "; ".join(doubts))


Check = Callable[[Expectation, Ending], Iterator[tuple[str, str, str]]]
"""Gives field, what was expected and what happened, of each difference."""


def _each(wanted: Expectation, seen: Seen, engine: Engine) -> Iterator[Failure]:
    """What must hold of every request; of a field what happened most often."""
    found: dict[str, dict[tuple[str, str], list[Ending]]] = {}
    for one in seen.endings:
        for check in _CHECKS:
            for field, expected, happened in check(wanted, one):
                found.setdefault(field, {}).setdefault((expected, happened), []).append(one)
    for field, several in found.items():
        (expected, happened), mine = max(several.items(), key=lambda pair: sum(one.share for one in pair[1]))
        share = sum(one.share for each in several.values() for one in each)
        part = f"{share:.3g}% of the requests: " if share < _ALL - _EXACT else ""
        more = f" and {len(several) - 1} more" if len(several) > 1 else ""
        yield _failure(field, expected, part + happened + more, mine[0], engine)


def _failure(field: str, expected: str, happened: str, one: Ending, engine: Engine) -> Failure:
    """A failure with the rules behind an ending."""
    causes = dict.fromkeys((*(one.by or ()), *one.rules))
    return Failure(
        field=field,
        expected=expected,
        happened=happened,
        causes=tuple(engine.cause(origin) for origin in causes),
        others=tuple(f"{engine.cause(origin)}: {reason}" for origin, reason in one.lost if origin not in causes),
    )


def _status(wanted: Expectation, one: Ending) -> Iterator[tuple[str, str, str]]:
    if wanted.status is not None and one.status not in wanted.status:
        yield "status", " or ".join(map(str, wanted.status)), f"{one.status or 'no status'} ({one.text})"


def _closed(wanted: Expectation, one: Ending) -> Iterator[tuple[str, str, str]]:
    if wanted.closed is not None and one.closed != wanted.closed:
        yield "closed", str(wanted.closed).lower(), one.text


def _no_route(wanted: Expectation, one: Ending) -> Iterator[tuple[str, str, str]]:
    if wanted.no_route is not None and one.no_route != wanted.no_route:
        yield "noRoute", str(wanted.no_route).lower(), one.text


def _denied(wanted: Expectation, one: Ending) -> Iterator[tuple[str, str, str]]:
    said = wanted.denied
    if said is None or one.denied is None:
        return
    if isinstance(said, bool):
        if one.denied != said:
            yield "denied", str(said).lower(), one.text
    elif not one.denied:
        yield "denied", f"by {said}", one.text
    elif one.by is not None and not any(names(said, origin) for origin in one.by):
        by = ", ".join(_said(each) for each in one.by) or "another rule"
        yield "denied", f"by {said}", f"by {by}"


def names(said: str, origin: Origin) -> bool:
    """Whether ``KIND/NAMESPACE/NAME [FIELD]`` is an origin, or what it is a part of."""
    key, _, field = said.partition(" ")
    field = field.strip()
    inside = origin.field == field or origin.field.startswith((f"{field}.", f"{field}["))
    return str(origin.key) == key and (not field or inside)


def _said(origin: Origin) -> str:
    return f"{origin.key} {origin.field}".strip()


def _rule(wanted: Expectation, one: Ending) -> Iterator[tuple[str, str, str]]:
    if wanted.rule is not None and not any(names(wanted.rule, each) for each in one.rules):
        rules = ", ".join(dict.fromkeys(map(_said, one.rules)))
        yield "rule", wanted.rule, f"decided by {rules}" if rules else "no rule decided"


def _location(wanted: Expectation, one: Ending) -> Iterator[tuple[str, str, str]]:
    if wanted.location is not None and one.location != wanted.location:
        yield "location", wanted.location, one.location or f"no redirect ({one.text})"


def _limits(wanted: Expectation, one: Ending) -> Iterator[tuple[str, str, str]]:
    if wanted.timeout is not None and one.timeout is not None and not math.isclose(wanted.timeout, one.timeout):
        yield "timeout", f"{wanted.timeout:g}s", f"{one.timeout:g}s"
    if wanted.retries is not None and one.retries is not None and wanted.retries != one.retries:
        yield "retries", str(wanted.retries), str(one.retries)


def _arrived(wanted: Expectation, one: Ending) -> Iterator[tuple[str, str, str]]:
    said = wanted.request
    if said is None:
        return
    if one.arrived is None:
        yield "request", "a request that reaches an app", one.text
        return
    if said.host is not None and one.arrived.host != said.host:
        yield "request.host", said.host, one.arrived.host
    if said.path is not None and one.arrived.path != said.path:
        yield "request.path", said.path, one.arrived.path
    yield from _headers("request", said.headers, one.arrived.headers)


def _returned(wanted: Expectation, one: Ending) -> Iterator[tuple[str, str, str]]:
    if wanted.response is not None:
        yield from _headers("response", wanted.response.headers, one.returned)


def _headers(where: str, wanted: Mapping[str, str | None], found: Headers) -> Iterator[tuple[str, str, str]]:
    for name, value in wanted.items():
        field, got = f"{where}.headers.{name}", found.values.get(name.lower())
        if compiled.is_unknown(found, name.lower()):
            yield field, value or "absent", "cannot be said offline: it is made while the request passes"
        elif got != value:
            yield field, "absent" if value is None else repr(value), "absent" if got is None else repr(got)


_CHECKS: Final[tuple[Check, ...]] = (
    *(_status, _closed, _no_route, _denied, _location),
    *(_rule, _limits, _arrived, _returned),
)


def _reached(wanted: Expectation, places: tuple[Place, ...], seen: Seen, engine: Engine) -> Iterator[Failure]:
    strays = [one for one in seen.endings if not any(engine.holds(place, one) for place in places)]
    expected = ", ".join(_place(place) for place in places)
    if strays or not seen.endings:
        first = strays[0]
        happened = ", ".join(dict.fromkeys(f"{one.share:.3g}% {one.text}" for one in seen.endings))
        yield _failure("reaches", expected, happened, first, engine)
        return
    for place in places:
        if place.weight is None:
            continue
        mine = [one for one in seen.endings if engine.holds(place, one)]
        share = sum(one.share for one in mine)
        if abs(share - place.weight) > _allowed(wanted, place.weight, seen.sample):
            sample = f" of {seen.sample} requests" if seen.sample else ""
            example = mine[0] if mine else seen.endings[0]
            yield _failure("reaches", _place(place), f"{share:.3g}%{sample}", example, engine)


def _place(place: Place) -> str:
    return place.said() if place.weight is None else f"{place.weight:g}% {place.said()}"


def _allowed(wanted: Expectation, weight: float, sample: int) -> float:
    """How far a share may be from its weight, in points."""
    chance = _DEVIATIONS * math.sqrt(weight * (_ALL - weight) / sample) if sample else 0.0
    return max(_EXACT if wanted.tolerance is None else wanted.tolerance, chance)
