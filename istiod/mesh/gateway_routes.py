"""Route tables of routers: the VirtualServices bound to the servers of one port (features rows E3, E5, F1, F19).

Several VirtualServices for one host are merged, in the order in which they count; a host that only redirects to https
needs none. Hosts with the same routes are one virtual host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from crds.key import ConfigKey
from istiod.mesh import hosts, http_routes, l4_routes
from istiod.mesh.conditions import Client, Condition
from istiod.mesh.gateway_servers import Server
from istiod.mesh.http_routes import Resolver
from istiod.mesh.l4_routes import L4Route
from istiod.mesh.route import Route, RouteTable, VirtualHost
from istiod.mesh.virtual_services import VirtualService, VirtualServiceIndex


@dataclass(slots=True)
class _Host:
    port: int
    routes: list[Route] = field(default_factory=list)
    require_tls: bool = False


def table(
    name: str, servers: Sequence[Server], index: VirtualServiceIndex, client: Client, resolver: Resolver
) -> RouteTable:
    """The table of the HTTP servers that share a listener, or of one HTTPS server; each resolves with its own port.

    A host is named after the port of the first server that has it. One without routes answers 404; so does every host
    where nothing is bound at all.
    """
    found: dict[str, _Host] = {}
    made: dict[tuple[str, int, ConfigKey], tuple[Route, ...]] = {}
    for server in servers:
        own = replace(resolver, port=server.port)
        for rules, names in bound(server, index, client):
            place = (server.gateway_name, server.port, rules.key)
            if place not in made:
                routes = http_routes.routes(rules, _at(client, server), own, tls=server.ends_tls)
                made[place] = tuple(replace(route, at_gateway=True) for route in routes)
            for host in names if made[place] else ():
                one = found.setdefault(host, _Host(port=server.port))
                one.routes += made[place]
                one.require_tls |= server.https_redirect
        for _, host in server.hosts if server.https_redirect else ():
            found.setdefault(host, _Host(port=server.port)).require_tls = True
    several = tuple(_virtual_hosts(found))
    return RouteTable(name=name, virtual_hosts=several or (_nothing(servers[0].port),))


def tcp(server: Server, index: VirtualServiceIndex, client: Client, resolver: Resolver) -> tuple[L4Route, ...]:
    """The tcp rules that are bound to a server."""
    rules = [one for one, _ in bound(server, index, client)]
    return l4_routes.tcp(rules, _at(client, server), resolver)


def tls(server: Server, index: VirtualServiceIndex, client: Client, resolver: Resolver) -> tuple[L4Route, ...]:
    """The tls rules that are bound to a server."""
    rules = [one for one, _ in bound(server, index, client)]
    return l4_routes.tls(rules, _at(client, server), resolver)


def bound(
    server: Server, index: VirtualServiceIndex, client: Client
) -> Iterator[tuple[VirtualService, tuple[str, ...]]]:
    """The VirtualServices bound to a server that routers of this client's namespace see, and the hosts they share."""
    for rules in index.for_gateway(server.gateway_name, client.namespace):
        if names := shared_hosts(server, rules):
            yield rules, names


def shared_hosts(server: Server, rules: VirtualService) -> tuple[str, ...]:
    """The hosts that both speak of: of two patterns the narrower one (Istio: Names.Intersection)."""
    open_here = [name for home, name in server.hosts if home in ("", rules.key.namespace)]
    pairs = [(mine, theirs) for mine in open_here for theirs in rules.hosts]
    found = [
        mine if hosts.matches(theirs, mine) else theirs
        for mine, theirs in pairs
        if hosts.matches(theirs, mine) or hosts.matches(mine, theirs)
    ]
    return tuple(dict.fromkeys(found))


def _at(client: Client, server: Server) -> Client:
    return Client(namespace=client.namespace, gateways=frozenset({server.gateway_name}), selectors=client.selectors)


def _virtual_hosts(found: Mapping[str, _Host]) -> list[VirtualHost]:
    """One virtual host for all hosts with the same routes, named after the first (Istio: collapseDuplicateRoutes)."""
    domains: dict[str, list[str]] = {}
    last: dict[tuple[int, ...], str] = {}
    for host in sorted(found, key=_leading):
        routes = tuple(map(id, found[host].routes))
        first = last.get(routes)
        if first is not None and found[first].require_tls == found[host].require_tls:
            domains[first].append(host)
        else:
            last[routes], domains[host] = host, [host]
    return sorted((_virtual_host(found[host], names) for host, names in domains.items()), key=lambda one: one.name)


def _leading(host: str) -> tuple[bool, int, str]:
    """Sort key of hosts: patterns last, long ones first, then by name (Istio: host.Names)."""
    return hosts.is_wildcard(host), -len(host), host


def _virtual_host(made: _Host, names: Sequence[str]) -> VirtualHost:
    """Routes that catch everything go last, so that merged VirtualServices do not hide each other's rules."""
    return VirtualHost(
        name=f"{names[0]}:{made.port}",
        domains=tuple(names),
        routes=tuple(sorted(made.routes, key=lambda route: Condition(match=route.match).catches_all)),
        require_tls=made.require_tls,
    )


def _nothing(port: int) -> VirtualHost:
    return VirtualHost(name=f"blackhole:{port}", domains=("*",), routes=())
