"""TLS and TCP rules for one class of clients and one port (features rows F17, F18).

What is left is what Envoy decides: server name and destination address. Everything else stands in the rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from istiod.config.origin import Origin
from istiod.mesh import dynamic_dns
from istiod.mesh.conditions import MESH, Client
from istiod.mesh.http_routes import Resolver
from istiod.mesh.l4_rules import L4Match, L4Rule
from istiod.mesh.scope import Tcp, WeightedCluster
from istiod.mesh.virtual_services import VirtualService


@dataclass(frozen=True, slots=True, kw_only=True)
class L4Route:
    """Where connections go that have one of these server names and destination subnets; empty parts do not look."""

    tcp: Tcp
    server_names: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    origin: Origin | None = None


def tls(candidates: Iterable[VirtualService], client: Client, resolver: Resolver) -> tuple[L4Route, ...]:
    """The routes of all tls rules for this client and port; () when there is none."""
    return tuple(
        L4Route(
            tcp=_tcp(one, rule, resolver),
            server_names=match.server_names,
            subnets=_subnets(match, client),
            origin=rule.origin,
        )
        for one in candidates
        for rule in one.tls
        for match in rule.matches
        if match.source.holds_connection(client, resolver.port)
    )


def tcp(candidates: Iterable[VirtualService], client: Client, resolver: Resolver) -> tuple[L4Route, ...]:
    """The routes of the tcp rules; one without subnets takes every connection and ends the list."""
    found: list[L4Route] = []
    for one in candidates:
        for rule in one.tcp:
            matches = [match for match in rule.matches if match.source.holds_connection(client, resolver.port)]
            route = L4Route(tcp=_tcp(one, rule, resolver), origin=rule.origin)
            if any(not _subnets(match, client) for match in matches):
                return (*found, route)
            if subnets := tuple(dict.fromkeys(subnet for match in matches for subnet in match.subnets)):
                found.append(L4Route(tcp=route.tcp, subnets=subnets, origin=rule.origin))
    return tuple(found)


def _subnets(match: L4Match, client: Client) -> tuple[str, ...]:
    """The destinations that a match asks for: none at a gateway, whose connections all go to its own pod."""
    return match.subnets if MESH in client.gateways else ()


def _tcp(rules: VirtualService, rule: L4Rule, resolver: Resolver) -> Tcp:
    """The destinations of a rule. To one that does not exist connections are closed."""
    shares = []
    for share in rule.shares:
        to = resolver.destination(share.target)
        shares.append(WeightedCluster(cluster=to.cluster, weight=share.weight, known=to.known))
    stat_prefix = (
        resolver.stat_name(shares[0].cluster) if len(shares) == 1 else f"{rules.key.name}.{rules.key.namespace}"
    )
    return leading_to(tuple(shares), stat_prefix, resolver)


def leading_to(shares: tuple[WeightedCluster, ...], stat_prefix: str, resolver: Resolver) -> Tcp:
    """Connections that go to these clusters; the first one's policy says how long they may be idle.

    One that is picked by the client's address is enough for all to be (Istio: maybeSetHashPolicy).
    Only a single destination is reached through a tunnel (as on Istio).
    """
    return Tcp(
        stat_prefix=stat_prefix,
        clusters=shares,
        idle_timeout=resolver.idle_timeout(shares[0].cluster),
        lookups=dynamic_dns.lookups(shares, resolver.clusters),
        hash_source=any(resolver.hashes_source(share.cluster) for share in shares),
        tunnel=resolver.tunnel(shares[0].cluster) if len(shares) == 1 else None,
    )
