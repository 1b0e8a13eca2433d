"""What a class of routers gets: listeners and route tables of the Gateways that select it (features rows E1-E5).

A server's port is that of the router's Service; the listener stands on its target port. Clusters are all that the
router's namespace sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from crds.diagnostic import Code, Diagnostic, warning
from istiod.mesh import gateway_routes, leaves, outbound_clusters
from istiod.mesh.conditions import Client
from istiod.mesh.gateway_servers import GatewayIndex, Server
from istiod.mesh.http_routes import Resolver
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import Chain, ChainMatch, Direction, Http, Listener, OutboundScope, ScopeKey
from istiod.mesh.virtual_services import VirtualServiceIndex

WILDCARD = "0.0.0.0"  # noqa: S104 (a gateway is there to be reached)

Place = tuple[str, int]
"""A listener's address ("" for all) and port."""


def scope(
    model: Model,
    index: VirtualServiceIndex,
    gateways: GatewayIndex,
    key: ScopeKey,
    previous: OutboundScope | None = None,
    recall: Recall | None = None,
) -> OutboundScope:
    """The scope of routers of one key.

    Args:
        model: the mesh.
        index: its VirtualServices.
        gateways: its Gateways.
        key: whose scope; ``matched`` holds what ``gateways.matched(labels)`` and ``index.matched(labels)`` say,
            ``ports`` the ports of the Services that select the router.
        previous: the scope of the same key before; leaves equal to its leaves are the same objects.
        recall: what earlier scopes were made from; None: everything is made anew.
    """
    services = model.registry.visible(key.namespace)
    upstream = outbound_clusters.of(model, key, services, recall or Recall())
    client = Client(namespace=key.namespace, gateways=frozenset(), selectors=frozenset(key.matched))
    by_host = {one.host: one for one in services}
    listeners: dict[str, Listener] = {}
    routes: dict[str, RouteTable] = {}
    for place, servers in _places(gateways, key).items():
        resolver = Resolver(settings=model.settings, port=servers[0].port, services=by_host, clusters=upstream)
        if servers[0].protocol.is_http:
            name = ".".join(("http", str(place[1]), *((place[0],) if place[0] else ())))
            routes[name] = gateway_routes.table(name, servers, index, client, resolver)
            chains: tuple[Chain, ...] = (Chain(name="", http=Http(stat_prefix=_stat_prefix(place), rds=name)),)
        else:
            chains = tuple(_tcp_chains(servers[0], index, client, resolver))
        if chains:
            listener = _listener(place, chains)
            listeners[listener.name] = listener
    return leaves.reuse(OutboundScope(key=key, clusters=upstream, listeners=listeners, routes=routes), previous)


def _places(gateways: GatewayIndex, key: ScopeKey) -> Mapping[Place, list[Server]]:
    """The servers by listener, oldest first; those that cannot share it with the first are left out."""
    found: dict[Place, list[Server]] = {}
    for one in gateways.selected(key.matched):
        for server in one.servers:
            for port in _targets(server.port, key.ports):
                sharing = found.setdefault((server.bind, port), [])
                if not sharing or _together(sharing[0], server):
                    sharing.append(server)
    return found


def _targets(port: int, ports: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Where the router's Services send a port; the port itself where none speaks of it."""
    return tuple(dict.fromkeys(target for number, target in ports if number == port)) or (port,)


def _together(first: Server, other: Server) -> bool:
    return first.protocol.is_http and other.protocol.is_http


def _tcp_chains(server: Server, index: VirtualServiceIndex, client: Client, resolver: Resolver) -> Iterator[Chain]:
    for route in gateway_routes.tcp(server, index, client, resolver):
        yield Chain(name="", match=ChainMatch(prefixes=route.subnets), tcp=route.tcp, origin=route.origin)


def _stat_prefix(place: Place) -> str:
    return f"outbound_{place[0] or WILDCARD}_{place[1]};"


def _listener(place: Place, chains: tuple[Chain, ...]) -> Listener:
    address = place[0] or WILDCARD
    return Listener(
        name=f"{address}_{place[1]}", address=address, port=place[1], direction=Direction.GATEWAY, chains=chains
    )


def conflicts(gateways: GatewayIndex) -> Iterator[Diagnostic]:
    """Servers that an older one of a Gateway with the same selector keeps from their port."""
    owners: dict[tuple[object, str, int], Server] = {}
    for one in gateways.gateways:
        for server in one.servers:
            owner = owners.setdefault((one.selector, server.bind, server.port), server)
            if owner is not server and not _together(owner, server):
                yield warning(
                    Code.PORT_CONFLICT,
                    one.key,
                    "spec.servers",
                    f"port {server.port} with {server.protocol.value} cannot share with {owner.protocol.value} of "
                    f"Gateway {owner.gateway_name}, which is older; the server is left out",
                )
