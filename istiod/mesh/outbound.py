"""What a class of sidecars gets for traffic that leaves the app (DESIGN section 2; rows S45, S49, S50, S74).

Puts the parts together: clusters, listeners, route tables. Each part is made from named inputs and remembered by them,
so that a change costs the hosts that it touches. What the class sees is egress.py's; gateways have their own
(gateways.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from istiod.mesh import allocation, egress, http_proxy, leaves, outbound_clusters, outbound_listeners, route_tables
from istiod.mesh.conditions import Client
from istiod.mesh.egress import Sight, View
from istiod.mesh.http_routes import Resolver
from istiod.mesh.model import Model
from istiod.mesh.outbound_listeners import Piece
from istiod.mesh.recall import Recall
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import Listener, OutboundScope, ScopeKey
from istiod.mesh.service import Service
from istiod.mesh.virtual_services import VirtualServiceIndex


def scope(
    model: Model,
    index: VirtualServiceIndex,
    key: ScopeKey,
    previous: OutboundScope | None = None,
    recall: Recall | None = None,
) -> OutboundScope:
    """The outbound scope of sidecars of one key.

    Args:
        model: the mesh.
        index: its VirtualServices.
        key: whose scope; ``matched`` holds what ``index.matched(labels)`` says.
        previous: the scope of the same key before; leaves equal to its leaves are the same objects.
        recall: what earlier scopes were made from; None: everything is made anew.
    """
    recall = recall or Recall()
    sight = allocation.addressed(egress.sight(model, index, key, recall), key.allocated, recall)
    upstream = outbound_clusters.of(model, key, sight.services, recall)
    everything = Resolver(settings=sight.settings, port=0, services=_by_host(sight.services), clusters=upstream)
    client = Client(namespace=key.namespace, selectors=frozenset(key.matched))
    maker = _Maker(model=model, client=client, resolver=everything, recall=recall, key=key)
    listeners, routes = maker.views(sight)
    return leaves.reuse(OutboundScope(key=key, clusters=upstream, listeners=listeners, routes=routes), previous)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    """Makes listeners and tables of one scope, view by view. ``resolver`` knows all services, its port is moot."""

    model: Model
    client: Client
    resolver: Resolver
    recall: Recall
    key: ScopeKey

    def views(self, sight: Sight) -> tuple[Mapping[str, Listener], Mapping[str, RouteTable]]:
        """Listeners and tables by name. What an earlier view has is not given again by a later one."""
        first = outbound_listeners.virtual_outbound(sight.settings, self.key.families)
        listeners = {first.name: first} if self.key.captured else {}
        held = set(first.places) if self.key.captured else set()
        routes: dict[str, RouteTable] = {}
        for view in sight.views:
            parts = [
                p
                for one in view.services
                for p in outbound_listeners.pieces(self.model, one, self.recall, view.listener, self.key.families)
            ]
            builder = outbound_listeners.Builder(
                index=view.index,
                client=self.client,
                resolver=self.resolver,
                recall=self.recall,
                http10=self.key.http10,
            )
            wanted: set[str] = set()
            for one in builder.listeners(parts, frozenset(held)):
                listeners[one.name] = one
                held.update(one.places)
                wanted.update(chain.http.rds for chain in one.chains if chain.http)
            owners = {piece.rds: piece for piece in reversed(parts) if piece.rds in wanted and piece.rds not in routes}
            routes.update(self._tables(view, owners))
        if self.key.http_proxy:
            one = replace(http_proxy.listener(self.key.http_proxy, self.key.families), http10=self.key.http10)
            if held.isdisjoint(one.places):
                listeners[one.name] = one
                routes[http_proxy.TABLE] = http_proxy.table(sight, self.client, self.resolver, self.recall)
        return listeners, routes

    def _tables(self, view: View, owners: Mapping[str, Piece]) -> Iterator[tuple[str, RouteTable]]:
        tables = route_tables.Builder(
            index=view.index,
            client=self.client,
            recall=self.recall,
            settings=self.resolver.settings,
            aliases=tuple(one for one in view.services if route_tables.is_alias(one)),
        )
        sharing = {
            number: replace(self.resolver, port=number, services=found)
            for number, found in _by_port(view.services).items()
        }
        for rds, piece in owners.items():
            if view.is_proxy:
                yield rds, tables.proxy_table(rds, sharing.values())
            else:
                yield rds, tables.table(piece, sharing[piece.port.number])


def _by_port(services: Iterable[Service]) -> Mapping[int, Mapping[str, Service]]:
    sharing: dict[int, dict[str, Service]] = {}
    for one in services:
        for port in one.ports:
            sharing.setdefault(port.number, {})[one.host] = one
    return sharing


def _by_host(services: Iterable[Service]) -> dict[str, Service]:
    return {one.host: one for one in services}
