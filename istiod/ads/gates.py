"""When LDS and RDS may follow CDS (gate A), when clusters may leave (gate B and linger). DESIGN section 5.

Removing a cluster right after every ACK still gave 503 on kept connections of draining chains, and waiting for the ACK
of CDS without end can deadlock: hence two gates, each with a way around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from istiod.ads import subscription, wanted
from istiod.ads.stream import Stream
from istiod.ads.subscription import Subscription
from istiod.config.resource import Resource
from wire import names

_NONE: Final[frozenset[str]] = frozenset()
LINGER_SHARE: Final = 10
"""Lingering clusters may be one in so many of those held ..."""
LINGER_LEAST: Final = 200
"""... or this many, whichever is more."""


def closed(stream: Stream, now: float) -> bool:
    """Gate A: whether clusters are on their way and neither ACKed, nor refused, nor older than the gate waits."""
    clusters = stream.clusters
    if clusters is None:
        return stream.returned and now < stream.started + stream.timing.gate
    return any(f.items and not f.retry and now < f.at + stream.timing.gate for f in clusters.flights)


def names_missing_cluster(stream: Stream, resource: Resource) -> bool:
    """Whether a listener or route names a cluster of the target that the client does not surely have.

    Of a client that came back and withholds CDS only those are sure whose endpoints it brought: they were warm once.
    """
    clusters = stream.clusters
    if clusters is not None and not clusters.overlay:
        return False
    named = resource.refs.get(names.CLUSTER, _NONE)
    if clusters is None:
        return stream.returned and not all(_was_warm(stream, name) for name in named)
    return any(_missing(clusters, name) and stream.target.get(names.CLUSTER, name) is not None for name in named)


def warming(stream: Stream, resource: Resource) -> bool:
    """Whether clusters may wait for a filter's configuration: they are not ACKed, or asked for, before they have it.

    Clusters that it names come before it, with their endpoints.
    """
    if resource.type_url != names.EXTENSION:
        return False
    clusters = stream.clusters
    if clusters is None:
        waits = stream.returned and resource.name in stream.target.named(names.EXTENSION, names.CLUSTER)
        return waits and not names_missing_cluster(stream, resource)
    sent = (one for flight in clusters.flights for one in flight.items.values())
    waits = any(resource.name in one.refs.get(names.EXTENSION, ()) for one in sent)
    return waits and all(_comes(stream, clusters, name) for name in resource.refs.get(names.CLUSTER, ()))


def _comes(stream: Stream, clusters: Subscription, name: str) -> bool:
    """Whether the client has a cluster, or will have it without anything that we still hold back."""
    target = stream.target.get(names.CLUSTER, name)
    if target is None or not _missing(clusters, name):
        return True
    flight = clusters.flight_of(name)
    sent = flight is not None and name in flight.items
    return sent and (names.ENDPOINT not in target.refs or _was_warm(stream, name))


def _was_warm(stream: Stream, name: str) -> bool:
    cluster, endpoints = stream.target.get(names.CLUSTER, name), stream.subscriptions.get(names.ENDPOINT)
    if cluster is None or endpoints is None:
        return False
    asked = cluster.refs.get(names.ENDPOINT) or {name}
    return all(one in endpoints.names and endpoints.held(one, stream.target) is not None for one in asked)


def _missing(clusters: Subscription, name: str) -> bool:
    """Whether the client has no version of a cluster, or is about to lose it."""
    if name not in clusters.overlay:
        return False
    flight = clusters.flight_of(name)
    return not subscription.live(clusters.overlay[name]) or (flight is not None and name in flight.removed)


def switched(stream: Stream) -> bool:
    """Gate B: whether the client serves the target's listeners and routes, and no older ones.

    An ACK of LDS alone says nothing: a listener without its routes is ACKed while the old one serves. Routes that the
    target has not, such as those of an EnvoyFilter's own source, are nothing to wait for: it would be for ever.
    """
    listeners = stream.subscriptions.get(names.LISTENER)
    if listeners is None:
        return not stream.returned
    if listeners.flights or not listeners.answered or not _settled(stream, listeners, leaving=False):
        return False
    routes, extensions = stream.subscriptions.get(names.ROUTE), stream.subscriptions.get(names.EXTENSION)
    for sub in (routes, extensions):
        if sub is not None and (sub.flights or not _settled(stream, sub, leaving=True)):
            return False
    older, configured = _older(stream, routes), _older(stream, extensions)
    return all(
        _has_all(stream, names.ROUTE, listener.refs.get(names.ROUTE, _NONE) - older, asked=False)
        and _has_all(stream, names.SECRET, listener.refs.get(names.SECRET, ()), asked=False)
        and _has_all(stream, names.EXTENSION, listener.refs.get(names.EXTENSION, _NONE) - configured, asked=False)
        for listener in stream.target.of(names.LISTENER)
        if listener.name not in listeners.overlay and listeners.covers(listener.name)
    )


def taken_over(stream: Stream, listeners: Subscription) -> bool:
    """Whether no listener of the target is still on its way or without its routes, but for what is kept back.

    A service that changes its protocol moves to a listener of another name, which waits for its routes; if the old one
    left before, connections would pass all rules, and mTLS with them (fault FT27).
    """
    out = _kept_back(stream, listeners)
    for name in listeners.overlay:
        if stream.target.get(names.LISTENER, name) is not None and name not in out:
            return False
    missing = _kept_back(stream, stream.subscriptions.get(names.ROUTE))
    refused = _kept_back(stream, stream.subscriptions.get(names.EXTENSION))
    return all(
        _has_all(stream, names.ROUTE, listener.refs.get(names.ROUTE, _NONE) - missing, asked=True)
        and _has_all(stream, names.EXTENSION, listener.refs.get(names.EXTENSION, _NONE) - refused, asked=False)
        for listener in stream.target.of(names.LISTENER)
        if listener.name not in out and listeners.covers(listener.name)
    )


def awaiting(stream: Stream, listeners: Subscription, leaving: Iterable[str]) -> frozenset[str]:
    """Those leaving listeners whose successor asks for a route or a filter's configuration that is kept back.

    Where the client has no version of that it may warm for ever and take no connection (see _older); without the old
    one all would pass the rules. It is told by the clusters that both lead to. Those that other listeners lead to by
    themselves, such as the one for everything undeclared, tell nothing.
    """
    routes, extensions = stream.subscriptions.get(names.ROUTE), stream.subscriptions.get(names.EXTENSION)
    lacking = _kept_back(stream, routes) - _older(stream, routes)
    filters = _kept_back(stream, extensions) - _older(stream, extensions)
    serving, needed = set[str](), set[str]()
    for one in stream.target.of(names.LISTENER) if lacking or filters else ():
        clusters, through = one.refs.get(names.CLUSTER, _NONE), one.refs.get(names.ROUTE, _NONE)
        if filters.isdisjoint(one.refs.get(names.EXTENSION, _NONE)):
            through &= lacking
            if not through and one.name not in listeners.overlay:
                serving |= clusters
        else:
            needed |= clusters
        needed.update(*(r.refs.get(names.CLUSTER, _NONE) for r in map(stream.target.finder(names.ROUTE), through) if r))
    return frozenset(name for name in leaving if needed and _leads(stream, listeners, routes, name, needed - serving))


def _leads(stream: Stream, listeners: Subscription, routes: Subscription | None, name: str, clusters: set[str]) -> bool:
    """Whether a listener of the client leads to one of these clusters, or to what we never saw."""
    held = listeners.overlay.get(name)
    if held is None:
        return False
    last = subscription.last_good(held)
    if last is None:
        return True
    through = [routes.held(one, stream.target) if routes else None for one in last.refs.get(names.ROUTE, ())]
    known = [subscription.last_good(one) for one in through if one is not None]
    return None in known or any(
        not clusters.isdisjoint(one.refs.get(names.CLUSTER, _NONE)) for one in (last, *filter(None, known))
    )


def _kept_back(stream: Stream, sub: Subscription | None) -> frozenset[str]:
    """Names of the target that the client will not get as they are."""
    if sub is None or not (sub.refused or len(stream.quarantine)):
        return _NONE
    found = (stream.target.get(sub.type_url, name) for name in sub.overlay)
    return frozenset(r.name for r in found if r is not None and wanted.kept_back(stream, sub, r))


def _older(stream: Stream, sub: Subscription | None) -> frozenset[str]:
    """Names that listeners ask for, that are kept back, and of which the client has another version.

    A listener without any may wait for ever, ACKed, while the one before it serves on. It waits no more once the client
    refuses a response of the type, which Envoy tells to all that asked; but not what another one refused, or this one
    before it gave the name back and asked anew: that is not sent.
    """
    return frozenset(n for n in _kept_back(stream, sub) if sub and subscription.live(sub.overlay[n]))


def _settled(stream: Stream, sub: Subscription, *, leaving: bool) -> bool:
    """Whether the client has the target, but for what is kept back and of which it has nothing, or what we know.

    What it serves instead is looked at (see _served); a version whose bytes we never saw may name any cluster.
    ``leaving``: names that the target has not may stay. Those that neither has were only asked for.
    """
    out = _kept_back(stream, sub)
    for name, held in sub.overlay.items():
        if (leaving or held is None) and stream.target.get(sub.type_url, name) is None:
            continue
        if name not in out or not (held is None or isinstance(held, Resource)):
            return False
    return True


def _has_all(stream: Stream, type_url: str, these: frozenset[str] | tuple[str, ...], *, asked: bool) -> bool:
    """Whether the client has all these names.

    Without ``asked`` only those count that the target has: the others come from elsewhere, such as the workload's own
    certificate.
    """
    sub = stream.subscriptions.get(type_url)
    return all(
        (sub is not None and name in sub.names and name not in sub.overlay and sub.flight_of(name) is None)
        or not (asked or stream.target.get(type_url, name) is not None)
        for name in these
    )


def withdrawn(stream: Stream, extensions: Subscription) -> tuple[str, ...]:
    """Configurations of filters that the client has, its listeners or clusters ask for, and the target has no more.

    Those that nothing asks for any more are the client's to give back, when their connections have drained.
    A client of the state of the world cannot be told.
    """
    if not stream.delta or not extensions.overlay:
        return ()
    gone = {name for name in extensions.overlay if subscription.live(extensions.held(name, stream.target))}
    gone = {name for name in gone if stream.target.get(names.EXTENSION, name) is None}
    if not gone or not switched(stream):
        return ()
    return tuple(sorted(gone & stream.target.named(names.EXTENSION, names.LISTENER, names.CLUSTER)))


def leaving(stream: Stream, clusters: Subscription) -> list[str]:
    """Clusters that the client has, or may have, and the target has not."""
    found: list[str] = []
    if clusters.blank:
        return found
    known = stream.target.finder(names.CLUSTER)
    for name, held in clusters.overlay.items():
        if known(name) is not None:
            continue
        flight = clusters.flight_of(name)
        if name in flight.items if flight else held is not None:
            found.append(name)
    return found


def _served(stream: Stream) -> set[str]:
    """Clusters named by old versions of listeners, routes and filters' configurations that the target has.

    A new listener may take up a route that only draining ones used: with it what was on its way out serves again.
    """
    old = [one for kind in (names.LISTENER, names.ROUTE, names.EXTENSION) for one in _old(stream, kind)]
    behind = [one for kind in (names.ROUTE, names.EXTENSION) for one in _behind(stream, kind, old)]
    return set[str]().union(*(resource.refs.get(names.CLUSTER, _NONE) for resource in (*old, *behind)))


def _behind(stream: Stream, type_url: str, listeners: list[Resource]) -> Iterator[Resource]:
    """What these listeners ask for, as the client has it, where the target has another or none."""
    sub = stream.subscriptions.get(type_url)
    if sub is not None:
        asked = _NONE.union(*(listener.refs.get(type_url, _NONE) for listener in listeners))
        yield from filter(None, (subscription.last_good(sub.overlay.get(name)) for name in asked))


def _old(stream: Stream, type_url: str) -> Iterator[Resource]:
    """What the client serves under names of the target that are to change."""
    sub = stream.subscriptions.get(type_url)
    for name, held in sub.overlay.items() if sub is not None else ():
        last = subscription.last_good(held)
        if last is not None and stream.target.get(type_url, name) is not None:
            yield last


def linger(stream: Stream, clusters: Subscription, now: float) -> Mapping[str, float | None]:
    """When each leaving cluster goes; None until gate B, and while something that serves leads to it."""
    found = leaving(stream, clusters)
    if not found:
        return {}
    again = _served(stream)
    due = {name: None if name in again else stream.linger.get(name) for name in found}
    if any(at is None and name not in again for name, at in due.items()) and switched(stream):
        start = now + stream.timing.linger
        due = {name: start if at is None and name not in again else at for name, at in due.items()}
    return _capped(due, stream, now)


def _capped(due: dict[str, float | None], stream: Stream, now: float) -> dict[str, float | None]:
    if len(due) <= LINGER_LEAST:
        return due
    most = max(LINGER_LEAST, stream.target.count(names.CLUSTER) // LINGER_SHARE)
    oldest = sorted((at, name) for name, at in due.items() if at is not None)
    return due | {name: now for _, name in oldest[: max(0, len(due) - most)]}
