"""What should be sent under a name, and what has to be sent now: target, quarantine and what is under way, combined."""

from __future__ import annotations

from collections.abc import Mapping

from istiod.ads import subscription
from istiod.ads.bundle import Bundle, endpoints_of
from istiod.ads.stream import Stream
from istiod.ads.subscription import Held, Subscription
from istiod.config import resource
from istiod.config.resource import Resource
from wire import names

_CLUSTER_NAME = b"\x0a"
"""Tag of ClusterLoadAssignment.cluster_name."""


def empty_assignment(name: str) -> Resource:
    """A ClusterLoadAssignment without endpoints: releases a cluster that waits for one."""
    return resource.make(name, names.ENDPOINT, resource.delimited(_CLUSTER_NAME, name.encode()))


def wanted(stream: Stream, sub: Subscription, name: str) -> Resource | None:
    """What the client should have under this name; None: whatever it has."""
    found = stream.target.get(sub.type_url, name)
    held = sub.held(name, stream.target)
    if found is None:
        return _missing(sub, name, held)
    if not kept_back(stream, sub, found):
        return found
    last = subscription.last_good(held)
    if last is not None:
        return last if last.version != found.version else None
    return _substitute(stream, found) if held is None else None


def _substitute(stream: Stream, found: Resource) -> Resource | None:
    """The last good one in place of a refused one, unless it names what has gone since.

    What a patch wrongly names in both was never there.
    """
    last = stream.quarantine.instead(found, stream.client.identity)
    if last is None:
        return None
    kinds = (names.CLUSTER, names.ROUTE)
    named = ((t, name) for t in kinds for name in last.refs.get(t, frozenset()) - found.refs.get(t, frozenset()))
    return last if all(stream.target.get(t, name) is not None for t, name in named) else None


def kept_back(stream: Stream, sub: Subscription, found: Resource) -> bool:
    """Whether this resource of the target is not for this client: it refused it, or another one of its identity did."""
    if sub.refused.get(found.name) == found.version:
        return True
    if not stream.quarantine.holds(found, stream.client.identity):
        return False
    return subscription.version(sub.held(found.name, stream.target)) != found.version


def _missing(sub: Subscription, name: str, held: Held) -> Resource | None:
    """Endpoints that we do not know are none, and a cluster waits for them, even one that is about to leave.

    A name in use is never emptied: that would be an outage.
    """
    if sub.type_url == names.ENDPOINT and held is None and name in sub.names:
        return empty_assignment(name)
    return None


def due(stream: Stream, sub: Subscription) -> Mapping[str, Resource]:
    """What is pending, and what is owed, by name."""
    found = pending(stream, sub)
    if not sub.owed or isinstance(found, Bundle):  # which has all names asked for
        return found
    return {**found, **owed(stream, sub, sub.owed)}


def pending(stream: Stream, sub: Subscription) -> Mapping[str, Resource]:
    """What differs from what the client has and from what is under way, by name."""
    if not (sub.refused or len(stream.quarantine)):
        if sub.blank and sub.flights and isinstance(sub.flights[-1].items, Bundle):
            return {}
        if not sub.flights:
            return (_everything(stream, sub) if sub.blank else None) or _unsent(stream, sub)
    found: dict[str, Resource] = {}
    for name, held in sub.overlay.items():
        want = wanted(stream, sub, name)
        if want is None:
            continue
        flight = sub.flight_of(name) if sub.flights else None
        has: Held = flight.items.get(name) if flight else held
        if subscription.version(has) != want.version:
            found[name] = want
    return found


def _everything(stream: Stream, sub: Subscription) -> Bundle | None:
    """``pending`` of a client that has nothing, without a look at each name; None if some have to be looked at."""
    return stream.bundles.of(stream.target, sub.type_url, None if sub.wildcard else sub.names)


def _unsent(stream: Stream, sub: Subscription) -> dict[str, Resource]:
    """``pending`` while nothing is under way and nothing was ever refused: a first configuration asks thousands."""
    target = stream.target.finder(sub.type_url)
    found: dict[str, Resource] = {}
    for name, held in sub.overlay.items():
        want = target(name) or wanted(stream, sub, name)
        if want is not None and (held is None or subscription.version(held) != want.version):
            found[name] = want
    return found


def owed(stream: Stream, sub: Subscription, asked: frozenset[str]) -> dict[str, Resource]:
    """What has to be sent even if the client has it, by name."""
    found: dict[str, Resource] = {}
    for name in asked:
        again = wanted(stream, sub, name) or subscription.last_good(sub.held(name, stream.target))
        if again is not None:
            found[name] = again
    return found


def denied(stream: Stream, sub: Subscription) -> tuple[str, ...]:
    """Names asked for that do not exist and were not answered: a client of delta waits to be told so."""
    if not stream.delta or sub.type_url in subscription.NAMED or not sub.names:
        return ()
    unknown = (name for name, held in sub.overlay.items() if held is None and name in sub.names - sub.denied)
    if sub.type_url == names.BOOTSTRAP:  # Envoy does not start before its agent has an answer, be it a refused one
        return tuple(name for name in unknown if wanted(stream, sub, name) is None)
    return tuple(name for name in unknown if stream.target.get(sub.type_url, name) is None)


def whole(
    stream: Stream, sub: Subscription, items: Mapping[str, Resource], gone: tuple[str, ...]
) -> tuple[Resource, ...]:
    """A state-of-the-world body: the items, and under all other names what the client has (it would be removed)."""
    if not sub.overlay and not sub.flights and sub.wildcard:
        return tuple(stream.target.of(sub.type_url))
    body = dict(items)
    for known in stream.target.of(sub.type_url):
        if known.name not in body and sub.covers(known.name):
            _keep(stream, sub, known.name, body)
    for name in sub.overlay:
        if name not in body and name not in gone:
            _keep(stream, sub, name, body)
    return tuple(body.values())


def untried(sub: Subscription, body: tuple[Resource, ...], items: Mapping[str, Resource]) -> Mapping[str, Resource]:
    """The items, and what else of the body is under way: if it is refused, any of them may be to blame."""
    if not sub.flights:
        return items
    return {r.name: r for r in body if r.name in items or any(r.name in f.items for f in sub.flights)}


def warms(sub: Subscription, body: tuple[Resource, ...], items: Mapping[str, Resource]) -> frozenset[str]:
    """Names of endpoints that the client's clusters wait for after this response: of all that may be new to it."""
    if isinstance(items, Bundle) and len(items) == len(body):
        return items.warms
    unsure = (r for r in body if r.name not in items and isinstance(sub.overlay.get(r.name), subscription.Unsure))
    return endpoints_of((*items.values(), *unsure))


def _keep(stream: Stream, sub: Subscription, name: str, body: dict[str, Resource]) -> None:
    flight = sub.flight_of(name)
    kept = flight.items.get(name) if flight else subscription.last_good(sub.held(name, stream.target))
    if kept is not None:
        body[name] = kept
