"""A model of Envoy as a client of ADS, from what the real one was measured to do (design notes on stock Envoy, xDS).

Clusters warm until their endpoints come, and hold back every answer to CDS meanwhile; a changed cluster warms again
and, in delta, does not ask; a listener warms until its routes and the configurations of its filters come, while the old
one serves, and for none of a type any more once it refused a response of that type; replaced and removed listeners
drain; the good resources of a refused response are applied, and delta does not record them.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from istiod.ads.request import Request
from istiod.ads.send import Send
from istiod.config import resource
from istiod.config.resource import Resource
from wire import names

DRAIN = 45.0
BAD = "bad"
_NO_REFS: tuple[str, ...] = ()


@functools.cache
def make(
    type_url: str,
    name: str,
    revision: str,
    clusters: tuple[str, ...] = (),
    routes: tuple[str, ...] = (),
    extensions: tuple[str, ...] = (),
) -> Resource:
    """A resource of some revision; revision ``bad`` is one that Envoy refuses."""
    refs = {names.CLUSTER: frozenset(clusters), names.ROUTE: frozenset(routes), names.EXTENSION: frozenset(extensions)}
    made = resource.make(name, type_url, f"{revision} {clusters} {routes} {extensions}".encode(), refs=refs)
    if revision == BAD:
        _BAD.add(made.version)
    return made


_BAD: set[str] = set()


def bad(made: Resource) -> bool:
    return made.version in _BAD


@dataclass
class Envoy:
    """One Envoy. ``inbox`` are responses on their way to it, ``outbox`` its requests on their way to us.

    ``accepted`` are versions of state of the world, by type. ``unsaid`` are (type, name) of which it has, since a
    refusal, something else than it says after a reconnect: no server can know of those. ``spoiled`` clusters were once
    refused, ``excused`` ones may vanish at once. ``ready`` are (type, name) for which no listener waits any more.
    """

    delta: bool
    now: float = 0.0
    clusters: dict[str, Resource] = field(default_factory=dict)
    warming: dict[str, Resource] = field(default_factory=dict)
    listeners: dict[str, Resource] = field(default_factory=dict)
    warming_listeners: dict[str, Resource] = field(default_factory=dict)
    draining: list[tuple[Resource, float]] = field(default_factory=list)
    routes: dict[str, Resource] = field(default_factory=dict)
    extensions: dict[str, Resource] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    asked: dict[str, set[str]] = field(default_factory=dict)
    recorded: dict[str, dict[str, str]] = field(default_factory=dict)
    nonces: dict[str, str] = field(default_factory=dict)
    withheld: list[Request] = field(default_factory=list)
    inbox: deque[tuple[float, Send]] = field(default_factory=deque)
    outbox: deque[tuple[float, Request]] = field(default_factory=deque)
    named: dict[str, float] = field(default_factory=dict)
    cds_open: bool = False
    names_guilty: bool = True
    linger: float = 60.0
    spoiled: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    refusals: int = 0
    received: int = 0
    accepted: dict[str, str] = field(default_factory=dict)
    unsaid: set[tuple[str, str]] = field(default_factory=set)
    ready: set[tuple[str, str]] = field(default_factory=set)

    # Streams

    def connect(self) -> None:
        """Begin a stream: everything once more, with what is held (delta)."""
        if self.delta:
            self.unsaid |= self._unrecorded()
        self.inbox.clear()
        self.outbox.clear()
        self.withheld.clear()
        self.nonces.clear()
        first = not self.recorded
        self.cds_open = first or not self.warming
        if self.cds_open:
            self._open(names.CLUSTER)
        for type_url in (names.ENDPOINT, names.LISTENER, names.ROUTE, names.EXTENSION):
            if type_url in self.asked:
                self._open(type_url)

    def _unrecorded(self) -> set[tuple[str, str]]:
        has = {
            names.CLUSTER: self.clusters | self.warming,
            names.LISTENER: self.listeners | self.warming_listeners,
            names.ROUTE: self.routes,
            names.EXTENSION: self.extensions,
        }
        return {
            (type_url, name)
            for type_url, applied in has.items()
            for name, made in applied.items()
            if self.recorded.get(type_url, {}).get(name) != made.version
        }

    def _open(self, type_url: str) -> None:
        asked = tuple(sorted(self.asked.get(type_url, ())))
        named = type_url in {names.ENDPOINT, names.ROUTE, names.EXTENSION}
        if named and not asked:
            return
        known = self.recorded.setdefault(type_url, {})
        self.asked.setdefault(type_url, set())
        if self.delta:
            self._say(Request(type_url=type_url, subscribe=asked, initial=dict(known)))
        else:
            self._say(Request(type_url=type_url, names=asked, version=self.accepted.get(type_url, "")))

    def _say(self, request: Request) -> None:
        if request.type_url == names.CLUSTER and self.warming and (request.nonce or self.recorded):
            self.withheld.append(request)
        else:
            self.outbox.append((self.now, request))

    def _answer(self, send: Send, errors: list[str]) -> None:
        error = None
        if errors:
            error = "\n".join(f"{name}: refused" for name in errors) if self.names_guilty else "refused"
        self.nonces[send.type_url] = send.nonce
        if error:
            self.refusals += 1
        elif not self.delta:
            self.accepted[send.type_url] = send.nonce
        else:
            self.unsaid -= {(send.type_url, name) for name in (*(r.name for r in send.resources), *send.removed)}
            known = self.recorded.setdefault(send.type_url, {})
            known.update({r.name: r.version for r in send.resources if self._wants(send.type_url, r.name)})
            for name in send.removed:
                known.pop(name, None)
        asked = None if self.delta else tuple(sorted(self.asked.get(send.type_url, ())))
        self._say(Request(type_url=send.type_url, names=asked, nonce=send.nonce, error=error))

    def _wants(self, type_url: str, name: str) -> bool:
        return type_url in {names.CLUSTER, names.LISTENER} or name in self.asked.get(type_url, ())

    def _ask(self, type_url: str, wanted: set[str], *, again: bool = False) -> None:
        before = self.asked.get(type_url)
        if before == wanted and not (again and not self.delta):
            return
        self.asked[type_url] = wanted
        self.ready = {(kind, name) for kind, name in self.ready if kind != type_url or name in wanted}
        if self.delta:
            dropped = (before or set()) - wanted
            for name in dropped:
                self.recorded.get(type_url, {}).pop(name, None)
            added = tuple(sorted(wanted - (before or set())))
            request = Request(type_url=type_url, subscribe=added, unsubscribe=tuple(sorted(dropped)))
        else:
            nonce = self.nonces.get(type_url, "")
            request = Request(type_url=type_url, names=tuple(sorted(wanted)), nonce=nonce)
        self._say(request)

    # Responses

    def receive(self) -> None:
        """Take the oldest response."""
        _, send = self.inbox.popleft()
        self.received += 1
        take = {
            names.CLUSTER: self._take_clusters,
            names.ENDPOINT: self._take_endpoints,
            names.LISTENER: self._take_listeners,
            names.ROUTE: self._take_routes,
            names.EXTENSION: self._take_extensions,
        }
        take[send.type_url](send)
        self.look()

    def _gone(self, send: Send, known: Iterable[str]) -> set[str]:
        if self.delta:
            return set(send.removed)
        return set(known) - {r.name for r in send.resources}

    def _take_clusters(self, send: Send) -> None:
        for name in self._gone(send, {*self.clusters, *self.warming}):
            if name not in self.spoiled | self.excused:
                self._may_go(name)
            self.clusters.pop(name, None)
            self.warming.pop(name, None)
            self.endpoints.pop(name, None)
        errors, changed = [], False
        for made in send.resources:
            current = self.warming.get(made.name) or self.clusters.get(made.name)
            if bad(made):
                errors.append(made.name)
            elif current is None or current.version != made.version:
                self.warming[made.name] = made
                changed = True
        self._answer(send, errors)
        self._ask(names.ENDPOINT, {*self.clusters, *self.warming}, again=changed)
        self._warm()

    def _may_go(self, name: str) -> None:
        assert not self.names_cluster(name), f"{name} removed while a chain names it"
        since = self.named.get(name)
        assert since is None or self.now - since > self.linger - 0.001, (
            f"{name} removed under requests that may name it"
        )

    def _take_endpoints(self, send: Send) -> None:
        for made in send.resources:
            if made.name in self.asked.get(names.ENDPOINT, ()):
                self.endpoints[made.name] = made.version
                if made.name in self.warming:
                    self.clusters[made.name] = self.warming.pop(made.name)
        self._answer(send, [])
        self._warm()

    def _warm(self) -> None:
        if self.warming:
            return
        self.outbox.extend((self.now, request) for request in self.withheld)
        self.withheld.clear()
        if not self.cds_open:
            self.cds_open = True
            self._open(names.CLUSTER)
        if names.LISTENER not in self.asked:
            self._open(names.LISTENER)

    def _take_listeners(self, send: Send) -> None:
        for name in self._gone(send, {*self.listeners, *self.warming_listeners}):
            self.warming_listeners.pop(name, None)
            self._drain(self.listeners.pop(name, None))
        errors = []
        for made in send.resources:
            current = self.warming_listeners.get(made.name) or self.listeners.get(made.name)
            if bad(made):
                errors.append(made.name)
            elif current is None or current.version != made.version:
                self.warming_listeners[made.name] = made
        self._answer(send, errors)
        self._start_listeners()

    def _take_routes(self, send: Send) -> None:
        self._take_named(send, self.routes)

    def _take_extensions(self, send: Send) -> None:
        for name in send.removed:
            self.extensions.pop(name, None)
        self._take_named(send, self.extensions)

    def _take_named(self, send: Send, into: dict[str, Resource]) -> None:
        """What listeners ask for. Envoy tells a refusal to all that asked for the type: none of them waits any more."""
        asked, errors = self.asked.get(send.type_url, set()), []
        for made in send.resources:
            if bad(made):
                errors.append(made.name)
            elif made.name in asked:
                into[made.name] = made
        ready = asked if errors else asked.intersection(r.name for r in send.resources)
        self.ready |= {(send.type_url, name) for name in ready}
        self._answer(send, errors)
        self._start_listeners()

    def _start_listeners(self) -> None:
        for name, made in list(self.warming_listeners.items()):
            if all((kind, one) in self.ready for kind in (names.ROUTE, names.EXTENSION) for one in made.refs[kind]):
                self._drain(self.listeners.get(name))
                self.listeners[name] = self.warming_listeners.pop(name)
        used = {*self.listeners.values(), *self.warming_listeners.values(), *(made for made, _ in self.draining)}
        wanted: set[str] = set().union(*(made.refs[names.ROUTE] for made in used))
        self.routes = {name: made for name, made in self.routes.items() if name in wanted}
        if wanted or names.ROUTE in self.asked:
            self._ask(names.ROUTE, wanted)
        filters: set[str] = set().union(*(made.refs[names.EXTENSION] for made in used))
        self.extensions = {name: made for name, made in self.extensions.items() if name in filters}
        if filters or names.EXTENSION in self.asked:
            self._ask(names.EXTENSION, filters)

    def _drain(self, made: Resource | None) -> None:
        if made is not None and (names.LISTENER, made.name) not in self.unsaid:
            self.draining.append((made, self.now + DRAIN))

    # Traffic

    def named_by(self, made: Resource) -> set[str]:
        """Clusters to which this listener may send a request now, as far as a server can know."""
        if (names.LISTENER, made.name) in self.unsaid:
            return set()
        found = set(made.refs[names.CLUSTER])
        for type_url, has in ((names.ROUTE, self.routes), (names.EXTENSION, self.extensions)):
            known = (name for name in made.refs[type_url] if (type_url, name) not in self.unsaid)
            found = found.union(*(has[name].refs[names.CLUSTER] for name in known if name in has))
        return found

    def names_cluster(self, name: str) -> bool:
        chains = [*self.listeners.values(), *(made for made, until in self.draining if until > self.now)]
        return any(name in self.named_by(made) for made in chains)

    def look(self) -> None:
        """Note what is named at this time."""
        for made in self.listeners.values():
            for name in self.named_by(made):
                self.named[name] = self.now

    def advance(self, seconds: float) -> None:
        self.look()
        self.now += seconds
        self.draining = [(made, until) for made, until in self.draining if until > self.now]
        self._start_listeners()
        self.look()
