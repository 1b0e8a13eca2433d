"""What the mesh configuration says of all proxies (ConfigMap ``istio``, features rows R1-R4), ready to compile."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from istiod.features import DEFAULTS, Features
from istiod.mesh import networks, proxy_headers, tracing
from istiod.mesh.connection_settings import ConnectionSettings
from istiod.mesh.ext_authz import ExtAuthz
from istiod.mesh.loggers import Logger
from istiod.mesh.metrics import Providers
from istiod.mesh.networks import Networks
from istiod.mesh.policy import ConnectionPool, Keepalive, LocalityLb, OutlierDetection, TlsDefaults
from istiod.mesh.proxy_headers import ProxyHeaders
from istiod.mesh.route import Retry
from istiod.mesh.tracers import Tracer
from istiod.mesh.tracing import ProxyTracing
from wire import names


class OutboundMode(Enum):
    """What happens to traffic for hosts that nobody declared."""

    ALLOW_ANY = "ALLOW_ANY"
    ALLOW_ANY_DYNAMIC_DNS = "ALLOW_ANY_DYNAMIC_DNS"  # HTTP goes to the host that it names, all else where it wanted to
    REGISTRY_ONLY = "REGISTRY_ONLY"


class InboundMode(Enum):
    """Whether inbound traffic goes on to the address it came for, or to localhost (features row R2)."""

    PASSTHROUGH = "PASSTHROUGH"
    LOCALHOST = "LOCALHOST"


class AccessLogEncoding(Enum):
    """Form of an access-log line."""

    TEXT = "TEXT"
    JSON = "JSON"


DEFAULT_RETRY = Retry(
    attempts=2, retry_on="connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """Mesh-wide values. ``access_log_file`` "" switches the file log off; ``access_log_format`` "" is the default.

    ``inbound_retry`` None is Istio's own: what a connection lost before its first request, is sent again.
    """

    features: Features = DEFAULTS
    trust_domain: str = names.DEFAULT_TRUST_DOMAIN
    trust_domain_aliases: tuple[str, ...] = ()
    root_namespace: str = names.ROOT_NAMESPACE
    dns_domain: str = names.DEFAULT_DNS_DOMAIN
    auto_mtls: bool = True
    outbound: OutboundMode = OutboundMode.ALLOW_ANY
    egress_proxy: str = ""
    """The cluster that traffic for unknown hosts goes to instead of where it wanted to; a Sidecar's word."""
    inbound: InboundMode = InboundMode.PASSTHROUGH
    outbound_port: int = names.PROXY_OUTBOUND_PORT
    inbound_port: int = names.PROXY_INBOUND_PORT
    connect_timeout: timedelta = timedelta(seconds=10)
    protocol_detection_timeout: timedelta = timedelta(0)
    tcp_keepalive: Keepalive | None = None
    dns_refresh_rate: timedelta = timedelta(seconds=60)
    h2_upgrade: bool = False
    default_retry: Retry = DEFAULT_RETRY
    inbound_retry: Retry | None = None
    http_proxy_port: int = 0
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: AccessLogEncoding = AccessLogEncoding.TEXT
    metrics: Providers = field(default_factory=Providers)
    loggers: tuple[Logger, ...] = ()
    default_loggers: tuple[str, ...] = ()
    """Who is told of calls of whom no Telemetry says it; (): ``access_log_file``."""
    listener_log: bool = True
    """Whether connections are logged that no filter chain took."""
    enable_tracing: bool = True
    drain_duration: timedelta = timedelta(seconds=45)
    locality_lb: LocalityLb | None = field(default_factory=LocalityLb)
    service_export_to: tuple[str, ...] = ("*",)
    virtual_service_export_to: tuple[str, ...] = ("*",)
    destination_rule_export_to: tuple[str, ...] = ("*",)
    path_normalization: str = "BASE"
    min_tls_version: str = "TLSV1_2"
    mesh_cipher_suites: tuple[str, ...] = ()
    """What workloads offer in mesh mTLS below TLS 1.3; () is Istio's own list."""
    tls_defaults: TlsDefaults = field(default_factory=TlsDefaults)
    default_pool: ConnectionPool = field(default_factory=ConnectionPool)
    """Of every cluster whose DestinationRule says nothing of connections."""
    default_outlier: OutlierDetection | None = None
    """Of every outbound cluster whose DestinationRule says nothing of ejection."""
    inbound_stat_name: str = ""
    outbound_stat_name: str = ""
    """Patterns of the names that statistics of clusters have; "" is the cluster's name (stat_names.py)."""
    headers: ProxyHeaders = proxy_headers.NOTHING
    sidecar_connections: ConnectionSettings | None = None
    gateway_connections: ConnectionSettings | None = None
    ext_authz: tuple[ExtAuthz, ...] = ()
    tracing: ProxyTracing = tracing.NOTHING
    tracers: tuple[Tracer, ...] = ()
    networks: Networks = networks.NOTHING
    verify_servers: bool = True
    """Whether servers are verified by the system's roots where a DestinationRule names no others."""
    default_tracer: str = ""
    """Where spans go of whom no Telemetry says it; "": nowhere."""
