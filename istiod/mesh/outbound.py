"""What a class of sidecars gets for traffic that leaves the app (DESIGN section 2; rows S45, S49, S50, S74).

Puts the parts together: clusters, listeners, route tables. Each part is made from named inputs and remembered by them,
so that a change costs the hosts that it touches. Gateways have their own (gateways.py).
"""

from __future__ import annotations

from dataclasses import replace

from istiod.mesh import leaves, outbound_clusters, outbound_listeners, route_tables
from istiod.mesh.conditions import Client
from istiod.mesh.http_routes import Resolver
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
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
    services = model.registry.visible(key.namespace)
    upstream = outbound_clusters.of(model, key, services, recall)
    client = Client(namespace=key.namespace, selectors=frozenset(key.matched))
    parts = [piece for one in services for piece in outbound_listeners.pieces(model, one, recall)]
    everything = Resolver(settings=model.settings, port=0, services=_by_host(services), clusters=upstream)
    builder = outbound_listeners.Builder(index=index, client=client, resolver=everything, recall=recall)
    found = (outbound_listeners.virtual_outbound(model.settings), *builder.listeners(parts))
    listeners: dict[str, Listener] = {one.name: one for one in found}
    wanted = {chain.http.rds for one in found for chain in one.chains if chain.http}
    tables = route_tables.Builder(
        index=index,
        client=client,
        recall=recall,
        aliases=tuple(one for one in services if route_tables.is_alias(one)),
    )
    sharing: dict[int, dict[str, Service]] = {}
    for one in services:
        for port in one.ports:
            sharing.setdefault(port.number, {})[one.host] = one
    owners = {piece.rds: piece for piece in reversed(parts) if piece.rds in wanted}
    routes = {
        rds: tables.table(piece, replace(everything, port=piece.port.number, services=sharing[piece.port.number]))
        for rds, piece in owners.items()
    }
    return leaves.reuse(OutboundScope(key=key, clusters=upstream, listeners=listeners, routes=routes), previous)


def _by_host(services: tuple[Service, ...]) -> dict[str, Service]:
    return {one.host: one for one in services}
