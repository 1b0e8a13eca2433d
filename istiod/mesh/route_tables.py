"""Route tables of sidecars: one for each HTTP port, one for each sniffed service with an address (rows F2, S74, R2).

A table is a function of its own services and of the VirtualServices for them; a change of another host leaves it equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from istiod.mesh import clusters, domains
from istiod.mesh.conditions import Client
from istiod.mesh.http_routes import Resolver
from istiod.mesh.outbound_listeners import Piece
from istiod.mesh.recall import Recall
from istiod.mesh.route import ANY, Destination, DirectResponse, Route, RouteTable, VirtualHost, WeightedDestination
from istiod.mesh.service import Protocol, Resolution, Service
from istiod.mesh.settings import OutboundMode
from istiod.mesh.virtual_hosts import Candidate, Finder
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Makes the route tables of one scope. ``aliases`` are ExternalName Services."""

    index: VirtualServiceIndex
    client: Client
    recall: Recall
    aliases: tuple[Service, ...]

    def table(self, piece: Piece, resolver: Resolver) -> RouteTable:
        """The table that the HTTP requests of a listener's part go to; the resolver's services share its port."""
        finder = Finder(index=self.index, client=self.client, resolver=resolver, recall=self.recall)
        if piece.rds == str(resolver.port):
            hosts = tuple(self._of_port(finder))
        else:
            hosts = (self._host(finder.of_service(piece.service), resolver.port, (EVERY_DOMAIN,)),)
        return self.recall.of(piece.rds, hosts, lambda: RouteTable(name=piece.rds, virtual_hosts=hosts))

    def _of_port(self, finder: Finder) -> Iterator[VirtualHost]:
        """All HTTP and undeclared services of a port, hosts of rules, and what happens to all others.

        Second names are names of the service that they stand for, unless a VirtualService speaks for them.
        """
        resolver = finder.resolver
        here = resolver.services.values()
        candidates = [
            *finder.of_hosts(frozenset(resolver.services)),
            *(finder.of_service(one) for one in here if not is_alias(one) and _speaks_http(one, resolver.port)),
            *finder.of_aliases(filter(is_alias, here)),
        ]
        ruled = {one.host for one in candidates if one.service is not None}
        lent: dict[str, tuple[Service, ...]] = {}
        for alias in (one for one in self.aliases if one.host not in ruled):
            lent[alias.external_name] = (*lent.get(alias.external_name, ()), alias)
        ledger = domains.Ledger(frozenset(one.host.lower() for one in candidates))
        for candidate in sorted(candidates, key=lambda one: not one.ruled):
            names = self._names(candidate, lent.get(candidate.host, ()), resolver.settings.dns_domain)
            if given := ledger.give(names, candidate.host.lower()):
                yield self._host(candidate, resolver.port, given)
        rest = _ALLOW_ANY if resolver.settings.outbound is OutboundMode.ALLOW_ANY else _BLOCK_ALL
        if ledger.give(rest.domains, EVERY_DOMAIN):
            yield rest

    def _names(self, candidate: Candidate, lent: tuple[Service, ...], dns_domain: str) -> tuple[str, ...]:
        service, namespace = candidate.service, self.client.namespace
        if service is None:
            return (candidate.host,)
        return self.recall.of(
            ("names", namespace, dns_domain),
            (service, *lent),
            lambda: (
                *domains.of_service(service, namespace, dns_domain),
                *(name for alias in lent for name in domains.of_host(alias.host, namespace, dns_domain)),
            ),
        )

    def _host(self, candidate: Candidate, port: int, given: tuple[str, ...]) -> VirtualHost:
        name = f"{candidate.host}:{port}"
        return self.recall.of(
            (name, given),
            (candidate.routes,),
            lambda: VirtualHost(name=name, domains=given, routes=candidate.routes),
        )


def _speaks_http(service: Service, number: int) -> bool:
    port = service.port(number)
    return port is not None and (port.protocol.is_http or port.protocol is Protocol.UNSUPPORTED)


def is_alias(service: Service) -> bool:
    """Whether it is a second name of another host, with no endpoints of its own."""
    return service.resolution is Resolution.ALIAS
