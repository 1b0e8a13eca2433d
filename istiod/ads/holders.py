"""Who may still send to an address: proxies whose endpoints, as they ACKed them or as they are on their way, hold it.

An ACK of the endpoints without the address is a promise to choose it no more. A proxy whose stream broke has promised
nothing, and may use what it had until it is back; for so long its last stream counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2

from istiod.ads.session import AdsSession
from istiod.config.proxy import Proxy
from istiod.config.resource import Resource, delimited
from wire import names

SILENT: Final = 15.0
"""Seconds for which a proxy that went away without a word counts: Envoy is back within them, here or at a peer."""
MOST_SILENT: Final = 10_000
"""So many are remembered; of more, the oldest are forgotten."""
_ADDRESS: Final = b"\x12"
"""Tag of ``SocketAddress.address`` (envoy.config.core.v3), the only form in which endpoints hold an IP."""
_LEFT: Final = frozenset((health_check_pb2.DRAINING, health_check_pb2.UNHEALTHY))
"""What an endpoint is said to be that stays in the list and is chosen no more."""


@dataclass(frozen=True, slots=True, eq=False)
class Silent:
    """A proxy that is gone, with its last stream, and when it went (monotonic seconds)."""

    proxy: Proxy
    session: AdsSession
    since: float


class Holders:
    """Those of one control plane. ``known`` says whether a proxy that is silent may be alive."""

    def __init__(
        self, current: Callable[[], Iterable[tuple[Proxy, AdsSession]]], known: Callable[[Proxy], bool]
    ) -> None:
        self._current = current
        self._known = known
        self._silent: dict[str, Silent] = {}

    def lost(self, proxy: Proxy, session: AdsSession, now: float) -> None:
        """A stream of a proxy is over."""
        if not session.follows(names.ENDPOINT):  # an agent's own, for names of DNS
            return
        self._silent.pop(proxy.node.id, None)
        self._silent[proxy.node.id] = Silent(proxy, session, now)
        self.forget(now)

    def find(self, hosts: Collection[str], addresses: Iterable[str], now: float, first: str = "") -> str:
        """The node id of one who may send to an address of these hosts; "" for nobody.

        ``first`` is the one found last: it is asked first, so that asking again costs little while it still may.
        """
        ask = _Question(frozenset(hosts), tuple(addresses))
        current = [(p.node.id, session) for p, session in self._current() if session.follows(names.ENDPOINT)]
        if first:
            current.sort(key=lambda one: one[0] != first)
        back = {node for node, _ in current}
        both = (*current, *self._gone(back, now))
        return next((node for node, session in both if ask.holds(session)), "")

    def forget(self, now: float) -> float | None:
        """Let go of sessions that say nothing any more, in order of time: each holds a whole configuration (FT56).

        Gives the time from which on the next says nothing any more; None where there is none.
        """
        while self._silent:
            oldest = next(iter(self._silent.values()))
            if len(self._silent) <= MOST_SILENT and now < oldest.since + SILENT:
                return oldest.since + SILENT
            del self._silent[oldest.proxy.node.id]
        return None

    def _gone(self, back: Collection[str], now: float) -> Iterator[tuple[str, AdsSession]]:
        for node, silent in list(self._silent.items()):
            if node in back or now >= silent.since + SILENT:
                del self._silent[node]
            elif self._known(silent.proxy):
                yield node, silent.session


class _Question:
    """One look at many sessions, which share names and resources: each of these is looked at once."""

    def __init__(self, hosts: frozenset[str], addresses: tuple[str, ...]) -> None:
        self._hosts = hosts
        self._addresses = frozenset(addresses)
        self._needles = [delimited(_ADDRESS, address.encode()) for address in addresses]
        self._names: dict[int, tuple[frozenset[str], tuple[str, ...]]] = {}
        self._found: dict[int, tuple[Resource, bool]] = {}

    def holds(self, session: AdsSession) -> bool:
        return session.may_use(self._of, self._contains)

    def _of(self, subscribed: frozenset[str]) -> tuple[str, ...]:
        """Those names of endpoints that are of the hosts; a cluster's is DIRECTION|PORT|SUBSET|HOST."""
        known = self._names.get(id(subscribed))
        if known is None:
            found = tuple(name for name in subscribed if name.rpartition("|")[2] in self._hosts)
            known = self._names[id(subscribed)] = (subscribed, found)
        return known[1]

    def _contains(self, resource: Resource) -> bool:
        known = self._found.get(id(resource))
        if known is None:
            named = any(needle in resource.any_frame for needle in self._needles)  # quicker than to read them all
            found = named and any(_chosen(resource, self._addresses))
            known = self._found[id(resource)] = (resource, found)
        return known[1]


def _chosen(resource: Resource, addresses: Collection[str]) -> Iterator[bool]:
    """For each endpoint at one of the addresses, whether new requests may go there."""
    (packed,) = discovery_pb2.DiscoveryResponse.FromString(resource.any_frame).resources
    for group in endpoint_pb2.ClusterLoadAssignment.FromString(packed.value).endpoints:
        for each in group.lb_endpoints:
            if each.endpoint.address.socket_address.address in addresses:
                yield each.health_status not in _LEFT
