"""ProxyConfig of mesh settings: what one proxy starts with (features row R8).

In ``defaultConfig`` of MeshConfig and in the pod annotation ``proxy.istio.io/config``. Source: istio.mesh.v1alpha1
proxy.proto. The networking.istio.io ProxyConfig object is another, smaller thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from crds.duration import Duration
from crds.meta import Bool, Float, Int32, Model, Opaque, Tree, UInt32
from crds.tracing_provider import CustomTags


class Tracing(Model):
    """Tracing by the proxy; providers of Telemetry are the newer way."""

    zipkin: Tree | None = None
    lightstep: Tree | None = None
    datadog: Tree | None = None
    stackdriver: Tree | None = None
    open_census_agent: Tree | None = None
    custom_tags: CustomTags = Field(default_factory=dict)
    max_path_tag_length: UInt32 = 0
    sampling: Float | None = None
    tls_settings: Tree | None = None
    enable_istio_tags: Bool | None = None


ForwardClientCert = Literal[
    "UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"
]
"""What becomes of x-forwarded-client-cert."""


class Topology(Model):
    """Proxies in front of a gateway (E13)."""

    num_trusted_proxies: UInt32 = 0
    forward_client_cert_details: ForwardClientCert = "UNDEFINED"
    proxy_protocol: Tree | None = None


class ProxyStatsMatcher(Model):
    """Extra stats that the proxy reports."""

    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()


class HeaderSwitch(Model):
    """Whether a header is sent, and with which value."""

    disabled: Bool | None = None
    value: str = ""


class HeaderOption(Model):
    """Whether a header is sent that is off unless somebody asks for it."""

    enabled: Bool | None = None


class MetadataExchangeHeaders(Model):
    """When peer metadata headers are sent."""

    mode: Literal["UNDEFINED", "IN_MESH"] = "UNDEFINED"


class CertDetails(Model):
    """Parts of the client's certificate in x-forwarded-client-cert."""

    subject: Bool | None = None
    cert: Bool | None = None
    chain: Bool | None = None
    dns: Bool | None = None
    uri: Bool | None = None


class ProxyHeaders(Model):
    """Headers that a proxy adds."""

    forwarded_client_cert: ForwardClientCert = "UNDEFINED"
    set_current_client_cert_details: CertDetails | None = None
    request_id: HeaderSwitch | None = None
    server: HeaderSwitch | None = None
    attempt_count: HeaderSwitch | None = None
    envoy_debug_headers: HeaderSwitch | None = None
    metadata_exchange_headers: MetadataExchangeHeaders | None = None
    x_forwarded_host: HeaderOption | None = None
    x_forwarded_port: HeaderOption | None = None
    preserve_http1_header_case: Bool | None = Field(default=None, alias="preserveHttp1HeaderCase")


class ProxyImage(Model):
    """Which image the proxy is."""

    image_type: str = ""


class ConnectionSettings(Model):
    """Limits and times of connections from clients (of profile EDGE gateways have stricter defaults)."""

    profile: Literal["", "SIDECAR", "EDGE"] = ""
    global_downstream_connection_limit: Opaque = None
    listener_per_connection_buffer_limit_bytes: Int32 | None = None
    http_idle_timeout: Duration | None = None
    http_max_connection_duration: Duration | None = None
    http_max_stream_duration: Duration | None = None
    http_stream_idle_timeout: Duration | None = None
    http_request_timeout: Duration | None = None
    http_request_headers_timeout: Duration | None = None
    http_drain_timeout: Duration | None = None
    http_max_concurrent_streams: Int32 | None = None
    http2_initial_stream_window_size: Int32 | None = Field(default=None, alias="http2InitialStreamWindowSize")
    http2_initial_connection_window_size: Int32 | None = Field(default=None, alias="http2InitialConnectionWindowSize")
    http_headers_with_underscores_action: Literal[
        "HEADERS_WITH_UNDERSCORES_UNSPECIFIED",
        "HEADERS_WITH_UNDERSCORES_ALLOW",
        "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
        "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
    ] = "HEADERS_WITH_UNDERSCORES_UNSPECIFIED"
    http_merge_slashes: Bool | None = None
    http_path_with_escaped_slashes_action: Literal[
        "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED",
        "KEEP_UNCHANGED",
        "REJECT_REQUEST",
        "UNESCAPE_AND_REDIRECT",
        "UNESCAPE_AND_FORWARD",
    ] = "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED"


class ProxyConfig(Model):
    """What one proxy starts with. Changes need a restart of the workload."""

    config_path: str = ""
    binary_path: str = ""
    service_cluster: str = ""
    tracing_service_name: (
        Literal["APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"] | None
    ) = None
    drain_duration: Duration | None = None
    parent_shutdown_duration: Duration | None = None
    termination_drain_duration: Duration | None = None
    discovery_address: str = ""
    discovery_refresh_delay: Duration | None = None
    zipkin_address: str = ""
    statsd_udp_address: str = ""
    envoy_metrics_service_address: str = ""
    proxy_admin_port: Int32 = 0
    availability_zone: str = ""
    control_plane_auth_policy: Literal["NONE", "MUTUAL_TLS", "INHERIT"] = "NONE"
    custom_config_file: str = ""
    stat_name_length: Int32 = 0
    concurrency: Int32 | None = None
    proxy_bootstrap_template_path: str = ""
    interception_mode: Literal["REDIRECT", "TPROXY", "NONE"] = "REDIRECT"
    tracing: Tracing | None = None
    sds: Tree | None = None
    envoy_access_log_service: Tree | None = None
    envoy_metrics_service: Tree | None = None
    proxy_metadata: Mapping[str, str] = Field(default_factory=dict)
    runtime_values: Mapping[str, str] = Field(default_factory=dict)
    status_port: Int32 = 0
    extra_stat_tags: tuple[str, ...] = ()
    gateway_topology: Topology | None = None
    mesh_id: str = ""
    readiness_probe: Tree | None = None
    proxy_stats_matcher: ProxyStatsMatcher | None = None
    hold_application_until_proxy_starts: Bool | None = None
    ca_certificates_pem: tuple[str, ...] = ()
    image: ProxyImage | None = None
    private_key_provider: Tree | None = None
    proxy_headers: ProxyHeaders | None = None
    file_flush_interval: Duration | None = None
    file_flush_min_size_kb: UInt32 | None = None
    stats_eviction_interval: Duration | None = None
    stats_compression: Bool | None = None
    connection_settings: ConnectionSettings | None = None
