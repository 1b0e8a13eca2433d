"""What a class of sidecars gets for traffic that leaves the app (DESIGN section 2; rows S45, S49, S50, S74).

Puts the parts together: clusters, listeners, route tables. Gateways have their own (gateways.py).
"""

from __future__ import annotations

from istiod.mesh import clusters, leaves, outbound_listeners, route_tables
from istiod.mesh.conditions import Client
from istiod.mesh.http_routes import Resolver
from istiod.mesh.model import Model
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import OutboundScope, ScopeKey
from istiod.mesh.virtual_services import VirtualServiceIndex


def scope(
    model: Model, index: VirtualServiceIndex, key: ScopeKey, previous: OutboundScope | None = None
) -> OutboundScope:
    """The outbound scope of sidecars of one key.

    ``key.matched`` holds what ``index.matched(labels)`` says. Leaves equal to those of ``previous`` (the scope of the
    same key before) are the same objects.
    """
    namespace = key.namespace
    services = model.registry.visible(namespace)
    upstream = clusters.outbound_clusters(model, namespace, services)
    client = Client(namespace=namespace, selectors=frozenset(key.matched))
    parts = list(outbound_listeners.pieces(model, services))
    everything = {one.host: one for one in services}
    opaque = {
        piece.port.number: Resolver(
            settings=model.settings, port=piece.port.number, services=everything, clusters=upstream
        )
        for piece in parts
    }
    builder = outbound_listeners.Builder(index=index, client=client, resolvers=opaque, settings=model.settings)
    listeners = {
        one.name: one for one in (outbound_listeners.virtual_outbound(model.settings), *builder.listeners(parts))
    }
    aliases = tuple(one for one in services if route_tables.is_alias(one))
    wanted = {chain.http.rds for one in listeners.values() for chain in one.chains if chain.http}
    routes: dict[str, RouteTable] = {}
    for piece in parts:
        if piece.rds not in wanted or piece.rds in routes:
            continue
        number = piece.port.number
        sharing = {one.host: one for one in services if one.port(number) is not None}
        resolver = Resolver(settings=model.settings, port=number, services=sharing, clusters=upstream)
        if piece.rds == str(number):
            routes[piece.rds] = route_tables.of_port(index, client, resolver, aliases)
        else:
            routes[piece.rds] = route_tables.of_sniffed(index, client, resolver, piece.service)
    return leaves.reuse(OutboundScope(key=key, clusters=upstream, listeners=listeners, routes=routes), previous)
