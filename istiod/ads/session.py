"""One xDS stream as a state machine without I/O: targets, requests and time in; responses out (DESIGN section 5).

Like a protocol library: nothing here knows of sockets, clocks or tasks, so that the server, tests and any other
transport drive the same machine. Imports nothing of the compiler: resources are framed bytes with names.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from istiod.ads import gates, plan, status, subscription
from istiod.ads.bundle import Bundles
from istiod.ads.quarantine import ANYBODY, Client, Quarantine, Rejection
from istiod.ads.request import WILDCARD, OversizedRequestError, Request
from istiod.ads.send import Send
from istiod.ads.stream import Stream, Timing, warming
from istiod.ads.subscription import BY_NAME, Flight, NamePool, Subscription
from istiod.config.resource import Resource, ResourceSet
from wire import names

MAX_TYPES: Final = 32
_TIMING: Final = Timing()


@dataclass(slots=True, eq=False)
class Shared:
    """What the streams of one server have in common. ``retargets`` counts their new targets."""

    timing: Timing = _TIMING
    quarantine: Quarantine = field(default_factory=Quarantine)
    pool: NamePool = field(default_factory=NamePool)
    bundles: Bundles = field(default_factory=Bundles)
    sessions: weakref.WeakSet[AdsSession] = field(default_factory=weakref.WeakSet)
    retargets: int = 0


class AdsSession:
    """One stream of one client, state of the world or delta.

    Feed it with ``retarget`` and ``request``, then send what ``plan`` gives, in its order, before asking again.
    ``wake`` is when to ask even if nothing happened, None for never. Times are monotonic seconds.
    """

    __slots__ = ("__weakref__", "_counter", "_shared", "_stream", "wake")

    def __init__(
        self, target: ResourceSet, now: float, *, delta: bool, shared: Shared, client: Client = ANYBODY
    ) -> None:
        self._shared = shared
        self._stream = Stream(
            delta=delta,
            timing=shared.timing,
            quarantine=shared.quarantine,
            pool=shared.pool,
            bundles=shared.bundles,
            target=target,
            started=now,
            client=client,
        )
        self._counter = 0
        self.wake: float | None = None
        shared.sessions.add(self)

    def retarget(self, target: ResourceSet, changed: Mapping[str, frozenset[str]] | None) -> None:
        """A new target in place of the one before; ``changed`` as in istiod.config.protocols.OnTarget."""
        stream = self._stream
        self._shared.retargets += 1
        before, stream.target = stream.target, target
        for type_url in stream.subscriptions if changed is None else changed:
            if (sub := stream.subscriptions.get(type_url)) is not None:
                sub.retarget(before, target, None if changed is None else changed[type_url])

    def request(self, request: Request) -> bool:
        """Whatever the client said. False: nothing is to be done about it, however often it is said (SEC23).

        Raises:
            OversizedRequestError: it asks for more types or names than any mesh has.
        """
        stream = self._stream
        sub = stream.subscriptions.get(request.type_url)
        first = sub is None
        if sub is None:
            sub = self._subscribe(request)
        landed = self._answer(sub, request)
        if request.names is None:
            asked = first or bool(request.subscribe or request.unsubscribe)
            if asked:
                self._interest(sub, request, first=first)
            return landed or asked
        if not self._names(sub, request.names, first=first) and not landed and request.nonce:
            self._asked_again(sub)
        return True

    def plan(self, now: float) -> tuple[Send, ...]:
        """What to send now, noted as sent."""
        stream = self._stream
        look = self._withheld(now) if stream.returned else None
        made = plan.plan(stream, now)
        stream.linger, stream.blocked = made.linger, made.blocked
        if look is None or (made.wake is not None and made.wake < look):
            look = made.wake
        self.wake = look
        sends = []
        for draft in made.drafts:
            self._counter += 1
            nonce = f"{self._counter:x}"
            stream.subscriptions[draft.type_url].launch(draft.flight(nonce, now))
            sends.append(Send(draft.type_url, draft.body, draft.removed, nonce, stream.delta, draft.whole))
        return tuple(sends)

    @property
    def quiet(self) -> bool:
        """Whether ``plan`` has nothing to do, however late it is: so after most ACKs."""
        stream = self._stream
        if self.wake is not None or stream.linger or stream.blocked or (stream.returned and stream.clusters is None):
            return False
        return all(sub.idle for sub in stream.subscriptions.values())

    @property
    def caught_up(self) -> bool:
        """Whether the client has ACKed all of the target that it asked for: cheap, ``settled`` asks each listener."""
        stream = self._stream
        return not any(
            sub.flights or any(stream.target.get(sub.type_url, name) is not None for name in sub.overlay)
            for sub in stream.subscriptions.values()
        )

    @property
    def refuses(self) -> bool:
        """Whether the client refuses again and again what it gets of a type."""
        return any(sub.search.long for sub in self._stream.subscriptions.values())

    def settled(self) -> bool:
        """Whether the client has ACKed all of the target, and nothing older serves."""
        stream = self._stream
        if not self.caught_up:
            return False
        if stream.clusters is None:  # no proxy, or one that came back and withholds CDS while a cluster warms
            return not (stream.returned and names.ENDPOINT in stream.subscriptions)
        return names.LISTENER in stream.subscriptions and gates.switched(stream)

    def status(self, now: float) -> tuple[status.TypeStatus, ...]:
        """How each type stands, for debug pages."""
        return status.of(self._stream, now)

    def rejections(self) -> Iterator[Rejection]:
        """What this client will not take of its target, until that changes."""
        client = self._stream.client
        for sub in self._stream.subscriptions.values():
            wanted = ((self._stream.target.get(sub.type_url, name), name) for name in sub.refused)
            yield from (
                Rejection(resource=found, error=sub.reasons[name], proxies=tuple(filter(None, (client.name,))))
                for found, name in wanted
                if found is not None and found.version == sub.refused[name]
            )

    @property
    def target(self) -> ResourceSet:
        """What the client should have; many streams share it."""
        return self._stream.target

    def wants(self, resource: Resource) -> bool:
        """Whether this very resource is in the target."""
        found = self._stream.target.get(resource.type_url, resource.name)
        return found is not None and found.version == resource.version

    def knows(self, type_url: str, names: Iterable[str]) -> bool:
        """Whether resources of all these names are in the target."""
        return all(self._stream.target.get(type_url, name) is not None for name in names)

    def accepted(self, resource: Resource) -> bool:
        """Whether this client serves this very resource."""
        sub = self._stream.subscriptions.get(resource.type_url)
        if sub is None or not sub.answered or sub.flight_of(resource.name):
            return False
        return subscription.version(sub.held(resource.name, self._stream.target)) == resource.version

    def follows(self, type_url: str) -> bool:
        """Whether the client has asked for something of a type."""
        return type_url in self._stream.subscriptions

    def may_use(self, of: Callable[[frozenset[str]], Iterable[str]], contains: Callable[[Resource], bool]) -> bool:
        """Whether the client may use endpoints that ``contains`` holds for, of those names that ``of`` picks.

        What it has ACKed counts, and what is on its way. What it brought from an earlier stream, without its content,
        counts as such; so does what it refused a part of.
        """
        sub = self._stream.subscriptions.get(names.ENDPOINT)
        return sub is not None and any(
            subscription.may_be(sub, name, self._stream.target, contains) for name in of(sub.names)
        )

    def _subscribe(self, request: Request) -> Subscription:
        stream = self._stream
        if len(stream.subscriptions) >= MAX_TYPES:
            raise OversizedRequestError(f"more than {MAX_TYPES} types on one stream")
        sub = Subscription(request.type_url, stream.pool)
        stream.subscriptions[request.type_url] = sub
        if request.initial or request.version:
            stream.returned = True
            sub.answered = stream.delta
        return sub

    def _answer(self, sub: Subscription, request: Request) -> bool:
        """Take an ACK or NACK in. False: the request answers nothing that is under way."""
        landed = sub.land(request.nonce, in_order=not self._stream.delta)
        for flight in landed[:-1]:
            self._accept(sub, flight)
        for flight in landed[-1:]:
            if request.error is None:
                self._accept(sub, flight)
            else:
                self._refuse(sub, flight, request.error)
        return bool(landed)

    def _accept(self, sub: Subscription, flight: Flight) -> None:
        sub.accept(flight, self._stream.target)
        if len(self._shared.quarantine):
            for resource in flight.items.values():
                self._shared.quarantine.accept(resource)

    def _refuse(self, sub: Subscription, flight: Flight, error: str) -> None:
        blamed = sub.refuse(flight, self._stream.target, error)
        if blamed is None:
            return
        quarantine = self._shared.quarantine
        held = sub.held(blamed.name, self._stream.target)
        last = subscription.last_good(held)
        if last is None and (version := subscription.brought(held)):
            goods = quarantine.goods()
            last = goods.get((blamed.type_url, blamed.name, version))
            sub.recognise(goods)
        served = any(other.accepted(blamed) for other in self._shared.sessions)
        (quarantine.remember if served else quarantine.refuse)(blamed, last, error, self._stream.client)

    def _interest(self, sub: Subscription, request: Request, *, first: bool) -> None:
        """Follow a delta client's subscriptions."""
        target = self._stream.target
        asked = request.asked
        if request.wildcard or (first and not asked and sub.type_url not in BY_NAME):
            sub.ask_all(target, request.initial)
        if WILDCARD in request.unsubscribe:
            sub.narrow()
        before = sub.names
        if asked:
            listed = request.subscribe
            if request.wildcard:
                listed = tuple(name for name in listed if name != WILDCARD)
            sub.ask(asked if sub.untouched else listed, target, request.initial)
            if sub.type_url == names.ENDPOINT and not sub.blank and (waiting := warming(self._stream)):
                sub.owed |= (waiting & sub.names) - before
        if request.unsubscribe:
            sub.forget(request.unsubscribe)
        if request.initial and len(self._shared.quarantine):
            sub.recognise(self._shared.quarantine.goods())

    def _names(self, sub: Subscription, listed: tuple[str, ...], *, first: bool) -> bool:
        """Follow a state-of-the-world client's list of names. False: nothing new in it."""
        asked = frozenset(listed) - {WILDCARD}
        if WILDCARD in listed or (not asked and (first or sub.wildcard) and sub.type_url not in BY_NAME):
            sub.ask_all(self._stream.target, {})
        elif asked:
            sub.narrow()
        if asked == sub.names:
            return first
        sub.forget(sub.names - asked)
        sub.ask((name for name in listed if name in asked and name not in sub.names), self._stream.target, {})
        return True

    def _asked_again(self, sub: Subscription) -> None:
        """A state-of-the-world Envoy with a warming cluster asks for its endpoints as if it repeated an old ACK."""
        if sub.type_url == names.ENDPOINT:
            sub.owed |= {name for name in warming(self._stream) & sub.names if sub.flight_of(name) is None}

    def _withheld(self, now: float) -> float | None:
        """A returned client that brings EDS without CDS is warming: it holds CDS back until endpoints come again.

        Endpoints that it has and we no longer know are emptied only when its listeners had time to leave them. Gives
        the time at which to look again.
        """
        stream, timing = self._stream, self._stream.timing
        endpoints = stream.subscriptions.get(names.ENDPOINT)
        if not (stream.returned and stream.delta and endpoints) or stream.clusters is not None:
            return None
        if not stream.repeated:
            if now < (collected := stream.started + timing.collect):
                return collected
            stream.repeated = True
            endpoints.owed |= endpoints.names
        if now < (last := stream.started + timing.forgo):
            return last
        unknown = [n for n in endpoints.names if stream.target.get(names.ENDPOINT, n) is None]
        for name in unknown:
            if subscription.last_good(endpoints.overlay[name]) is None:
                endpoints.overlay[name] = None
        return None
