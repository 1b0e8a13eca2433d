"""Route tables of sidecars: one for each HTTP port, one for each sniffed service with an address (rows F2, S74, R2).

A table is a function of its own services and of the VirtualServices for them; a change of another host leaves it equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from istiod.mesh import clusters, domains, dynamic_dns
from istiod.mesh.conditions import Client
from istiod.mesh.http_routes import Resolver
from istiod.mesh.outbound_listeners import Piece
from istiod.mesh.recall import Recall
from istiod.mesh.route import ANY, Destination, DirectResponse, Route, RouteTable, VirtualHost, WeightedDestination
from istiod.mesh.scope import Cluster
from istiod.mesh.service import Resolution, Service
from istiod.mesh.settings import MeshSettings, OutboundMode
from istiod.mesh.virtual_hosts import HTTP_PORT, Candidate, Finder, speaks_http
from istiod.mesh.virtual_services import VirtualServiceIndex

EVERY_DOMAIN = "*"
_Spelling = Callable[[domains.Names, int], domains.Names]
_BAD_GATEWAY = 502
_NOWHERE = ""
"""The namespace of clients that no short name belongs to."""

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


_REST = {
    OutboundMode.ALLOW_ANY: _ALLOW_ANY,
    OutboundMode.ALLOW_ANY_DYNAMIC_DNS: dynamic_dns.ANY_HOST,
    OutboundMode.REGISTRY_ONLY: _BLOCK_ALL,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Base:
    """A port's table as clients see it that live with none of its services: own short names are missing.

    ``places`` is where a virtual host stands, by name; ``short`` are domains without a dot, also as pods' names
    end with them.
    """

    table: RouteTable
    places: Mapping[str, int]
    short: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Makes the route tables of one scope. ``aliases`` are ExternalName Services.

    ``client`` sees rules as perspective.of says; ``namespace`` is its own.
    """

    index: VirtualServiceIndex
    client: Client
    namespace: str
    recall: Recall
    settings: MeshSettings
    aliases: tuple[Service, ...]

    def tables(
        self, owners: Mapping[str, Piece], sharing: Mapping[int, Resolver], upstream: Mapping[str, Cluster]
    ) -> Iterator[tuple[str, RouteTable]]:
        """The tables that the HTTP requests of listeners' parts go to, by name.

        Args:
            owners: name -> the part that the table is for.
            sharing: port -> who resolves destinations there: its services share the port.
            upstream: the scope's clusters.
        """
        bases = self.recall.of_many(
            ("tables", self.client),
            (owners, self.index, self.aliases, self.settings, upstream),
            lambda: {rds: self._base(piece, sharing[piece.port.number]) for rds, piece in owners.items()},
        )
        for rds, base in bases.items():
            if isinstance(base, RouteTable):
                yield rds, base
            else:
                resolver = sharing[owners[rds].port.number]
                inputs = (base, self.aliases, resolver.services, self.settings)
                make = partial(self._local, base, resolver)
                yield rds, self.recall.of_many(("table", self.client, self.namespace), inputs, make)

    def _base(self, piece: Piece, resolver: Resolver) -> _Base | RouteTable:
        """What the tables of all namespaces are made from; a service's own table is the same for all."""
        finder = self._finder(resolver)
        if piece.rds != str(resolver.port):
            return self._table(
                piece.rds, [self._host(finder.of_service(piece.service), resolver.port, (EVERY_DOMAIN,))]
            )
        table = self._table(piece.rds, self._of_port(finder, _NOWHERE))
        return self.recall.of_many("base", (table,), lambda: _base_of(table))

    def _local(self, base: _Base, resolver: Resolver) -> RouteTable:
        """The table with the short names of the client's own services, as if all had been given out together."""
        dns_domain, found = self.settings.dns_domain, resolver.services
        homes = self.recall.of_many(("homes", dns_domain), (found,), lambda: _homes(found, dns_domain))
        places = [(base.places.get(f"{host}:{resolver.port}"), name) for host, name in homes.get(self.namespace, ())]
        own = {place: name for place, name in places if place is not None}
        lends = any(domains.short(alias.host, dns_domain)[1] == self.namespace for alias in self.aliases)
        names = [name.lower() for name in own.values()]  # Envoy takes no notice of case
        alone = base.short.isdisjoint(names) and len(frozenset(names)) == len(names)
        if lends or not alone:
            return self._table(base.table.name, self._of_port(self._finder(resolver), self.namespace))
        if not own:
            return base.table
        hosts = list(base.table.virtual_hosts)
        for place, name in own.items():
            hosts[place] = self._renamed(hosts[place], name)
        return self._table(base.table.name, hosts)

    def _renamed(self, host: VirtualHost, name: str) -> VirtualHost:
        """The virtual host of a service that its own namespace's clients also know by a short name."""
        full = host.name.rpartition(":")[0]
        given: domains.Names = host.domains
        for before in ("", domains.PODS):
            leading = (f"{before}{full}", f"{before}{full}.")
            at = max((i + 1 for i, domain in enumerate(given) if domain in leading), default=0)
            given = (*given[:at], *((f"{before}{name}",) if at else ()), *given[at:])
        return self.recall.of("short name", (host,), lambda: replace(host, domains=given))

    def _table(self, name: str, hosts: Iterable[VirtualHost]) -> RouteTable:
        found = tuple(hosts)
        return self.recall.of_many(("hosts", name), found, lambda: RouteTable(name=name, virtual_hosts=found))

    def _finder(self, resolver: Resolver) -> Finder:
        return Finder(index=self.index, client=self.client, resolver=resolver, recall=self.recall)

    def proxy_table(self, name: str, resolvers: Iterable[Resolver], *, by_port: bool) -> RouteTable:
        """The table of an HTTP proxy: the services of all ports (one resolver each).

        Without a port a name means port 80. ``by_port``: the port that is asked for counts; else Envoy ignores it, as
        on Istio, and a name means port 80 with a port, too.
        """
        hosts: list[VirtualHost] = []
        for resolver in resolvers:
            finder = self._finder(resolver)
            hosts += self._hosts(finder, self._candidates(finder), _qualified, self.namespace)
        table = self._table(name, [*hosts, *_rest(hosts, self.settings)])
        return replace(table, ignore_port=False) if by_port else table

    def _of_port(self, finder: Finder, namespace: str) -> list[VirtualHost]:
        """All HTTP and undeclared services of a port, hosts of rules, and what happens to all others."""
        candidates = [*finder.of_hosts(), *self._candidates(finder)]
        hosts = list(self._hosts(finder, candidates, _plain, namespace))
        return [*hosts, *_rest(hosts, self.settings)]

    def _candidates(self, finder: Finder) -> list[Candidate]:
        """The HTTP and undeclared services of a port, and second names that a rule speaks for."""
        resolver = finder.resolver
        here = resolver.services.values()
        return [
            *(finder.of_service(one) for one in here if not is_alias(one) and speaks_http(one, resolver.port)),
            *finder.of_aliases(filter(is_alias, here)),
        ]

    def _hosts(
        self, finder: Finder, candidates: list[Candidate], spell: _Spelling, namespace: str
    ) -> Iterator[VirtualHost]:
        """The candidates with the domains that are left to them, as clients of a namespace spell them.

        Second names are names of the service that they stand for, unless a VirtualService speaks for them.
        """
        resolver = finder.resolver
        ruled = {one.host for one in candidates if one.service is not None}
        lent: dict[str, tuple[Service, ...]] = {}
        for alias in (one for one in self.aliases if one.host not in ruled):
            lent[alias.external_name] = (*lent.get(alias.external_name, ()), alias)
        ledger = domains.Ledger(frozenset(one.host.lower() for one in candidates if one.service is not None))
        for candidate in sorted(candidates, key=lambda one: one.place(self.client.namespace)):
            names = self._names(candidate, lent.get(candidate.host, ()), namespace)
            if given := ledger.give(names, candidate.host.lower()):
                yield self._host(candidate, resolver.port, spell(given, resolver.port))

    def _names(self, candidate: Candidate, lent: tuple[Service, ...], namespace: str) -> tuple[str, ...]:
        service, dns_domain = candidate.service, self.settings.dns_domain
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


def _base_of(table: RouteTable) -> _Base:
    return _Base(
        table=table,
        places={host.name: place for place, host in enumerate(table.virtual_hosts)},
        short=frozenset(
            name.lower()
            for host in table.virtual_hosts
            for domain in host.domains
            if "." not in (name := domain.removeprefix(domains.PODS))
        ),
    )


def _homes(hosts: Iterable[str], dns_domain: str) -> Mapping[str, list[tuple[str, str]]]:
    """Hosts with their short names, by the namespace in which these count."""
    found: dict[str, list[tuple[str, str]]] = {}
    for host in hosts:
        name, home = domains.short(host, dns_domain)
        if home:
            found.setdefault(home, []).append((host, name))
    return found


def _rest(hosts: Iterable[VirtualHost], settings: MeshSettings) -> Iterator[VirtualHost]:
    """What happens to requests for hosts that nobody declared; nothing where a host is every host."""
    if any(EVERY_DOMAIN in host.domains for host in hosts):
        return
    if settings.outbound is OutboundMode.ALLOW_ANY and settings.egress_proxy:
        yield _by_way_of(settings.egress_proxy)
    else:
        yield _REST[settings.outbound]


def _by_way_of(cluster: str) -> VirtualHost:
    """Any host, through the egress proxy that a Sidecar names."""
    destination = Destination(cluster=cluster, host=cluster, port=0)
    route = replace(_ALLOW_ANY.routes[0], destinations=(WeightedDestination(destination=destination, weight=1),))
    return replace(_ALLOW_ANY, routes=(route,))


def _plain(given: domains.Names, _port: int) -> domains.Names:
    return given


def _qualified(given: domains.Names, port: int) -> domains.Names:
    """The names with the port, and without it where it is HTTP's own."""
    own = given if port == HTTP_PORT else ()
    return (*own, *(f"{name}:{port}" for name in given))


def is_alias(service: Service) -> bool:
    """Whether it is a second name of another host, with no endpoints of its own."""
    return service.resolution is Resolution.ALIAS
