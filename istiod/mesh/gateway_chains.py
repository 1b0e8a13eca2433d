"""The filter chains of one gateway listener: plain HTTP, TCP, and TLS told apart by server name (rows E3-E8, D14).

Servers on one port come oldest first, and the first to have a server name has it: Envoy refuses a listener where two
chains match the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from istiod.mesh import clusters, gateway_routes, hosts, jwt
from istiod.mesh.authorization import Authorization
from istiod.mesh.conditions import Client
from istiod.mesh.families import Families
from istiod.mesh.gateway_servers import Server
from istiod.mesh.gateway_tls import Handling
from istiod.mesh.http_routes import Resolver
from istiod.mesh.l4_routes import L4Route
from istiod.mesh.rate_limits import RateLimits
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import Chain, ChainMatch, Cluster, Http, Tcp, WeightedCluster
from istiod.mesh.service import Protocol
from istiod.mesh.virtual_services import VirtualServiceIndex

MESH_APPLICATION_PROTOCOLS = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
"""ALPN of mesh mTLS: what is not, must not reach a workload by its SNI (Istio: allIstioMtlsALPNs)."""

Place = tuple[str, int]
"""A listener's address ("" for all) and port."""


def table_name(server: Server, place: Place) -> str:
    """The name of a server's route table (Istio: GatewayRDSRouteName); plain HTTP shares one by listener."""
    bind = (place[0],) if place[0] else ()
    if server.protocol.is_http:
        return ".".join(("http", str(place[1]), *bind))
    gateway = server.gateway
    return ".".join(("https", str(server.port), server.port_name, gateway.name, gateway.namespace, *bind))


@dataclass(slots=True)
class Taken:
    """What the chains of one listener match already, by address prefix and server name ("" for all)."""

    pairs: set[tuple[str, str]] = field(default_factory=set)

    def add(self, chain: Chain) -> Chain | None:
        """The chain with what was still free; None where nothing was."""
        prefixes = chain.match.prefixes or ("",)
        wanted = dict.fromkeys(name.lower() for name in chain.match.server_names or ("",))  # Envoy knows no upper case
        names = tuple(name for name in wanted if all((prefix, name) not in self.pairs for prefix in prefixes))
        if not names:
            return None
        self.pairs.update((prefix, name) for prefix in prefixes for name in names)
        return replace(chain, match=replace(chain.match, server_names=names if chain.match.server_names else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Makes chains and route tables for one class of routers. ``by_name`` are the clusters of AUTO_PASSTHROUGH.

    ``wildcard`` is the first address of a listener for all addresses, ``access`` which requests the routers take.
    """

    index: VirtualServiceIndex
    client: Client
    resolver: Resolver
    by_name: tuple[Cluster, ...] = ()
    wildcard: str = Families.IPV4.wildcards[0]
    access: Authorization | None = None
    tokens: jwt.Providers = ()
    limits: RateLimits = ()

    def chains(self, place: Place, servers: Iterable[Server]) -> tuple[Chain, ...]:
        """The chains of the servers that share a listener."""
        taken, sharing = Taken(), tuple(servers)
        bridged = any(server.protocol is Protocol.GRPC_WEB for server in sharing)
        every = (self._guarded(chain) for server in sharing for chain in self._of(place, server, bridged=bridged))
        return tuple(chain for wanted in every if (chain := taken.add(wanted)) is not None)

    def tables(self, place: Place, servers: Iterable[Server], chains: Iterable[Chain]) -> Iterator[RouteTable]:
        """The route tables that the chains of a listener name, each of its HTTP or HTTPS servers."""
        named = {chain.http.rds for chain in chains if chain.http}
        groups: dict[str, list[Server]] = {}
        for server in servers:
            if server.http and (name := table_name(server, place)) in named:
                groups.setdefault(name, []).append(server)
        for name, group in groups.items():
            yield gateway_routes.table(name, group, self.index, self.client, self.resolver)

    def _guarded(self, chain: Chain) -> Chain:
        http, tcp = chain.http, chain.tcp
        return replace(
            chain,
            http=replace(http, authorization=self.access) if http else None,
            tcp=replace(tcp, authorization=self.access) if tcp else None,
        )

    def _of(self, place: Place, server: Server, *, bridged: bool) -> Iterator[Chain]:
        """``bridged``: plain HTTP, which has one chain for all its servers, is bridged from gRPC-Web to gRPC."""
        context = server.tls.context if server.tls else None
        names = server.names if server.tls else ()
        if server.http:
            http = Http(
                stat_prefix=f"outbound_{place[0] or self.wildcard}_{place[1]};",
                rds=table_name(server, place),
                grpc_web=bridged and server.protocol.is_http,
                tokens=self.tokens,
                limits=self.limits,
            )
            yield Chain(name="", match=ChainMatch(server_names=names), tls=context, http=http)
            return
        for route in self._routes(server, names):
            match = ChainMatch(prefixes=route.subnets, server_names=route.server_names)
            tcp = replace(route.tcp, mongo=server.protocol is Protocol.MONGO)
            yield Chain(name="", match=match, tls=context, tcp=tcp, origin=route.origin)
        if server.tls is not None and server.tls.handling is Handling.AUTO_PASSTHROUGH:
            yield from self._by_name(server)

    def _routes(self, server: Server, names: tuple[str, ...]) -> Iterator[L4Route]:
        """The routes of a server that hands bytes on: by its tcp rules, or by the tls rules where TLS goes through."""
        resolver = replace(self.resolver, port=server.port)
        if server.tls is None or server.ends_tls:
            for route in gateway_routes.tcp(server, self.index, self.client, resolver):
                yield replace(route, server_names=names)
        elif server.tls.handling is Handling.PASSTHROUGH:
            yield from gateway_routes.tls(server, self.index, self.client, resolver)

    def _by_name(self, server: Server) -> Iterator[Chain]:
        """A chain for each cluster whose host the server has; its SNI is the cluster's name.

        No client names a host with ``*``, and Envoy refuses the whole listener of a chain that asks for it.
        """
        for cluster in (one for one in self.by_name if "*" not in one.name):
            if any(hosts.matches(name, service.host) for _, name in server.hosts for service in cluster.services):
                match = ChainMatch(server_names=(cluster.name,), application_protocols=MESH_APPLICATION_PROTOCOLS)
                to = Tcp(stat_prefix=cluster.name, clusters=(WeightedCluster(cluster=cluster.name),))
                yield Chain(name="", match=match, tcp=to)


def used(chains: Iterable[Chain], tables: Iterable[RouteTable]) -> frozenset[str]:
    """Names of the clusters that chains and tables lead to, of those they ask, and the one that closes connections.

    Row D18.
    """
    found = {clusters.BLACKHOLE}
    for chain in chains:
        guard = chain.http.authorization if chain.http else chain.tcp.authorization if chain.tcp else None
        found.update(guard.clusters if guard else ())
        found.update(one.cluster for one in (chain.tcp.clusters if chain.tcp else ()))
        found.update(one.remote.cluster for one in (chain.http.tokens if chain.http else ()) if one.remote)
    for table in tables:
        for route in (route for host in table.virtual_hosts for route in host.routes):
            found.update(destination.cluster for destination in route.leads)
    return frozenset(found)
