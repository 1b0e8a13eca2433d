"""Traffic policies, merged and ready to compile (features rows G4-G14). Durations are timedelta."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum


class LbAlgorithm(Enum):
    """How an endpoint is picked."""

    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    RING_HASH = "RING_HASH"
    MAGLEV = "MAGLEV"


@dataclass(frozen=True, slots=True, kw_only=True)
class HashCookie:
    """Hash of a cookie; ``ttl`` None means that Envoy never makes one."""

    name: str
    path: str = ""
    ttl: timedelta | None = None
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HashPolicy:
    """What a consistent hash is computed from; exactly one field is set. It goes into routes, not clusters."""

    header: str = ""
    cookie: HashCookie | None = None
    source_ip: bool = False
    query_parameter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalityLb:
    """Locality load balancing as set (features row G6); applied per view when endpoints are compiled."""

    distribute: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    failover_priority: tuple[str, ...] = ()
    zones_from: int | None = None
    """Zone-aware: zones get what they have endpoints for, the client's own first, where there are so many at least."""
    enabled: bool = True
    """False switches it off where the mesh has it on; never False in a cluster or a query (None there)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """Slow start of a new endpoint."""

    duration: timedelta
    minimum_percent: float = 10.0
    aggression: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancer:
    """Picking policy of a cluster."""

    algorithm: LbAlgorithm = LbAlgorithm.LEAST_REQUEST
    hash: HashPolicy | None = None
    minimum_ring_size: int = 1024
    maglev_table_size: int = 0
    locality: LocalityLb | None = None
    warmup: Warmup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """TCP keepalive; None leaves the system's default."""

    probes: int | None = None
    time: timedelta | None = None
    interval: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPool:
    """Connection limits and times; None means Istio's default (no limit, Envoy's time)."""

    max_connections: int | None = None
    connect_timeout: timedelta | None = None
    keepalive: Keepalive | None = None
    max_connection_duration: timedelta | None = None
    tcp_idle_timeout: timedelta | None = None
    http1_max_pending_requests: int | None = None
    http2_max_requests: int | None = None
    max_requests_per_connection: int | None = None
    max_retries: int | None = None
    http_idle_timeout: timedelta | None = None
    h2_upgrade: bool | None = None
    use_client_protocol: bool = False
    max_concurrent_streams: int | None = None
    http2_keepalive_interval: timedelta | None = None
    http2_keepalive_timeout: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """Ejection of failing endpoints. ``consecutive_5xx`` 0 switches that check off; None keeps Envoy's default (5).

    ``error_codes``: which answers are errors, and no others; empty: 5xx.
    """

    consecutive_5xx: int | None = None
    consecutive_gateway: int | None = None
    consecutive_local_origin: int | None = None
    split_external_local: bool = False
    interval: timedelta | None = None
    base_ejection_time: timedelta | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int = 0
    error_codes: tuple[int, ...] = ()


class TlsMode(Enum):
    """How a client speaks to a cluster's endpoints.

    AUTO: mesh mTLS to endpoints that have a sidecar, plaintext to others (transport socket match on tlsMode).
    """

    DISABLE = "DISABLE"
    AUTO = "AUTO"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """Upstream TLS. File paths and credential names are as the user gave them; "" means unset."""

    mode: TlsMode = TlsMode.DISABLE
    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """Retries in proportion to active requests."""

    percent: float = 20.0
    min_retry_concurrency: int = 3
    interval: timedelta | None = None
    """How long a request counts as active after its start; None: until it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """TCP through an HTTP proxy: the cluster is asked to connect to ``target`` (HOST:PORT), by CONNECT or POST."""

    target: str
    post: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicy:
    """Everything a DestinationRule says of one port of one (subset of a) host, merged.

    ``tls`` None means that nobody said; auto mTLS decides.
    """

    load_balancer: LoadBalancer = field(default_factory=LoadBalancer)
    connection_pool: ConnectionPool = field(default_factory=ConnectionPool)
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None
    proxy_protocol: str = ""
    retry_budget: RetryBudget | None = None
    tunnel: Tunnel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsDefaults:
    """Parameters of TLS that is not mesh mTLS; empty ones leave Envoy's own. ``min_version`` is for servers."""

    min_version: str = ""
    curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class MutualTls(Enum):
    """What an inbound port asks of its clients (PeerAuthentication, features row N1)."""

    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"
