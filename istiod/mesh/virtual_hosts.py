"""Virtual hosts of sidecars: one for each service of a port, and for hosts that only VirtualServices name.

Domains are left to the table (domains.py, route_tables.py); routes are http_routes'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from istiod.mesh import clusters, creation, hosts, http_routes
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
    by: VirtualService | None = None
    """The VirtualService that its routes are from; None: they are the service's own."""

    def place(self, namespace: str) -> tuple[bool, tuple[int, creation.Age] | tuple[()], bool]:
        """Sort key: who has the choice when domains are given out to clients of ``namespace``.

        VirtualServices come first, in the order in which they count; of one its hosts without a service (as in Istio).
        """
        return self.by is None, self.by.place(namespace) if self.by else (), self.service is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finder:
    """Finds the routes of hosts for one class of clients and the resolver's port."""

    index: VirtualServiceIndex
    client: Client
    resolver: Resolver
    recall: Recall

    def of_service(self, service: Service) -> Candidate:
        """The routes of the VirtualService that speaks for a service, else its default one."""
        rules = self.index.for_requests(service.host, self.client.namespace)
        own = clusters.cluster_name(clusters.OUTBOUND, "", service.host, self.resolver.port)
        inputs = (service, self.resolver.clusters.get(own), *self.resolver.inputs(rules))
        name = self._name("service") if rules else ("service", self.resolver.port)
        return self.recall.of(name, inputs, lambda: self._of_service(service, rules))

    def _of_service(self, service: Service, rules: tuple[VirtualService, ...]) -> Candidate:
        by, routes = self._first(rules)
        return Candidate(
            host=service.host, routes=routes or (http_routes.default(self.resolver, service),), service=service, by=by
        )

    def of_aliases(self, aliases: Iterable[Service]) -> Iterator[Candidate]:
        """A candidate for each second name that a VirtualService speaks for; the others are names of their service."""
        for alias in aliases:
            by, routes = self._first(self.index.for_requests(alias.host, self.client.namespace))
            if by is not None:
                yield Candidate(host=alias.host, routes=routes, service=alias, by=by)

    def of_hosts(self) -> Iterator[Candidate]:
        """Hosts that VirtualServices name and no service of the port has.

        On port 80 all of them: so a rule gives a name to a destination without a ServiceEntry. On other ports those of
        a VirtualService that speaks for a service there as well (as in Istio). Patterns that hold a service speak for
        it, and are no hosts of their own.
        """
        by_default, namespace = self.resolver.port == HTTP_PORT, self.client.namespace
        several = self.index.in_mesh(namespace) if by_default else self.index.naming_several(namespace)
        for rules in several:
            left = [host for host in rules.hosts if not self._taken(host)]
            if left and (by_default or self._serves(rules)) and (routes := self._routes(rules)):
                yield from (Candidate(host=host, routes=routes, by=rules) for host in left)

    def _taken(self, host: str) -> bool:
        """Whether a host or pattern speaks for services of the port."""
        here = self.resolver.services
        return host in here or (hosts.is_wildcard(host) and any(hosts.matches(host, name) for name in here))

    def _serves(self, rules: VirtualService) -> bool:
        """Whether a VirtualService speaks for a service that takes HTTP at the port."""
        here = self.resolver.services
        exact = [name for name in rules.hosts if name in here]
        patterns = [name for name in rules.hosts if hosts.is_wildcard(name)]
        held = (name for name in here if any(hosts.matches(pattern, name) for pattern in patterns))
        return any(
            any(one is rules for one in self.index.for_requests(name, self.client.namespace))
            for name in (*exact, *held)
            if speaks_http(here[name], self.resolver.port)
        )

    def _first(self, several: Iterable[VirtualService]) -> tuple[VirtualService | None, tuple[Route, ...]]:
        """The first VirtualService with routes for this client and port, and these; (None, ()) when none has."""
        return next(((one, found) for one in several if (found := self._routes(one))), (None, ()))

    def _routes(self, rules: VirtualService) -> tuple[Route, ...]:
        inputs = self.resolver.inputs((rules,))
        return self.recall.of(
            self._name("routes"), inputs, lambda: http_routes.routes(rules, self.client, self.resolver)
        )

    def _name(self, kind: str) -> tuple[object, ...]:
        return (kind, self.client, self.resolver.port)


def speaks_http(service: Service, number: int) -> bool:
    """Whether a service has a port of that number that takes HTTP, or may: it is not declared."""
    port = service.port(number)
    return port is not None and port.protocol.may_be_http
