"""Virtual hosts of sidecars: one for each service of a port, and for hosts that only VirtualServices name.

Domains are left to the table (domains.py, route_tables.py); routes are http_routes'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from istiod.mesh import hosts, http_routes
from istiod.mesh.conditions import Client
from istiod.mesh.http_routes import Resolver
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


def of_services(
    index: VirtualServiceIndex, client: Client, resolver: Resolver, services: Iterable[Service]
) -> Iterator[Candidate]:
    """A candidate for each service: the routes of the VirtualService that speaks for it, else the default one."""
    for service in services:
        ruled = first_routes(index.for_sidecar(service.host, client.namespace), client, resolver)
        yield Candidate(
            host=service.host,
            routes=ruled or (http_routes.default(resolver, service),),
            service=service,
            ruled=bool(ruled),
        )


def of_aliases(
    index: VirtualServiceIndex, client: Client, resolver: Resolver, aliases: Iterable[Service]
) -> Iterator[Candidate]:
    """A candidate for each second name that a VirtualService speaks for; the others are names of their service."""
    for alias in aliases:
        if routes := first_routes(index.for_sidecar(alias.host, client.namespace), client, resolver):
            yield Candidate(host=alias.host, routes=routes, service=alias, ruled=True)


def of_hosts(
    index: VirtualServiceIndex, client: Client, resolver: Resolver, taken: frozenset[str]
) -> Iterator[Candidate]:
    """On port 80 also hosts that VirtualServices name and no service of the port has.

    So a rule gives a name to a destination without a ServiceEntry (Istio does it on port 80 only). Patterns that hold a
    service speak for it, and are no hosts of their own.
    """
    if resolver.port != HTTP_PORT:
        return
    for rules in index.in_mesh(client.namespace):
        for host in rules.hosts:
            if host in taken or any(_holds(host, name) for name in taken):
                continue
            if routes := http_routes.routes(rules, client, resolver):
                yield Candidate(host=host, routes=routes, ruled=True)


def first_routes(candidates: Iterable[VirtualService], client: Client, resolver: Resolver) -> tuple[Route, ...]:
    """The routes of the first VirtualService that has any for this client and port; () when none has."""
    return next((found for one in candidates if (found := http_routes.routes(one, client, resolver))), ())


def _holds(pattern: str, name: str) -> bool:
    return hosts.is_wildcard(pattern) and hosts.matches(pattern, name)
