"""What a class of routers gets: listeners and route tables of the Gateways that select it (features rows E1-E5).

A server's port is that of the router's Service; the listener stands on its target port. Clusters are those that its
routes lead to (row D18).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from crds.diagnostic import Code, Diagnostic, warning
from istiod.mesh import (
    clusters,
    dynamic_dns,
    egress,
    gateway_chains,
    leaves,
    outbound_clusters,
    perspective,
    reports,
)
from istiod.mesh.authorization import Authorization
from istiod.mesh.conditions import Client
from istiod.mesh.credentials import CredentialIndex, Vault
from istiod.mesh.gateway_chains import Builder, Place
from istiod.mesh.gateway_servers import Gateway, GatewayIndex, Server
from istiod.mesh.gateway_tls import Handling
from istiod.mesh.http_routes import Resolver
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import Chain, Cluster, Direction, Listener, OutboundScope, ScopeKey
from istiod.mesh.service import Service
from istiod.mesh.virtual_services import VirtualServiceIndex
from wire import names


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
        key: whose scope; ``matched`` holds what ``gateways.matched(labels, home)`` and ``index.matched(labels)`` say,
            ``ports`` the ports of the Services that select the router.
        previous: the scope of the same key before; leaves equal to its leaves are the same objects.
        recall: what earlier scopes were made from; None: everything is made anew.
    """
    recall = recall or Recall()
    model = model.of_clients(key.namespace, key.matched, recall)
    services = egress.visible(model.registry, key.namespace, recall)
    vault = Vault(
        index=model.credentials if key.credentials else CredentialIndex(),
        namespace=key.namespace,
        external=key.external_credentials,
    )
    sees = perspective.of(model, index, key.namespace, recall)
    reached = reports.reaching(services, key.own, model.registry, recall)
    upstream = vault.usable(outbound_clusters.of(model, key, sees, reached, recall))
    client = Client(namespace=key.namespace, gateways=frozenset(), selectors=frozenset(key.matched))
    by_host = {one.host: one for one in services}
    resolver = Resolver(settings=model.settings, port=0, services=by_host, clusters=upstream)
    places = _places(gateways, key, vault)
    by_name: dict[str, Cluster] = {}
    if any(_by_name(server) for servers in places.values() for server in servers):
        by_name = {one.name: one for one in map(clusters.by_server_name, upstream.values()) if one is not None}
    builder = Builder(
        index=index,
        client=client,
        resolver=resolver,
        by_name=tuple(by_name.values()),
        access=_access(model, key, recall),
        wildcard=key.families.wildcards[0],
        tokens=model.tokens.named(key.tokens),
        limits=model.rate_limits.named(key.limited_by),
    )
    listeners: dict[str, Listener] = {}
    routes: dict[str, RouteTable] = {}
    for place, servers in places.items():
        chains = builder.chains(place, servers)
        if chains:
            tables = {table.name: table for table in builder.tables(place, servers, chains)}
            listener = _listener(place, tuple(dynamic_dns.resolving(one, tables, upstream) for one in chains), key)
            listeners[listener.name] = listener
            routes.update(tables)
    wanted = gateway_chains.used((c for one in listeners.values() for c in one.chains), routes.values())
    wanted |= reports.clusters(key.own) | frozenset(key.patched)
    needed = {name: one for name, one in {**upstream, **by_name}.items() if name in wanted}
    contexts = [
        *(chain.tls for one in listeners.values() for chain in one.chains),
        *(one.tls for one in needed.values()),
    ]
    secrets = vault.needed(contexts)
    made = OutboundScope(key=key, clusters=needed, listeners=listeners, routes=routes, secrets=secrets)
    return leaves.reuse(made, previous, recall)


def _access(model: Model, key: ScopeKey, recall: Recall) -> Authorization | None:
    """Which requests routers of a key take."""
    by_key = {one.key: one for one in model.authorizations.all()} if key.authorized_by else {}
    return model.authorizations.together(tuple(by_key[one] for one in key.authorized_by), recall)


def keeps_ports(service: Service) -> bool:
    """Whether this Service of a router has no say in where its servers stand: they keep their ports."""
    return (names.LABEL_KEEP_PORTS, "true") in service.labels


def _places(gateways: GatewayIndex, key: ScopeKey, vault: Vault) -> Mapping[Place, list[Server]]:
    """The servers by listener, oldest first; without those whose Secret is missing, or that cannot share it.

    A listener with a Secret that never comes would wait for it as a whole (DESIGN section 4).
    """
    found: dict[Place, list[Server]] = {}
    for one in gateways.selected(key.matched):
        for server in (s for s in one.servers if s.context is None or vault.open(s.context) is not None):
            for port in _ports(one, server.port, key):
                sharing = found.setdefault((server.bind, port), [])
                if _obstacle(sharing, server) is None and _claimed(sharing, server) is None:
                    sharing.append(server)
    return {place: servers for place, servers in found.items() if key.own.listens(place[1])}


def _ports(one: Gateway, number: int, key: ScopeKey) -> tuple[int, ...]:
    """Where servers of a Gateway stand that have a port: where the router's Services send it.

    Where these have no such port it is the port itself; with a Gateway that names its Services, nowhere (Istio:
    resolvePorts).
    """
    if one.services:
        return tuple(target for host, port, target in key.served if port == number and host in one.services)
    return (dict(key.ports).get(number, number),)


def _obstacle(sharing: Iterable[Server], server: Server) -> Server | None:
    """The server that keeps another from its listener: one in plaintext, unless both are plain HTTP.

    TLS is told apart by server name, and what has none is for a server in plaintext that comes after those with TLS.
    After it no other can come (as recorded from Istio).
    """
    plain = next((one for one in sharing if one.tls is None), None)
    if plain is None or (server.tls is None and plain.protocol.is_http and server.protocol.is_http):
        return None
    return plain


def _claimed(sharing: Iterable[Server], server: Server) -> Server | None:
    """The server that keeps another with TLS from its listener, as both say one host, whatever becomes of their TLS.

    Its other hosts are left out with it (Istio: CheckDuplicates). Hosts of different namespaces are different here;
    what they claim of one name is told apart by chains.
    """
    secure = (one for one in sharing if one.tls is not None and server.tls is not None)
    return next((one for one in secure if not set(one.hosts).isdisjoint(server.hosts)), None)


def _by_name(server: Server) -> bool:
    return server.tls is not None and server.tls.handling is Handling.AUTO_PASSTHROUGH


def _listener(place: Place, chains: tuple[Chain, ...], key: ScopeKey) -> Listener:
    address, *more = (place[0],) if place[0] else key.families.wildcards
    return Listener(
        name=f"{address}_{place[1]}",
        address=address,
        additional_addresses=tuple(more),
        port=place[1],
        direction=Direction.GATEWAY,
        own=key.own,
        chains=chains,
        inspect_tls=any(chain.tls or chain.match.server_names for chain in chains),
    )


def conflicts(gateways: GatewayIndex) -> Iterator[Diagnostic]:
    """Servers that an older one of a Gateway with the same selector keeps from their port or their names."""
    sharing: dict[tuple[object, ...], list[Server]] = {}
    owners: dict[tuple[object, ...], Server] = {}
    for one in gateways.gateways:
        for server in one.servers:
            place = (one.selector, server.bind, server.port)
            others = sharing.setdefault(place, [])
            port = f"port {server.port} with {server.protocol.value}"
            if (owner := _obstacle(others, server)) is not None:
                problem = (
                    f"{port} cannot share with {owner.protocol.value} of Gateway {owner.gateway_name}, which is older"
                )
                yield warning(Code.PORT_CONFLICT, one.key, "spec.servers", f"{problem}; the server is left out")
                continue
            if (owner := _claimed(others, server)) is not None:
                shared = ", ".join(dict.fromkeys(name for host, name in server.hosts if (host, name) in owner.hosts))
                problem = f"{port}: Gateway {owner.gateway_name} has {shared} already; the server is left out"
                yield warning(Code.DUPLICATE_HOST, one.key, "spec.servers", problem)
                continue
            others.append(server)
            for name in _names(server, others):
                owner = owners.setdefault((*place, name), server)
                if owner is not server:
                    message = f"{port}: Gateway {owner.gateway_name} has {name} already, so it is left out here"
                    yield warning(Code.DUPLICATE_HOST, one.key, "spec.servers", message)


def _names(server: Server, sharing: Iterable[Server]) -> tuple[str, ...]:
    """The server names that a server claims on a listener with TLS; in plaintext it is for what has none."""
    if server.tls is None:
        return ("*",) if any(other.tls is not None for other in sharing) else ()
    return (server.names or ("*",)) if server.ends_tls else ()
