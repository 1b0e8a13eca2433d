"""DestinationRule: what happens after routing: load balancing, pools, ejection, TLS (features rows G1-G14).

Source: istio.networking destination_rule.proto, all versions, with the deprecated fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from crds.duration import Duration, Timer
from crds.meta import Bool, Float, Ignored, Int32, Model, Object, UInt32, UInt64, WorkloadSelector
from crds.virtual_service import PortSelector


class CookieAttribute(Model):
    """An extra attribute of a generated cookie."""

    name: str = ""
    value: str = ""


class HTTPCookie(Model):
    """Hash by a cookie, generated with ``ttl`` when absent."""

    name: str = ""
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class RingHash(Model):
    """Ring hash settings."""

    minimum_ring_size: UInt64 = 0


class MagLev(Model):
    """Maglev settings."""

    table_size: UInt64 = 0


class ConsistentHashLB(Model):
    """Session affinity (G5). ``minimum_ring_size`` is the deprecated form of ring_hash."""

    http_header_name: str | None = None
    http_cookie: HTTPCookie | None = None
    use_source_ip: Bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: UInt64 = 0


class Distribute(Model):
    """Weights of localities for clients of one locality."""

    from_: str = Field(default="", alias="from")
    to: Mapping[str, UInt32] = Field(default_factory=dict)


class Failover(Model):
    """Where traffic of one region goes when it fails."""

    from_: str = Field(default="", alias="from")
    to: str = ""


class LocalityLoadBalancerSetting(Model):
    """Locality-weighted balancing and failover (G6)."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: Bool | None = None


class ZoneAwareLoadBalancerSetting(Model):
    """Envoy's zone-aware routing, with failover between regions (G6)."""

    enabled: Bool | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: UInt64 | None = None


class WarmupConfiguration(Model):
    """Slow start of new endpoints (G7)."""

    duration: Duration | None = None
    minimum_percent: Float | None = None
    aggression: Float | None = None


class LoadBalancerSettings(Model):
    """Load balancing: simple or consistent hash (G4-G7)."""

    simple: Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None


class TcpKeepalive(Model):
    """SO_KEEPALIVE settings; absent values are the system's."""

    probes: UInt32 = 0
    time: Timer | None = None
    interval: Timer | None = None


class TCPSettings(Model):
    """Pool settings of TCP and HTTP (G8)."""

    max_connections: Int32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class Http2KeepAlive(Model):
    """HTTP/2 PING settings."""

    interval: Duration | None = None
    timeout: Duration | None = None


class HTTPSettings(Model):
    """Pool settings of HTTP (G9)."""

    http1_max_pending_requests: Int32 = Field(default=0, alias="http1MaxPendingRequests")
    http2_max_requests: Int32 = Field(default=0, alias="http2MaxRequests")
    max_requests_per_connection: Int32 = 0
    max_retries: Int32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = Field(
        default="DEFAULT", alias="h2UpgradePolicy"
    )
    use_client_protocol: Bool = False
    max_concurrent_streams: Int32 = 0
    http2_keepalive: Http2KeepAlive | None = Field(default=None, alias="http2KeepAlive")


class ConnectionPoolSettings(Model):
    """Limits and time-outs of connections to the upstream."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Model):
    """Ejection of failing endpoints (G10). None: Istio's default; 0 switches a detector off."""

    consecutive_errors: Int32 = 0
    split_external_local_origin_errors: Bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = Field(default=None, alias="consecutive5xxErrors")
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Int32 = 0
    min_health_percent: Int32 = 0
    http_error_codes: tuple[UInt32, ...] = Field(default=(), alias="outlierDetectionHttpErrorCodes")


class ClientTLSSettings(Model):
    """TLS towards the upstream (G11)."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: Bool | None = None


class PortTrafficPolicy(Model):
    """A traffic policy of one port (G12). What it leaves out is Envoy's default, not the destination's."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TunnelSettings(Model):
    """Tunnel TCP through an HTTP proxy (G13)."""

    protocol: str = ""
    target_host: str = ""
    target_port: UInt32 = 0


class ProxyProtocol(Model):
    """PROXY protocol towards the upstream (G14)."""

    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Model):
    """Retries allowed in relation to active requests (G14)."""

    percent: Float | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


class TrafficPolicy(Model):
    """What applies to traffic of a host, a subset or a port."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Model):
    """Endpoints with these labels (G2)."""

    name: str = ""
    labels: Mapping[str, str] = Field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Model):
    """Policies for one host."""

    host: str = ""
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None


class DestinationRule(Object):
    """networking.istio.io DestinationRule."""

    spec: DestinationRuleSpec = DestinationRuleSpec()
    status: Ignored = None
