"""Route tables of sidecars: one for each HTTP port, one for each sniffed service with an address (rows F2, S74, R2).

A table is a function of its own services and of the VirtualServices for them; a change of another host leaves it equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from istiod.mesh import clusters, domains, virtual_hosts
from istiod.mesh.conditions import Client
from istiod.mesh.http_routes import Resolver
from istiod.mesh.route import ANY, Destination, DirectResponse, Route, RouteTable, VirtualHost, WeightedDestination
from istiod.mesh.service import Protocol, Resolution, Service
from istiod.mesh.settings import OutboundMode
from istiod.mesh.virtual_hosts import Candidate
from istiod.mesh.virtual_services import VirtualServiceIndex

EVERY_DOMAIN = "*"
_BAD_GATEWAY = 502

_ALLOW_ANY = VirtualHost(
    name="allow_any",
    domains=(EVERY_DOMAIN,),
    routes=(
        Route(
            name="allow_any",
            match=ANY,
            origin=None,
            destinations=(
                WeightedDestination(
                    destination=Destination(cluster=clusters.PASSTHROUGH, host=clusters.PASSTHROUGH, port=0), weight=1
                ),
            ),
        ),
    ),
)
_BLOCK_ALL = VirtualHost(
    name="block_all",
    domains=(EVERY_DOMAIN,),
    routes=(Route(name="block_all", match=ANY, origin=None, direct_response=DirectResponse(status=_BAD_GATEWAY)),),
)


def of_port(
    index: VirtualServiceIndex, client: Client, resolver: Resolver, aliases: Iterable[Service] = ()
) -> RouteTable:
    """The table ``PORT`` of all HTTP and undeclared services on the resolver's port.

    ``aliases`` are ExternalName Services; they lend their names to the service that they stand for, unless a
    VirtualService speaks for them.
    """
    services = [one for one in resolver.services.values() if not is_alias(one) and _speaks_http(one, resolver.port)]
    candidates = [
        *virtual_hosts.of_hosts(index, client, resolver, frozenset(resolver.services)),
        *virtual_hosts.of_services(index, client, resolver, services),
        *virtual_hosts.of_aliases(index, client, resolver, filter(is_alias, resolver.services.values())),
    ]
    ruled = {one.host for one in candidates}
    aliases = [one for one in aliases if one.host not in ruled]
    ledger = domains.Ledger(frozenset(one.host.lower() for one in candidates))
    found = []
    for candidate in sorted(candidates, key=lambda one: not one.ruled):
        names = tuple(_names(candidate, client.namespace, resolver.settings.dns_domain, aliases))
        if given := ledger.give(names, candidate.host.lower()):
            found.append(VirtualHost(name=f"{candidate.host}:{resolver.port}", domains=given, routes=candidate.routes))
    rest = _ALLOW_ANY if resolver.settings.outbound is OutboundMode.ALLOW_ANY else _BLOCK_ALL
    if ledger.give(rest.domains, EVERY_DOMAIN):
        found.append(rest)
    return RouteTable(name=str(resolver.port), virtual_hosts=tuple(found))


def of_sniffed(index: VirtualServiceIndex, client: Client, resolver: Resolver, service: Service) -> RouteTable:
    """The table ``HOST:PORT`` of one service whose listener is its own: every domain is that service's."""
    name = f"{service.host}:{resolver.port}"
    (candidate,) = virtual_hosts.of_services(index, client, resolver, (service,))
    host = VirtualHost(name=name, domains=(EVERY_DOMAIN,), routes=candidate.routes)
    return RouteTable(name=name, virtual_hosts=(host,))


def _speaks_http(service: Service, number: int) -> bool:
    port = service.port(number)
    return port is not None and (port.protocol.is_http or port.protocol is Protocol.UNSUPPORTED)


def _names(candidate: Candidate, namespace: str, dns_domain: str, aliases: Iterable[Service]) -> Iterator[str]:
    if candidate.service is None:
        yield candidate.host
        return
    yield from domains.of_service(candidate.service, namespace, dns_domain)
    for alias in aliases:
        if alias.external_name == candidate.host:
            yield from domains.of_host(alias.host, namespace, dns_domain)


def is_alias(service: Service) -> bool:
    """Whether it is a second name of another host, with no endpoints of its own."""
    return service.resolution is Resolution.ALIAS
