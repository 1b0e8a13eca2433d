"""Values of Istio's chart as the injector gets them: key ``values`` of ConfigMap ``istio-sidecar-injector``.

And key ``config`` of the same. Source: values.yaml of Istio's chart istiod. A value that is absent has Istio's default
here. What the values mean is in values.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from crds.meta import Bool, Int, Model, Opaque, Port, Tree


def _text(value: object) -> object:
    """YAML makes numbers of tags and ports that their writer took for text."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]


class StartupProbe(Model):
    """The proxy's startup probe."""

    enabled: Bool = True
    failure_threshold: Int = 600


class Proxy(Model):
    """``global.proxy``: the container istio-proxy."""

    auto_inject: Literal["enabled", "disabled", ""] = "enabled"
    cluster_domain: str = "cluster.local"
    component_log_level: str = "misc:error"
    enable_core_dump: Bool = False
    exclude_ip_ranges: Text = Field(default="", alias="excludeIPRanges")
    exclude_inbound_ports: Text = ""
    exclude_outbound_ports: Text = ""
    hold_application_until_proxy_starts: Bool = False
    image: str = "proxyv2"
    include_ip_ranges: Text = Field(default="*", alias="includeIPRanges")
    include_inbound_ports: Text = "*"
    include_outbound_ports: Text = ""
    lifecycle: Tree = Field(default_factory=dict)
    log_level: str = "warning"
    outlier_log_path: str = ""
    privileged: Bool = False
    readiness_failure_threshold: Int = 4
    readiness_initial_delay_seconds: Int = 0
    readiness_period_seconds: Int = 15
    resources: Mapping[str, Mapping[str, Text | None] | None] = Field(default_factory=dict)
    seccomp_profile: Tree = Field(default_factory=dict)
    startup_probe: StartupProbe = StartupProbe()
    status_port: Port = 15020
    tracer: str = "none"


class ProxyInit(Model):
    """``global.proxy_init``: the container istio-init."""

    force_apply_iptables: Bool = False
    image: str = "proxyv2"
    resources: Opaque = None


class MultiCluster(Model):
    """``global.multiCluster``."""

    enabled: Opaque = None
    cluster_name: str = ""
    global_domain_suffix: Opaque = None
    include_envoy_filter: Opaque = None


class Sts(Model):
    """``global.sts``: the exchange of tokens by the agent."""

    service_port: Port = 0


class Logging(Model):
    """``global.logging``."""

    level: str = "default:info"


class SdsToken(Model):
    """``global.sds.token``."""

    aud: str = "istio-ca"


class Sds(Model):
    """``global.sds``."""

    token: SdsToken = SdsToken()


class Global(Model):
    """``global``. Fields that concern other parts than the injector are opaque."""

    hub: str = ""
    tag: Text = ""
    variant: Text = ""
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    istio_namespace: str = "istio-system"
    ca_address: str = ""
    ca_name: str = ""
    cluster_id: Opaque = None
    log_as_json: Bool = False
    logging: Logging = Logging()
    mesh_id: str = Field(default="", alias="meshID")
    mount_mtls_certs: Bool = False
    multi_cluster: MultiCluster = MultiCluster()
    native_nftables: Bool = False
    network: str = ""
    pilot_cert_provider: str = "istiod"
    pod_dns_search_namespaces: tuple[str, ...] = Field(default=(), alias="podDNSSearchNamespaces")
    proxy: Proxy = Proxy()
    proxy_init: ProxyInit = Field(default=ProxyInit(), alias="proxy_init")
    remote_pilot_address: str = ""
    sds: Sds = Sds()
    sts: Sts = Sts()
    trust_domain: str = ""
    platform: str = ""
    agentgateway: Opaque = None
    arch: Opaque = None
    cert_signers: Opaque = None
    config_cluster: Opaque = None
    config_root_namespace: Opaque = None
    config_validation: Opaque = None
    default_config_visibility_settings: Opaque = None
    default_node_selector: Opaque = None
    default_pod_disruption_budget: Opaque = None
    default_resources: Opaque = None
    default_tolerations: Opaque = None
    enabled: Opaque = None
    external_istiod: Opaque = None
    gateway_class: Opaque = None
    ip_families: Opaque = None
    ip_family_policy: Opaque = None
    istio_remote: Opaque = None
    istiod: Opaque = None
    jwt_policy: Opaque = None
    mesh_networks: Opaque = None
    network_policy: Opaque = None
    omit_sidecar_injector_config_map: Opaque = None
    one_namespace: Opaque = None
    operator_manage_webhooks: Opaque = None
    priority_class_name: Opaque = None
    resource_scope: Opaque = None
    tracer: Opaque = None
    trust_bundle_name: Opaque = None
    use_mcp: Opaque = Field(default=None, alias="useMCP")
    waypoint: Opaque = None


class SidecarInjectorWebhook(Model):
    """``sidecarInjectorWebhook``. ``templates`` is name -> text, or names alone."""

    allowed_proxy_images: tuple[str, ...] = ()
    """Not Istio's: which images pods may ask for."""
    always_inject_selector: tuple[Tree, ...] = ()
    never_inject_selector: tuple[Tree, ...] = ()
    default_templates: tuple[str, ...] = ()
    enable_namespaces_by_default: Bool = False
    injected_annotations: Mapping[str, str] = Field(default_factory=dict)
    reinvocation_policy: Opaque = None
    rewrite_app_http_probe: Bool = Field(default=True, alias="rewriteAppHTTPProbe")
    templates: Mapping[str, str] | tuple[str, ...] = Field(default_factory=dict)


class Cni(Model):
    """``pilot.cni`` and its older name ``istio_cni``: a network plugin redirects traffic, in place of istio-init."""

    enabled: Bool = False
    chained: Bool = True
    provider: Literal["default", "multus", ""] = "default"


class Pilot(Model):
    """``pilot``: what of it concerns injection."""

    cni: Cni = Cni()
    env: Mapping[str, Any] = Field(default_factory=dict)


class Gateways(Model):
    """``gateways``: pods of the gateway template."""

    seccomp_profile: Tree = Field(default_factory=dict)
    security_context: Tree = Field(default_factory=dict)


class Values(Model):
    """The whole of key ``values``."""

    global_: Global = Field(default=Global(), alias="global")
    sidecar_injector_webhook: SidecarInjectorWebhook = SidecarInjectorWebhook()
    istio_cni: Cni = Field(default=Cni(), alias="istio_cni")
    pilot: Pilot = Pilot()
    gateways: Gateways = Gateways()
    revision: str = ""
    revision_tags: Opaque = None
    mesh_config: Opaque = None
    cni: Opaque = None
    ztunnel: Opaque = None
    telemetry: Opaque = None
    base: Opaque = None
    profile: Opaque = None
    compatibility_version: Opaque = None
    default_revision: Opaque = None


class Config(Model):
    """Key ``config`` of the same ConfigMap. What it says wins over the values; ``templates`` as there."""

    policy: Literal["enabled", "disabled"] | None = None
    always_inject_selector: tuple[Tree, ...] | None = None
    never_inject_selector: tuple[Tree, ...] | None = None
    injected_annotations: Mapping[str, str] | None = None
    default_templates: tuple[str, ...] | None = None
    aliases: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    templates: Mapping[str, str] | tuple[str, ...] | None = None
    sidecar_template: Opaque = Field(default=None, alias="template")
