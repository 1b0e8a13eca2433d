"""MeshConfig and ProxyConfig: the mesh-wide settings (features rows R1-R8).

No Kubernetes object: YAML text under key ``mesh`` of ConfigMap ``istio``. Source: istio.mesh.v1alpha1 config.proto and
proxy.proto. A value that is absent is None or empty here; Istio's defaults are applied where settings are read.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crds.destination_rule import LocalityLoadBalancerSetting, TcpKeepalive, TrafficPolicy, ZoneAwareLoadBalancerSetting
from crds.duration import Duration, Timer
from crds.extension_provider import ExtensionProvider
from crds.gateway import TLSProtocol
from crds.meta import Bool, LabelSelector, Model, Opaque, Port, Tree, UInt32
from crds.proxy_config import ProxyConfig
from crds.virtual_service import Destination, HTTPRetry

Visibility = tuple[str, ...]


class OutboundTrafficPolicy(Model):
    """Traffic to unknown hosts (R2); the mesh-wide default is ALLOW_ANY."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] = "REGISTRY_ONLY"
    egress_proxy: Destination | None = None


class InboundTrafficPolicy(Model):
    """Where inbound traffic goes: the pod's IP or localhost (R2)."""

    mode: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"


class ConfigSource(Model):
    """Where configuration comes from."""

    address: str = ""
    tls_settings: Tree | None = None
    subscribed_resources: tuple[str, ...] = ()


class CertificateData(Model):
    """An extra root certificate (R3)."""

    pem: str | None = None
    spiffe_bundle_url: str | None = None
    cert_signers: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()


class Certificate(Model):
    """A DNS certificate for a service account (deprecated)."""

    secret_name: str = ""
    dns_names: tuple[str, ...] = ()


class CA(Model):
    """An external certificate authority."""

    address: str = ""
    tls_settings: Tree | None = None
    request_timeout: Duration | None = None
    istiod_side: Bool = False


class DefaultProviders(Model):
    """Names of extension providers used where Telemetry names none (R4)."""

    tracing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    access_logging: tuple[str, ...] = ()


class ServiceSettingsFlags(Model):
    """Settings of some services."""

    cluster_local: Bool = False


class ServiceSettings(Model):
    """Settings of the services that match ``hosts`` (R5)."""

    settings: ServiceSettingsFlags | None = None
    hosts: tuple[str, ...] = ()


class ServiceScopeConfigs(Model):
    """Whether matched services are visible in one cluster or all (R5)."""

    namespace_selector: LabelSelector | None = None
    services_selector: LabelSelector | None = None
    scope: Literal["LOCAL", "GLOBAL"] = "LOCAL"


class PathNormalization(Model):
    """How paths are normalised before they are matched (R7)."""

    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"


class TLSConfig(Model):
    """TLS of the mesh, or of everything else (R7)."""

    min_protocol_version: TLSProtocol = "TLS_AUTO"
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class MeshConfig(Model):
    """Mesh-wide settings."""

    proxy_listen_port: Port = 0
    proxy_inbound_listen_port: Port = 0
    proxy_http_port: Port = 0
    connect_timeout: Timer | None = None
    protocol_detection_timeout: Timer | None = None
    tcp_keepalive: TcpKeepalive | None = None
    ingress_class: str = ""
    ingress_service: str = ""
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "UNSPECIFIED"
    ingress_selector: str = ""
    enable_tracing: Bool = False
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    enable_envoy_access_log_service: Bool = False
    disable_envoy_listener_log: Bool = False
    default_config: ProxyConfig | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    inbound_traffic_policy: InboundTrafficPolicy | None = None
    config_sources: tuple[ConfigSource, ...] = ()
    enable_auto_mtls: Bool | None = None
    trust_domain: str = ""
    trust_domain_aliases: tuple[str, ...] = ()
    ca_certificates: tuple[CertificateData, ...] = ()
    default_service_export_to: Visibility = ()
    default_virtual_service_export_to: Visibility = ()
    default_destination_rule_export_to: Visibility = ()
    root_namespace: str = ""
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    dns_refresh_rate: Timer | None = None
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = Field(default="DO_NOT_UPGRADE", alias="h2UpgradePolicy")
    inbound_cluster_stat_name: str = ""
    outbound_cluster_stat_name: str = ""
    certificates: tuple[Certificate, ...] = ()
    service_settings: tuple[ServiceSettings, ...] = ()
    enable_prometheus_merge: Bool | None = None
    verify_certificate_at_client: Bool | None = None
    ca: CA | None = None
    extension_providers: tuple[ExtensionProvider, ...] = ()
    default_providers: DefaultProviders | None = None
    discovery_selectors: tuple[LabelSelector, ...] = ()
    path_normalization: PathNormalization | None = None
    default_http_retry_policy: HTTPRetry | None = None
    default_inbound_http_retry_policy: HTTPRetry | None = None
    mesh_mtls: TLSConfig | None = Field(default=None, alias="meshMTLS")
    tls_defaults: TLSConfig | None = None
    service_scope_configs: tuple[ServiceScopeConfigs, ...] = ()
    service_entry_visibility: Opaque = None
    default_traffic_policy: TrafficPolicy | None = None
    hbone_idle_timeout: Duration | None = None
    disable_mixer_http_reports: Opaque = None
    mixer_check_server: Opaque = None
    mixer_report_server: Opaque = None
    thrift_config: Opaque = None
    enable_client_side_policy_check: Opaque = None
    sds_uds_path: Opaque = None
    proxy_stat_name_length: UInt32 | None = None
