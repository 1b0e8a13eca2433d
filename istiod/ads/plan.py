"""What a stream gets next, and in which order: the algorithm of DESIGN section 5.

Pure: reads the stream's state and the time, changes nothing, remembers nothing. It is asked after every event; a
second change in the middle of a first simply gives another answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from istiod.ads import gates, wanted
from istiod.ads.bundle import Bundle
from istiod.ads.stream import Draft, Stream
from istiod.ads.subscription import NAMED, WHOLE, Subscription
from istiod.config.resource import Resource
from wire import names

_REMOVALS = "*"
"""Under which the removals of a type wait together."""
_MOST_UNANSWERED = 64
"""So many responses of EDS without an ACK: an Envoy gives each of them one, whatever warms. Who asks for the same again
and again and gives none would have them pile up here."""
_ORDERED = frozenset((names.CLUSTER, names.ENDPOINT, names.EXTENSION, names.LISTENER, names.ROUTE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send now, in order; what waits (see Stream), and the time in seconds at which to ask again."""

    drafts: tuple[Draft, ...]
    linger: Mapping[str, float | None]
    blocked: Mapping[tuple[str, str], float]
    wake: float | None


_NOTHING = Plan(drafts=(), linger=MappingProxyType({}), blocked=MappingProxyType({}), wake=None)


def plan(stream: Stream, now: float) -> Plan:
    """The next responses of this stream."""
    busy = {type_url: sub for type_url, sub in stream.subscriptions.items() if not sub.idle}
    if not busy:
        return _NOTHING
    planner = _Planner(stream, now)
    if names.ENDPOINT in busy and len(busy) == 1:  # most changes by far, and outside of all gates
        planner.endpoints()
    else:
        planner.all(busy)
    return Plan(drafts=tuple(planner.drafts), linger=planner.linger, blocked=planner.blocked, wake=planner.wake)


class _Planner:
    """One evaluation: the state that it reads, the answer as it grows."""

    __slots__ = ("blocked", "closed", "drafts", "linger", "now", "stream", "wake")

    def __init__(self, stream: Stream, now: float) -> None:
        self.stream = stream
        self.now = now
        self.drafts: list[Draft] = []
        self.linger: Mapping[str, float | None] = {}
        self.blocked: dict[tuple[str, str], float] = {}
        self.wake: float | None = None
        self.closed = False

    def all(self, busy: Mapping[str, Subscription]) -> None:
        """Every type, in order; only of ``busy`` ones there is something to say."""
        self.closed = gates.closed(self.stream, self.now)
        self.add_and_remove()
        self.endpoints()
        for type_url, sub in busy.items():
            if type_url not in _ORDERED:
                self.plain(sub)
        for type_url in self.order():
            if type_url in busy:
                self.switch(busy[type_url])

    def ask_again(self, at: float) -> None:
        """Something may be due then."""
        self.wake = at if self.wake is None else min(self.wake, at)

    def apart(self, sub: Subscription, found: Mapping[str, Resource]) -> tuple[Mapping[str, Resource], bool]:
        """What of it to send now, and whether it is a part of what was refused before: see istiod.ads.search."""
        if not found or not sub.search.groups:
            return found, False
        if self.now < sub.search.until:
            self.ask_again(sub.search.until)
        return sub.search.part(found, self.now)

    def add_and_remove(self) -> None:
        """CDS: what is new or changed at once, what leaves when its time has come."""
        sub = self.stream.clusters
        if sub is None or sub.idle:
            return
        self.linger = gates.linger(self.stream, sub, self.now)
        gone = (*self.due(sub), *wanted.denied(self.stream, sub))
        found, retry = self.apart(sub, wanted.due(self.stream, sub))
        if sub.answered and not found and not gone:
            return
        self.closed |= bool(found) and not retry
        if sub.flights and self.now < (patience := sub.flights[-1].at + self.stream.timing.patience):
            self.ask_again(patience)
        else:
            self.draft(sub, found, gone, retry=retry)

    def due(self, sub: Subscription) -> tuple[str, ...]:
        """Lingering clusters whose time has come."""
        waiting = {name: at for name, at in self.linger.items() if at is not None and sub.flight_of(name) is None}
        for at in waiting.values():
            if at > self.now:
                self.ask_again(at)
        return tuple(name for name, at in waiting.items() if at <= self.now)

    def endpoints(self) -> None:
        """EDS is outside of all gates; what a cluster just sent waits for is not even held back by an EDS under way."""
        sub = self.stream.subscriptions.get(names.ENDPOINT)
        if sub is None or (not self.drafts and sub.idle):
            return
        if self.collecting():
            self.ask_again(self.stream.started + self.stream.timing.collect)
            return
        found: Mapping[str, Resource] = {}
        retry = False
        if not sub.flights:
            found, retry = self.apart(sub, wanted.pending(self.stream, sub))
        if not isinstance(found, Bundle):  # which has all names asked for
            warms = (draft.warms & sub.names for draft in self.drafts)
            asked = sub.owed if len(sub.flights) < _MOST_UNANSWERED else frozenset[str]()
            found = {**wanted.owed(self.stream, sub, asked.union(*warms)), **found}
        if found:
            self.draft(sub, found, (), retry=retry)

    def collecting(self) -> bool:
        """Whether a reconnected client may still bring its CDS, which tells that nothing of it is warming."""
        stream = self.stream
        fresh = self.now < stream.started + stream.timing.collect
        return fresh and stream.returned and stream.delta and stream.clusters is None

    def plain(self, sub: Subscription) -> None:
        """Types that wait for nothing: secrets, and what other clients ask."""
        if sub.flights:
            return
        found, retry = self.apart(sub, wanted.due(self.stream, sub))
        gone = self.gone(sub)
        if found or gone or (sub.wildcard and not sub.answered):
            self.draft(sub, found, gone, retry=retry)

    def order(self) -> tuple[str, ...]:
        """LDS, then what listeners ask for: routes and the filters' own configurations.

        While clusters linger it comes before: no new listener may start on an old route that names them.
        """
        asked = (names.ROUTE, names.EXTENSION)
        return (*asked, names.LISTENER) if self.linger else (names.LISTENER, *asked)

    def switch(self, sub: Subscription) -> None:
        """Listeners, and what they ask for by name, as soon as the clusters that these name are there."""
        if sub.flights:
            self.wait_on(sub.type_url)
            return
        found = wanted.due(self.stream, sub)
        gone = self.leaving(sub)
        first = not sub.answered and sub.type_url in WHOLE
        if (gone or first) and self.blocks(sub, "", None):
            return
        waiting = {name for name, resource in found.items() if self.blocks(sub, name, resource)}
        free, retry = self.apart(sub, {n: found[n] for n in found if n not in waiting} if waiting else found)
        if free or gone or (first and not found):
            self.draft(sub, free, gone, retry=retry)

    def wait_on(self, type_url: str) -> None:
        """What waits goes on waiting behind a response under way: else it would wait anew after each, for ever."""
        self.blocked.update((key, since) for key, since in self.stream.blocked.items() if key[0] == type_url)

    def blocks(self, sub: Subscription, name: str, resource: Resource | None) -> bool:
        """Gate A: whether this listener, or what listeners ask for, still waits for clusters."""
        if resource is not None and gates.warming(self.stream, resource):
            return False
        since = self.stream.blocked.get((sub.type_url, name), self.now)
        until = since + self.stream.timing.gate if self.closed else since
        if resource is not None and gates.names_missing_cluster(self.stream, resource):
            until = since + self.stream.timing.gate + self.stream.timing.hold
        if self.now >= until:
            return False
        self.blocked[sub.type_url, name] = since
        self.ask_again(until)
        return True

    def leaving(self, sub: Subscription) -> tuple[str, ...]:
        """What goes now. Listeners go when those that take their connections over serve, or do not for long.

        Where the client refused what they wait for, they stay until the target is another.
        """
        gone = self.gone(sub)
        if not gone or sub.type_url != names.LISTENER:
            return gone
        staying = gates.awaiting(self.stream, sub, gone)
        gone = tuple(name for name in gone if name not in staying)
        if not gone or gates.taken_over(self.stream, sub):
            return gone
        key = (sub.type_url, _REMOVALS)
        since = self.stream.blocked.get(key, self.now)
        if self.now >= (until := since + self.stream.timing.hold):
            return gone
        self.blocked[key] = since
        self.ask_again(until)
        return ()

    def gone(self, sub: Subscription) -> tuple[str, ...]:
        """What the client has and the target has not. Endpoints, routes and secrets are never removed by us."""
        if sub.type_url == names.EXTENSION:
            return gates.withdrawn(self.stream, sub)
        if sub.type_url in NAMED:
            return ()
        target = self.stream.target
        gone = (n for n, held in sub.overlay.items() if held is not None and target.get(sub.type_url, n) is None)
        return (*gone, *wanted.denied(self.stream, sub))

    def draft(self, sub: Subscription, items: Mapping[str, Resource], gone: tuple[str, ...], *, retry: bool) -> None:
        """Put a response together."""
        body = tuple(items.values())
        if not self.stream.delta and (sub.wildcard or sub.type_url in WHOLE):
            body = wanted.whole(self.stream, sub, items, gone)
            items = wanted.untried(sub, body, items)
        warms = wanted.warms(sub, body, items) if sub.type_url == names.CLUSTER else frozenset[str]()
        made = Draft(type_url=sub.type_url, items=items, body=body, removed=gone, retry=retry, warms=warms)
        self.drafts.append(made)
