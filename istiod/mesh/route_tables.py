"""Route tables of sidecars: one for each HTTP port, one for each sniffed service with an address (rows F2, S74, R2).

A table is a function of its own services and of the VirtualServices for them; a change of another host leaves it equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from istiod.mesh import clusters, domains
from istiod.mesh.conditions import Client
from istiod.mesh.http_routes import Resolver
from istiod.mesh.outbound_listeners import Piece
from istiod.mesh.recall import Recall
from istiod.mesh.route import ANY, Destination, DirectResponse, Route, RouteTable, VirtualHost, WeightedDestination
from istiod.mesh.service import Protocol, Resolution, Service
from istiod.mesh.settings import MeshSettings, OutboundMode
from istiod.mesh.virtual_hosts import HTTP_PORT, Candidate, Finder
from istiod.mesh.virtual_services import VirtualServiceIndex

EVERY_DOMAIN = "*"
_Spelling = Callable[[domains.Names, int], domains.Names]
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
    settings: MeshSettings
    aliases: tuple[Service, ...]

    def table(self, piece: Piece, resolver: Resolver) -> RouteTable:
        """The table that the HTTP requests of a listener's part go to; the resolver's services share its port."""
        finder = Finder(index=self.index, client=self.client, resolver=resolver, recall=self.recall)
        if piece.rds == str(resolver.port):
            hosts = tuple(self._of_port(finder))
        else:
            hosts = (self._host(finder.of_service(piece.service), resolver.port, (EVERY_DOMAIN,)),)
        return self.recall.of(piece.rds, hosts, lambda: RouteTable(name=piece.rds, virtual_hosts=hosts))

    def proxy_table(self, name: str, resolvers: Iterable[Resolver]) -> RouteTable:
        """The table of an HTTP proxy: the services of all ports (one resolver each), told apart by the port asked for.

        Without a port a name means port 80.
        """
        hosts: list[VirtualHost] = []
        for resolver in resolvers:
            finder = Finder(index=self.index, client=self.client, resolver=resolver, recall=self.recall)
            hosts += self._hosts(finder, self._candidates(finder), _qualified)
        hosts += _rest(hosts, self.settings)
        return self.recall.of(name, tuple(hosts), lambda: RouteTable(name=name, virtual_hosts=tuple(hosts)))

    def _of_port(self, finder: Finder) -> list[VirtualHost]:
        """All HTTP and undeclared services of a port, hosts of rules, and what happens to all others."""
        candidates = [*finder.of_hosts(frozenset(finder.resolver.services)), *self._candidates(finder)]
        hosts = list(self._hosts(finder, candidates, _plain))
        return [*hosts, *_rest(hosts, self.settings)]

    def _candidates(self, finder: Finder) -> list[Candidate]:
        """The HTTP and undeclared services of a port, and second names that a rule speaks for."""
        resolver = finder.resolver
        here = resolver.services.values()
        return [
            *(finder.of_service(one) for one in here if not is_alias(one) and _speaks_http(one, resolver.port)),
            *finder.of_aliases(filter(is_alias, here)),
        ]

    def _hosts(self, finder: Finder, candidates: list[Candidate], spell: _Spelling) -> Iterator[VirtualHost]:
        """The candidates with the domains that are left to them.

        Second names are names of the service that they stand for, unless a VirtualService speaks for them.
        """
        resolver = finder.resolver
        ruled = {one.host for one in candidates if one.service is not None}
        lent: dict[str, tuple[Service, ...]] = {}
        for alias in (one for one in self.aliases if one.host not in ruled):
            lent[alias.external_name] = (*lent.get(alias.external_name, ()), alias)
        ledger = domains.Ledger(frozenset(one.host.lower() for one in candidates))
        for candidate in sorted(candidates, key=lambda one: not one.ruled):
            names = self._names(candidate, lent.get(candidate.host, ()), resolver.settings.dns_domain)
            if given := ledger.give(names, candidate.host.lower()):
                yield self._host(candidate, resolver.port, spell(given, resolver.port))

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


def _rest(hosts: Iterable[VirtualHost], settings: MeshSettings) -> Iterator[VirtualHost]:
    """What happens to requests for hosts that nobody declared; nothing where a host is every host."""
    if not any(EVERY_DOMAIN in host.domains for host in hosts):
        yield _ALLOW_ANY if settings.outbound is OutboundMode.ALLOW_ANY else _BLOCK_ALL


def _plain(given: domains.Names, _port: int) -> domains.Names:
    return given


def _qualified(given: domains.Names, port: int) -> domains.Names:
    """The names with the port, and without it where it is HTTP's own."""
    own = given if port == HTTP_PORT else ()
    return (*own, *(f"{name}:{port}" for name in given))


def _speaks_http(service: Service, number: int) -> bool:
    port = service.port(number)
    return port is not None and (port.protocol.is_http or port.protocol is Protocol.UNSUPPORTED)


def is_alias(service: Service) -> bool:
    """Whether it is a second name of another host, with no endpoints of its own."""
    return service.resolution is Resolution.ALIAS
