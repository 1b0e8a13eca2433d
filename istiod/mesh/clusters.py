"""Outbound clusters (features rows D14, G4-G14, N3; S50, S52).

Decides discovery type, TLS (auto mTLS included) and which policy holds; bytes are istiod.envoy's. Routes to them are
http_routes.py's, inbound clusters inbound.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from istiod.mesh import locality, stat_names
from istiod.mesh.destination_rules import HostPolicy, Subset
from istiod.mesh.endpoint import Crossing, Endpoint, Query
from istiod.mesh.model import Model
from istiod.mesh.policy import ClientTls, ConnectionPool, LbAlgorithm, MutualTls, TlsMode, TrafficPolicy
from istiod.mesh.recall import Recall
from istiod.mesh.scope import Cluster, Direction, Discovery, DnsCache, ServiceRef, UpstreamTls
from istiod.mesh.service import Port, Protocol, Resolution, Service
from istiod.mesh.settings import MeshSettings, OutboundMode
from wire.node import NodeType

PASSTHROUGH = "PassthroughCluster"
BLACKHOLE = "BlackHoleCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
ANY_HOST = "AllowAnyDynamicDNSCluster"
"""Goes to whatever host an HTTP request names (outboundTrafficPolicy ALLOW_ANY_DYNAMIC_DNS)."""
OUTBOUND = "outbound"
_PASSTHROUGH_IDLE = timedelta(minutes=5)

_WHOLE = Subset(name="", labels=frozenset())
_DEFAULT = TrafficPolicy()
_UNSAID = ConnectionPool()
_CROSSINGS = {TlsMode.AUTO: Crossing.BY_SIDECAR, TlsMode.ISTIO_MUTUAL: Crossing.ALWAYS}
_DNS = {Resolution.DNS: Discovery.STRICT_DNS, Resolution.DNS_ROUND_ROBIN: Discovery.LOGICAL_DNS}
_ANY_HOSTS_CACHE = DnsCache(name="allow_any_dfp_dns_cache", most_hosts=1024)


def cluster_name(direction: str, subset: str, host: str, port: int) -> str:
    """``outbound|9080|v1|reviews.default.svc.cluster.local``; inbound clusters have neither subset nor host."""
    return f"{direction}|{port}|{subset}|{host}"


def sni(subset: str, host: str, port: int) -> str:
    """The SNI of mesh mTLS to a cluster: ``outbound_.9080_.v1_.HOST``, ``outbound_.9080_._.HOST`` without a subset."""
    return f"outbound_.{port}_.{subset}_.{host}"


def outbound_clusters(
    model: Model, namespace: str, services: Iterable[Service], proxy: NodeType = NodeType.SIDECAR
) -> Mapping[str, Cluster]:
    """Clusters of these services (host, and each subset) as clients in ``namespace`` see them, by name.

    BlackHoleCluster is always among them, for sidecars PassthroughCluster too. Of several services of one host and port
    the first counts.
    """
    found = {cluster.name: cluster for cluster in _always(model.settings, proxy)}
    for service in services:
        for cluster in service_clusters(model, namespace, service, proxy):
            found.setdefault(cluster.name, cluster)
    return found


def service_clusters(
    model: Model,
    namespace: str,
    service: Service,
    proxy: NodeType = NodeType.SIDECAR,
    recall: Recall | None = None,
) -> tuple[Cluster, ...]:
    """The clusters of one service: per port the whole host, then each subset. ``recall`` has policies made before."""
    policy = model.policies.lookup(service, namespace)
    subsets = (_WHOLE, *(policy.subsets if policy else ()))
    maker = _Maker(model=model, service=service, rule=policy, proxy=proxy, recall=recall or Recall())
    return tuple(maker.cluster(port, subset) for port in _reachable_ports(service) for subset in subsets)


def by_server_name(whole: Cluster) -> Cluster | None:
    """The cluster that AUTO_PASSTHROUGH takes in place of ``whole``: mesh mTLS as it came, to sidecars only.

    None for hosts outside of the mesh, which have no mesh mTLS (Istio: buildOutboundSniDnatClusters).
    """
    if whole.mesh_external or not whole.services:
        return None
    name = sni(whole.subset, whole.services[0].host, whole.port)
    return replace(
        whole,
        name=name,
        tls=None,
        query=replace(whole.query, name=name, mesh_tls=True) if whole.query else None,
    )


def passthrough(
    name: str, settings: MeshSettings, direction: Direction, bind_addresses: tuple[str, ...] = ()
) -> Cluster:
    """A cluster that goes where the client wanted to go; unused connections end early (Istio: 5 minutes)."""
    timed = with_times(_DEFAULT, settings)
    pool = timed.connection_pool
    return Cluster(
        name=name,
        discovery=Discovery.ORIGINAL_DST,
        direction=direction,
        downstream_protocol=True,
        policy=replace(
            timed, connection_pool=replace(pool, http_idle_timeout=pool.http_idle_timeout or _PASSTHROUGH_IDLE)
        ),
        bind_addresses=bind_addresses,
    )


def _always(settings: MeshSettings, proxy: NodeType) -> Iterator[Cluster]:
    yield Cluster(
        name=BLACKHOLE,
        discovery=Discovery.STATIC,
        direction=Direction.OUTBOUND,
        policy=with_times(_DEFAULT, settings),
    )
    if proxy is NodeType.SIDECAR:
        yield (passing := passthrough(PASSTHROUGH, settings, Direction.OUTBOUND))
        if settings.outbound is OutboundMode.ALLOW_ANY_DYNAMIC_DNS:
            yield replace(passing, name=ANY_HOST, discovery=Discovery.DYNAMIC_DNS, cache=_ANY_HOSTS_CACHE)


def _reachable_ports(service: Service) -> Iterator[Port]:
    if service.resolution is not Resolution.ALIAS:
        yield from (port for port in service.ports if port.protocol is not Protocol.UDP)


def with_times(policy: TrafficPolicy, settings: MeshSettings) -> TrafficPolicy:
    """The policy with the mesh's word on connections where it has none of its own.

    ``defaultTrafficPolicy`` counts where the rule says nothing of connections at all (Istio: an unset block inherits).
    """
    pool = settings.default_pool if policy.connection_pool == _UNSAID else policy.connection_pool
    return replace(
        policy,
        connection_pool=replace(
            pool,
            connect_timeout=pool.connect_timeout or settings.connect_timeout,
            keepalive=pool.keepalive or settings.tcp_keepalive,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    """Makes the clusters of one service for one kind of proxy; ``rule`` is what its clients' DestinationRules say."""

    model: Model
    service: Service
    rule: HostPolicy | None
    proxy: NodeType
    recall: Recall

    def cluster(self, port: Port, subset: Subset) -> Cluster:
        """The cluster of a port and a subset."""
        said = self.rule.policy(port.number, subset.name) if self.rule else _DEFAULT
        policy = self._policy(said)
        discovery = self._discovery(policy)
        endpoints = self._inline(port, subset) if discovery in _DNS.values() else ()
        if discovery is Discovery.LOGICAL_DNS and len(endpoints) != 1:  # several entries, or none with these labels
            discovery = Discovery.STRICT_DNS
        name = cluster_name(OUTBOUND, subset.name, self.service.host, port.number)
        direct = policy.connection_pool
        tls = self._tls(said, port, subset, discovery)
        return Cluster(
            name=name,
            discovery=discovery,
            direction=Direction.OUTBOUND if self.proxy is NodeType.SIDECAR else Direction.GATEWAY,
            services=(service_ref(self.service),),
            mesh_external=self.service.mesh_external,
            port=port.number,
            subset=subset.name,
            protocol=Protocol.HTTP2 if self._upgrades(port, direct.h2_upgrade) else port.protocol,
            downstream_protocol=direct.use_client_protocol or self._sniffed(port, direct.h2_upgrade),
            policy=policy,
            tls=tls,
            query=self._query(name, port, subset, policy, tls) if discovery is Discovery.EDS else None,
            endpoints=endpoints,
            port_override=self._target(port) if discovery is Discovery.DYNAMIC_DNS else 0,
            cache=DnsCache(name=f"{self.service.host}_dfp_dns_cache") if discovery is Discovery.DYNAMIC_DNS else None,
            origin=self.rule.origin if self.rule else None,
            stat_name=self._stat_name(port, subset),
        )

    def _stat_name(self, port: Port, subset: Subset) -> str:
        pattern = self.model.settings.outbound_stat_name
        return stat_names.of(pattern, self.service, port, self._target(port), subset.name)

    def _policy(self, said: TrafficPolicy) -> TrafficPolicy:
        """The policy in effect: times and locality of the mesh where the rule says nothing. Most services share it."""
        settings, distribution = self.model.settings, self.service.traffic_distribution

        def made() -> TrafficPolicy:
            balancer, outlier = said.load_balancer, said.outlier_detection or settings.default_outlier
            ejects = outlier is not None
            local = locality.effective(balancer.locality, settings.locality_lb, distribution, ejects=ejects)
            balancer = replace(balancer, locality=local)
            return with_times(replace(said, load_balancer=balancer, outlier_detection=outlier), settings)

        return self.recall.of(("in effect", distribution), (said, settings), made)

    def _discovery(self, policy: TrafficPolicy) -> Discovery:
        """Where endpoints come from. To a router headless services are like others (Istio: convertResolution)."""
        if self.service.resolution is Resolution.DYNAMIC_DNS:
            return Discovery.DYNAMIC_DNS
        if policy.load_balancer.algorithm is LbAlgorithm.PASSTHROUGH:
            return Discovery.ORIGINAL_DST
        if (dns := _DNS.get(self.service.resolution)) is not None:
            return Discovery.STRICT_DNS if self.service.selector else dns  # LOGICAL_DNS holds one endpoint, never more
        passes = self.service.resolution is Resolution.PASSTHROUGH and self.proxy is NodeType.SIDECAR
        return Discovery.ORIGINAL_DST if passes else Discovery.EDS

    @staticmethod
    def _target(port: Port) -> int:
        return port.target if isinstance(port.target, int) else 0

    def _upgrades(self, port: Port, said: bool | None) -> bool:  # noqa: FBT001 (three-valued: None is "not said")
        """Whether HTTP goes out as HTTP/2 (row G9, R7). A rule may upgrade an undeclared port, the mesh may not."""
        if said is not None:
            return said
        return self.model.settings.h2_upgrade and port.protocol.is_http

    def _sniffed(self, port: Port, upgrade: bool | None) -> bool:  # noqa: FBT001 (as above)
        """Whether to speak what the client speaks because nobody declared what the port speaks (sidecars only)."""
        return self.proxy is NodeType.SIDECAR and port.protocol is Protocol.UNSUPPORTED and upgrade is not True

    def _query(self, name: str, port: Port, subset: Subset, policy: TrafficPolicy, tls: UpstreamTls | None) -> Query:
        return Query(
            name=name,
            host=self.service.host,
            namespace=self.service.namespace,
            port=port.number,
            labels=subset.labels,
            locality_lb=policy.load_balancer.locality,
            node_local=self.service.node_local,
            crossing=_CROSSINGS.get(tls.mode, Crossing.NEVER) if tls else Crossing.NEVER,
        )

    def _inline(self, port: Port, subset: Subset) -> tuple[Endpoint, ...]:
        found = self.model.declared.of(self.service.host, self.service.namespace, port.number)
        return tuple(endpoint for endpoint in found if endpoint.address and subset.labels <= endpoint.labels)

    def _tls(self, said: TrafficPolicy, port: Port, subset: Subset, discovery: Discovery) -> UpstreamTls | None:
        """What the rule says, else mesh mTLS where it can work (row N3; Istio: buildAutoMtlsSettings).

        Sidecars get credentials by name only where the rule selects them: those are Secrets, and a rule without
        selector means every namespace's sidecars (as on Istio).
        """
        name = sni(subset.name, self.service.host, port.number)
        known = self.model.summary(self.service.host, self.service.namespace).identities
        identities = tuple(sorted({*known, *self.service.subject_alt_names}))
        if said.tls is not None:
            sidecar = self.proxy is NodeType.SIDECAR
            mesh = said.tls.mode is TlsMode.ISTIO_MUTUAL
            expected = identities if mesh or not self.service.kubernetes else ()
            selected = self.rule is not None and self.rule.selector
            secret = said.tls.credential_name and not mesh
            tls = None if sidecar and secret and not selected else _said_tls(said.tls, name, expected)
            return tls if self.model.settings.verify_servers or tls is None else _unverified(tls)
        if not self._auto(said):
            return None
        mode = TlsMode.ISTIO_MUTUAL if discovery is Discovery.ORIGINAL_DST else TlsMode.AUTO
        return UpstreamTls(mode=mode, sni=name, subject_alt_names=identities)

    def _auto(self, said: TrafficPolicy) -> bool:
        """Whether auto mTLS applies. Towards original destinations it is all or nothing: no endpoint to look at.

        Hosts that are resolved on demand never say that they have it.
        """
        service = self.service
        outside = service.mesh_external or service.resolution is Resolution.DYNAMIC_DNS
        if outside or not self.model.settings.auto_mtls:
            return False
        passes = service.resolution is Resolution.PASSTHROUGH or said.load_balancer.algorithm is LbAlgorithm.PASSTHROUGH
        if passes and not self.model.summary(service.host, service.namespace).tls:
            return False
        return self.model.peers.of_namespace(service.namespace) is not MutualTls.DISABLE


def service_ref(service: Service) -> ServiceRef:
    """The service for metadata and metrics."""
    return ServiceRef(host=service.host, name=service.name, namespace=service.namespace)


def _unverified(tls: UpstreamTls) -> UpstreamTls:
    """TLS where the mesh does not verify servers: unless the rule says by which roots (verifyCertificateAtClient)."""
    rooted = tls.mode is TlsMode.ISTIO_MUTUAL or tls.ca_certificates or tls.credential_name
    return tls if rooted else replace(tls, insecure_skip_verify=True)


def _said_tls(said: ClientTls, name: str, expected: tuple[str, ...]) -> UpstreamTls | None:
    """TLS as a DestinationRule has it, with the names to expect where it names none.

    Mesh mTLS gets its server name, and nothing else that is said of certificates counts for it.
    """
    if said.mode is TlsMode.DISABLE:
        return None
    if said.mode is TlsMode.ISTIO_MUTUAL:
        wanted = tuple(sorted(said.subject_alt_names)) or expected
        return UpstreamTls(mode=said.mode, sni=said.sni or name, subject_alt_names=wanted)
    return UpstreamTls(
        mode=said.mode,
        sni=said.sni,
        subject_alt_names=tuple(sorted(said.subject_alt_names)) or expected,
        client_certificate=said.client_certificate,
        private_key=said.private_key,
        ca_certificates=said.ca_certificates,
        ca_crl="" if said.credential_name else said.ca_crl,
        credential_name=said.credential_name,
        insecure_skip_verify=said.insecure_skip_verify,
    )
