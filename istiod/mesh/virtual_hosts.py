"""Virtual hosts of sidecars: one for each service of a port, and for hosts that only VirtualServices name.

Domains are left to the table (domains.py, route_tables.py); routes are http_routes'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from istiod.mesh import clusters, hosts, http_routes
from istiod.mesh.conditions import Client
from istiod.mesh.http_routes import Resolver
from istiod.mesh.recall import Recall
from istiod.mesh.route import Route
from istiod.mesh.service import Service
from istiod.mesh.virtual_services import VirtualService, VirtualServiceIndex

HTTP_PORT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A virtual host before it has domains. ``service`` is None for a host that no service of the port has."""

    host: str
    routes: tuple[Route, ...]
    service: Service | None = None
    ruled: bool = False
    """A VirtualService names it: it comes before the others when domains are given out (as in Istio)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finder:
    """Finds the routes of hosts for one class of clients and the resolver's port."""

    index: VirtualServiceIndex
    client: Client
    resolver: Resolver
    recall: Recall

    def of_service(self, service: Service) -> Candidate:
        """The routes of the VirtualService that speaks for a service, else its default one."""
        rules = self.index.for_sidecar(service.host, self.client.namespace)
        own = clusters.cluster_name(clusters.OUTBOUND, "", service.host, self.resolver.port)
        inputs = (service, self.resolver.clusters.get(own), *self.resolver.inputs(rules))
        name = self._name("service") if rules else ("service", self.resolver.port)
        return self.recall.of(name, inputs, lambda: self._of_service(service, rules))

    def _of_service(self, service: Service, rules: tuple[VirtualService, ...]) -> Candidate:
        ruled = self._first(rules)
        return Candidate(
            host=service.host,
            routes=ruled or (http_routes.default(self.resolver, service),),
            service=service,
            ruled=bool(ruled),
        )

    def of_aliases(self, aliases: Iterable[Service]) -> Iterator[Candidate]:
        """A candidate for each second name that a VirtualService speaks for; the others are names of their service."""
        for alias in aliases:
            if routes := self._first(self.index.for_sidecar(alias.host, self.client.namespace)):
                yield Candidate(host=alias.host, routes=routes, service=alias, ruled=True)

    def of_hosts(self, taken: frozenset[str]) -> Iterator[Candidate]:
        """On port 80 also hosts that VirtualServices name and no service of the port has.

        So a rule gives a name to a destination without a ServiceEntry (Istio does it on port 80 only). Patterns that
        hold a service speak for it, and are no hosts of their own.
        """
        if self.resolver.port != HTTP_PORT:
            return
        for rules in self.index.in_mesh(self.client.namespace):
            left = [host for host in rules.hosts if not _speaks_for_one(host, taken)]
            routes = self._routes(rules) if left else ()
            yield from (Candidate(host=host, routes=routes, ruled=True) for host in left if routes)

    def _first(self, several: Iterable[VirtualService]) -> tuple[Route, ...]:
        """The routes of the first VirtualService that has any for this client and port; () when none has."""
        return next((found for one in several if (found := self._routes(one))), ())

    def _routes(self, rules: VirtualService) -> tuple[Route, ...]:
        inputs = self.resolver.inputs((rules,))
        return self.recall.of(
            self._name("routes"), inputs, lambda: http_routes.routes(rules, self.client, self.resolver)
        )

    def _name(self, kind: str) -> tuple[object, ...]:
        return (kind, self.client, self.resolver.port)


def _speaks_for_one(host: str, taken: frozenset[str]) -> bool:
    return host in taken or (hosts.is_wildcard(host) and any(hosts.matches(host, name) for name in taken))
