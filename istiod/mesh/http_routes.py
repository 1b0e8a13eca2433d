"""HTTP rules for one class of clients and one port: a tuple of Routes (features rows F2-F16).

Where a rule's host is found, and with which port, is the Resolver's; everything else stands in the rule already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from istiod.mesh import answers, clusters, header_operations
from istiod.mesh.conditions import Client, Condition
from istiod.mesh.http_rules import HttpRule, Share, Target
from istiod.mesh.policy import TlsMode, Tunnel
from istiod.mesh.route import ANY, Destination, MatchKind, Mirror, Route, RouteMatch, WeightedDestination
from istiod.mesh.scope import Cluster
from istiod.mesh.service import Resolution, Service
from istiod.mesh.settings import MeshSettings
from istiod.mesh.virtual_services import VirtualService

DEFAULT_NAME = "default"
_MESH_TLS = frozenset({TlsMode.AUTO, TlsMode.ISTIO_MUTUAL})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resolver:
    """What a rule's destinations mean to clients whose requests were sent to ``port``.

    ``services`` are the hosts that may lend a destination without a port their only one: on a sidecar those that share
    the port (as in Istio), on a gateway all visible ones. ``clusters`` are those that exist in the scope.
    """

    settings: MeshSettings
    port: int
    services: Mapping[str, Service]
    clusters: Mapping[str, Cluster]

    def destination(self, target: Target) -> Destination:
        """The destination of a target. One whose cluster does not exist is marked so."""
        _, host, port, cluster = self._look_up(target)
        return Destination(
            cluster=cluster.name if cluster else _name(target, host, port),
            host=host,
            port=port,
            subset=target.subset,
            mesh_tls=cluster is not None and _speaks_mesh_tls(cluster),
            in_mesh=cluster is not None and _in_mesh(cluster),
            hash_policy=cluster.policy.load_balancer.hash if cluster else None,
            known=cluster is not None,
        )

    def inputs(self, rules: Iterable[VirtualService]) -> tuple[object, ...]:
        """Everything that routes by these rules depend on, apart from port and client (for Recall)."""
        found: list[object] = [self.settings]
        for one in rules:
            found.append(one)
            for target in one.targets:
                service, _, _, cluster = self._look_up(target)
                found += (self.services.get(target.host), service, cluster)
        return tuple(found)

    def _look_up(self, target: Target) -> tuple[Service | None, str, int, Cluster | None]:
        """The service that a target leads to, the host and port that it means, and their cluster."""
        service, host = self.services.get(target.host), target.host
        if service is not None and service.resolution is Resolution.ALIAS:
            host = service.external_name
            service = self.services.get(host)
        only = service.ports[0].number if service is not None and len(service.ports) == 1 else self.port
        port = target.port or only
        return service, host, port, self.clusters.get(_name(target, host, port))

    def idle_timeout(self, name: str) -> timedelta | None:
        """How long an idle TCP connection to a cluster may stay open, where its policy says so."""
        cluster = self.clusters.get(name)
        return cluster.policy.connection_pool.tcp_idle_timeout if cluster else None

    def stat_name(self, name: str) -> str:
        """What a cluster is called in statistics."""
        cluster = self.clusters.get(name)
        return (cluster.stat_name if cluster else "") or name

    def hashes_source(self, name: str) -> bool:
        """Whether a cluster picks endpoints by the client's address: all that there is to hash of a TCP connection."""
        cluster = self.clusters.get(name)
        policy = cluster.policy.load_balancer.hash if cluster else None
        return policy is not None and policy.source_ip

    def tunnel(self, name: str) -> Tunnel | None:
        """How TCP reaches a cluster through an HTTP proxy, where its policy says so."""
        cluster = self.clusters.get(name)
        return cluster.policy.tunnel if cluster else None


def _name(target: Target, host: str, port: int) -> str:
    return clusters.cluster_name(clusters.OUTBOUND, target.subset, host, port)


def _speaks_mesh_tls(cluster: Cluster) -> bool:
    """Mesh mTLS with the downstream's protocol: the ALPN of such a cluster depends on the request."""
    return cluster.downstream_protocol and _in_mesh(cluster)


def _in_mesh(cluster: Cluster) -> bool:
    """Mesh mTLS, be it only where the endpoint speaks it."""
    return cluster.tls is not None and cluster.tls.mode in _MESH_TLS


def routes(rules: VirtualService, client: Client, resolver: Resolver, *, tls: bool = False) -> tuple[Route, ...]:
    """The routes of a VirtualService for a client; () when no rule is for it.

    A rule that matches every request ends the list. ``tls``: requests come by https.
    """
    found: list[Route] = []
    for rule in rules.http:
        for condition in rule.conditions:
            if not condition.source.holds(client, resolver.port):
                continue
            found.append(_route(rules, rule, condition, resolver, tls=tls))
            if condition.catches_all:
                return tuple(found)
    return tuple(found)


def default(resolver: Resolver, service: Service) -> Route:
    """The route of a service that no VirtualService speaks for."""
    retry = resolver.settings.default_retry
    share = resolver.destination(Target(host=service.host, port=resolver.port))
    return Route(
        name=DEFAULT_NAME,
        match=ANY,
        origin=None,
        destinations=(WeightedDestination(destination=share, weight=1),),
        retry=replace(retry, ignore_previous_hosts=False) if share.hash_policy else retry,
        operation=f"{share.host}:{share.port}/*",
    )


def _route(rules: VirtualService, rule: HttpRule, condition: Condition, resolver: Resolver, *, tls: bool) -> Route:
    name = f"{rule.name}.{condition.name}" if condition.name else rule.name
    path = _operation_path(condition.match)
    base = Route(
        name=name,
        match=condition.match,
        origin=rule.origin,
        fault=rule.fault,
        cors=rule.cors,
        headers=rule.operations.headers,
        operation=f"{rules.first_host}:{resolver.port}{path}",
        redirect=answers.redirect_at(rule.redirect, resolver.port, tls=tls) if rule.redirect else None,
        direct_response=rule.direct_response,
        stat_prefix=condition.stat_prefix,
    )
    if rule.redirect or rule.direct_response:
        return base
    base = replace(
        base,
        timeout=rule.timeout,
        retry=rule.retry,
        mirrors=tuple(
            Mirror(destination=resolver.destination(copy.target), percent=copy.percent) for copy in rule.mirrors
        ),
        rewrite=answers.rewrite(rule.rewrite, condition.match, rule.operations.authority),
    )
    if len(rule.shares) == 1:
        return _to_one(base, rule, rule.shares[0], resolver, path)
    rewritten = base.rewrite is not None and bool(base.rewrite.authority)
    return replace(base, destinations=tuple(_weighted(share, resolver, rewritten=rewritten) for share in rule.shares))


def _to_one(base: Route, rule: HttpRule, share: Share, resolver: Resolver, path: str) -> Route:
    """A single destination: its header changes join the route's, its authority counts where the route has none."""
    destination = resolver.destination(share.target)
    authority = (base.rewrite.authority if base.rewrite else "") or share.operations.authority
    return replace(
        base,
        destinations=(WeightedDestination(destination=destination, weight=1),),
        headers=header_operations.join(base.headers, share.operations.headers),
        rewrite=answers.rewrite(rule.rewrite, base.match, authority),
        retry=rule.hashed_retry if destination.hash_policy else base.retry,
        operation=f"{destination.host}:{destination.port}{path}",
    )


def _weighted(share: Share, resolver: Resolver, *, rewritten: bool) -> WeightedDestination:
    headers, authority = share.operations.headers, share.operations.authority
    return WeightedDestination(
        destination=resolver.destination(share.target),
        weight=share.weight,
        headers=header_operations.with_authority(headers, authority) if authority and not rewritten else headers,
    )


def _operation_path(match: RouteMatch) -> str:
    """The path in a span's name: ``/*``, ``/api*``, ``/exact`` (Istio: GetRouteOperation)."""
    if match.path is None:
        return "/*"
    return match.path.value + ("*" if match.path.kind is MatchKind.PREFIX else "")
