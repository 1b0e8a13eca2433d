"""What one stream asked of one type, what its client holds of it, and what is on the way to it.

What a client holds is the target itself plus an overlay of exceptions (DESIGN section 2, point 6): a stream in sync
stores nothing per resource. Which exception is sent when is decided in istiod.ads.plan.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from istiod.ads.bundle import LARGE, Bundle, weak
from istiod.ads.request import OversizedRequestError
from istiod.ads.search import Search
from istiod.config.resource import Resource, ResourceSet
from wire import names as wire_names

NAMED: Final = frozenset((wire_names.ENDPOINT, wire_names.EXTENSION, wire_names.ROUTE, wire_names.SECRET))
"""Types that are always asked for by name, and answered when there is such a resource."""
BY_NAME: Final = NAMED | {wire_names.BOOTSTRAP}
"""Types of which a first request without names means nothing."""
WHOLE: Final = frozenset((wire_names.CLUSTER, wire_names.LISTENER))
"""Types of which a state-of-the-world response says all there is: what is missing in it is removed."""
MAX_SUBSCRIBED: Final = 100_000
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Unsure:
    """After a response with a name was refused: the client has one of these versions, or kept ``last``."""

    last: Resource | str | None
    versions: frozenset[str]


Held = Resource | str | Unsure | None
"""What a client has under a name: a resource that it ACKed; the version that it brought from an earlier stream; one of
two; or nothing."""


def version(held: Held) -> str:
    """The version that the client surely has; "" if none."""
    if isinstance(held, Resource):
        return held.version
    return held if isinstance(held, str) else ""


def last_good(held: Held) -> Resource | None:
    """The newest content that the client once accepted, if its bytes are known."""
    last = held.last if isinstance(held, Unsure) else held
    return last if isinstance(last, Resource) else None


def brought(held: Held) -> str:
    """The newest version that the client had when it came, where only its hash is known; else ""."""
    last = held.last if isinstance(held, Unsure) else held
    return last if isinstance(last, str) else ""


def live(held: Held) -> bool:
    """Whether the client surely has some version of it."""
    return (held.last if isinstance(held, Unsure) else held) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A response without its ACK: what it brings, what it takes away, and when it went (seconds).

    ``retry``: it is a part of a response that was refused before. ``warms``: names of endpoints that its clusters wait
    for.
    """

    nonce: str
    items: Mapping[str, Resource]
    removed: frozenset[str]
    at: float
    retry: bool = False
    warms: frozenset[str] = _NONE


def _never() -> None:
    """What is never found again."""


class NamePool:
    """Equal sets of names, once: thousands of proxies ask for the same endpoints.

    ``most``: of so many of them it is remembered what an overlay without anything looks like.
    """

    def __init__(self, most: int = 32) -> None:
        self._sets: weakref.WeakValueDictionary[int, frozenset[str]] = weakref.WeakValueDictionary()
        self._blank: OrderedDict[int, tuple[Callable[[], object], dict[str, Held]]] = OrderedDict()
        self._most = most

    def intern(self, names: frozenset[str]) -> frozenset[str]:
        """The one set that stands for all equal ones."""
        if not names:
            return _NONE
        known = self._sets.setdefault(hash(names), names)
        return known if known is names or known == names else names

    def blank(self, names: Collection[str]) -> dict[str, Held]:
        """An overlay of a client that has nothing under these names. A copy of one is made in a seventh of the time."""
        if len(names) < LARGE:
            return dict.fromkeys(names)
        kept = self._blank.get(id(names))
        if kept is None or kept[0]() is not names:
            kept = weak(names) or _never, dict.fromkeys(names)
            self._blank[id(names)] = kept
            if len(self._blank) > self._most:
                self._blank.popitem(last=False)
        return kept[1].copy()


@dataclass(slots=True, eq=False)
class Subscription:
    """One type on one stream.

    The client holds ``overlay[name]`` if there is such an entry, else exactly what the target has. ``owed`` are names
    to send even if nothing changed. ``search`` has what to send apart, since a response with all of it was refused.
    ``refused`` are versions that this client will not take, by name, and ``reasons`` its words. ``denied``
    are names asked for that do not exist, and were answered so. ``blank``: the client has nothing of what it asked for
    first, so the overlay has no other entries than None, and just under the names asked for: all of the target's or
    ``names``. Then nobody needs to look at the entries.
    """

    type_url: str
    pool: NamePool
    wildcard: bool = False
    names: frozenset[str] = _NONE
    overlay: dict[str, Held] = field(default_factory=dict)
    flights: tuple[Flight, ...] = ()
    owed: frozenset[str] = _NONE
    search: Search = field(default_factory=Search)
    refused: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    denied: frozenset[str] = _NONE
    blank: bool = False
    answered: bool = False
    sent: str = ""
    acked: str = ""
    error: str = ""

    def covers(self, name: str) -> bool:
        """Whether the client wants this name."""
        return self.wildcard or name in self.names

    @property
    def idle(self) -> bool:
        """Whether the client has all of the target, and there is nothing to tell it."""
        return not self.overlay and not self.owed and (self.answered or self.type_url in NAMED)

    def flight_of(self, name: str) -> Flight | None:
        """The newest response under way that brings or removes the name."""
        for flight in reversed(self.flights):
            if name in flight.items or name in flight.removed:
                return flight
        return None

    def held(self, name: str, target: ResourceSet) -> Held:
        """What the client has under this name."""
        if name in self.overlay:
            return self.overlay[name]
        return target.get(self.type_url, name) if self.covers(name) else None

    # What the target does

    def retarget(self, before: ResourceSet, after: ResourceSet, changed: Iterable[str] | None) -> None:
        """Follow a new target; ``changed`` None: compare all."""
        for name in differing(self.type_url, before, after) if changed is None else changed:
            if self.covers(name):
                self._follow(name, before.get(self.type_url, name), after.get(self.type_url, name))

    def _follow(self, name: str, before: Resource | None, after: Resource | None) -> None:
        if before is after:
            return
        self.blank = False
        held = self.overlay.setdefault(name, before)
        if after is None or self.refused.get(name, after.version) != after.version:
            self.refused.pop(name, None)
            self.reasons.pop(name, None)
        self.search.changed(name)
        if self.flight_of(name) is None and self._settled(name, held, after):
            del self.overlay[name]

    def _settled(self, name: str, held: Held, wanted: Resource | None) -> bool:
        if wanted is not None:
            return version(held) == wanted.version
        return held is None and name not in self.names

    # What the client asks

    def ask_all(self, target: ResourceSet, initial: Mapping[str, str]) -> None:
        """Become a wildcard subscription of a client that brings ``initial``."""
        if self.wildcard:
            return
        known = self.names
        self.wildcard = True
        self.blank = not (known or initial or self.overlay or self.flights)
        if self.blank:
            shared, *own = target.layers.get(self.type_url, ()) or ({},)
            self.overlay = self.pool.blank(shared)
            for layer in own:
                self.overlay.update(dict.fromkeys(layer))
        elif initial:
            self._learn_all(target, initial, known)
        else:
            self.overlay.update(dict.fromkeys(r.name for r in target.of(self.type_url) if r.name not in known))

    def _learn_all(self, target: ResourceSet, initial: Mapping[str, str], known: frozenset[str]) -> None:
        for resource in target.of(self.type_url):
            if resource.name not in known:
                self._learn(resource.name, resource, initial.get(resource.name))
        for name in initial:
            if name not in known and target.get(self.type_url, name) is None:
                self._learn(name, None, initial[name])

    def narrow(self) -> None:
        """Be no wildcard subscription any more."""
        self.wildcard = self.blank = False

    def ask(self, asked: Iterable[str], target: ResourceSet, initial: Mapping[str, str]) -> None:
        """Add names. One that is asked for again is owed an answer, even if nothing changed.

        Raises:
            OversizedRequestError: the stream asks for more names than any mesh has.
        """
        if self.untouched and not initial:
            self.blank = True
            self.names = self._bounded(frozenset(asked))
            self.overlay = self.pool.blank(self.names)
            return
        self.blank, asked = False, tuple(asked)
        again = self.names.intersection(asked)
        if self.wildcard or self.overlay:
            again |= {name for name in asked if self.held(name, target) is not None}
        self.names = self._bounded(self.names.union(asked))
        self.owed |= again
        self.denied -= again
        if not initial:
            self.overlay.update(dict.fromkeys(name for name in asked if name not in again))
            return
        for name in asked:
            if name not in again:
                self._learn(name, target.get(self.type_url, name), initial.get(name))

    @property
    def untouched(self) -> bool:
        """Whether the client has asked for nothing of it, and got nothing."""
        return not (self.names or self.wildcard or self.overlay or self.flights)

    def _bounded(self, names: frozenset[str]) -> frozenset[str]:
        if len(names) > MAX_SUBSCRIBED:
            raise OversizedRequestError(f"{len(names)} names on one stream; the limit is {MAX_SUBSCRIBED}")
        return self.pool.intern(names)

    def _learn(self, name: str, wanted: Resource | None, has: str | None) -> None:
        if not self._settled(name, has, wanted):
            self.overlay[name] = has

    def recognise(self, goods: Mapping[tuple[str, str, str], Resource]) -> None:
        """Know the content of versions that the client brought, by type, name and version.

        Of all others nobody knows which clusters they lead to, so that none may leave while they serve.
        """
        for name, held in self.overlay.items():
            if isinstance(held, str) and (found := goods.get((self.type_url, name, held))) is not None:
                self.overlay[name] = found

    def forget(self, dropped: Iterable[str]) -> None:
        """Take names back; the client no longer has what it had under them."""
        dropped = frozenset(dropped) & self.names
        self.names = self.pool.intern(self.names - dropped)
        self.owed -= dropped
        self.denied -= dropped
        if not self.wildcard:
            self.blank = self.blank and not dropped
            for name in dropped:
                self.overlay.pop(name, None)
                self.refused.pop(name, None)
                self.reasons.pop(name, None)

    # What the client answers

    def launch(self, flight: Flight) -> None:
        """Note a response that is sent now."""
        self.flights = (*self.flights, flight)
        self.sent = flight.nonce
        self.answered = True
        if self.owed:
            self.owed = self.owed.difference(flight.items)
        if self.denied or flight.removed:
            self.denied = (self.denied | flight.removed & self.names).difference(flight.items)
        if flight.retry:
            self.search.sent(flight.items, flight.at)

    def land(self, nonce: str, *, in_order: bool) -> tuple[Flight, ...]:
        """Take the answered response out of the air, and with ``in_order`` those before it, which it supersedes."""
        if not (self.flights and nonce):
            return ()
        if self.flights[0].nonce == nonce and len(self.flights) == 1:
            only, self.flights = self.flights, ()
            return only
        at = next((i for i, flight in enumerate(self.flights) if flight.nonce == nonce), None)
        if at is None:
            return ()
        landed = self.flights[0 if in_order else at : at + 1]
        self.flights = tuple(flight for flight in self.flights if flight not in landed)
        return landed

    def accept(self, flight: Flight, target: ResourceSet) -> None:
        """The client has what this response brought."""
        self.acked = flight.nonce
        if self.blank and not self.flights and isinstance(flight.items, Bundle):
            self.overlay, self.blank, self.error = {}, False, self.error if self.refused else ""
            return
        self.blank = False
        wanted = target.finder(self.type_url)
        under_way = bool(self.flights)
        for name, resource in flight.items.items():
            found = wanted(name)
            if found is resource and not under_way:
                self.overlay.pop(name, None)
            else:
                self._has(name, resource, found)
        for name in flight.removed:
            self._has(name, None, target.get(self.type_url, name))
        self.search.taken(self.overlay, part=flight.retry)
        if not self.overlay:
            self.overlay.clear()  # gives the table of a first configuration back
            self.error = "" if not self.refused else self.error

    def _has(self, name: str, held: Resource | None, wanted: Resource | None) -> None:
        if self.covers(name) and (self.flight_of(name) or not self._settled(name, held, wanted)):
            self.overlay[name] = held
        else:
            self.overlay.pop(name, None)

    def refuse(self, flight: Flight, target: ResourceSet, error: str) -> Resource | None:
        """The client refused this response: the one resource that is to blame, or None while that is unknown.

        Envoy applies the good resources of a refused response and says so nowhere, so every name of it becomes unsure
        and is sent again in two parts (DESIGN section 5). So is what was removed: it is gone, but would come back in
        the client's list of what it holds.
        """
        self.error, self.blank = error, False
        for name in flight.removed:
            was = version(self.overlay.get(name))
            if flight.items and was and self.covers(name):
                self.overlay[name] = Unsure(None, frozenset((was,)))
            else:
                self._has(name, None, target.get(self.type_url, name))
        items = {name: resource for name, resource in flight.items.items() if self.covers(name)}
        self.search.refused(tuple(items), error, part=flight.retry)
        if len(items) == 1:
            return self._blame(*items.popitem(), target)
        for name, resource in items.items():
            held = self.held(name, target)
            before = held if isinstance(held, Unsure) else Unsure(held, _NONE)
            self.overlay[name] = Unsure(before.last, before.versions | {resource.version})
        return None

    def _blame(self, name: str, resource: Resource, target: ResourceSet) -> Resource:
        held = self.held(name, target)
        if isinstance(held, Unsure):
            others = held.versions - {resource.version}
            held = Unsure(held.last, others) if others else held.last
        self.overlay[name] = held
        self.refused[name] = resource.version
        self.reasons[name] = self.error
        return resource


def may_be(sub: Subscription, name: str, target: ResourceSet, wanted: Callable[[Resource], bool]) -> bool:
    """Whether the client may have, or get, content under a name that is ``wanted``; of what nobody knows, it may."""
    if any(name in flight.items and wanted(flight.items[name]) for flight in sub.flights):
        return True
    held = sub.held(name, target)
    return held is not None and (wanted(held) if isinstance(held, Resource) else True)


def differing(type_url: str, before: ResourceSet, after: ResourceSet) -> Iterator[str]:
    """Names of a type that may differ; layers that are shared are not looked at."""
    old, new = before.layers.get(type_url, ()), after.layers.get(type_url, ())
    kept = {id(layer) for layer in old} & {id(layer) for layer in new}
    seen: set[str] = set()
    for layer in (*old, *new):
        if id(layer) not in kept:
            seen.update(layer)
    yield from seen
