"""What injection needs to know beside the pod: images, addresses, chart values, policy. One frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from webhook.templates import Templates
from wire import names

Json = dict[str, object]

RESOURCES: Mapping[str, Mapping[str, str]] = {
    "limits": {"cpu": "2000m", "memory": "1024Mi"},
    "requests": {"cpu": "100m", "memory": "128Mi"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which pods are injected (features A2 to A5). Selectors are label selectors in their JSON form."""

    enabled: bool = True
    namespaces_by_default: bool = False
    never: tuple[Mapping[str, object], ...] = ()
    always: tuple[Mapping[str, object], ...] = ()
    ignored_namespaces: tuple[str, ...] = ("kube-system", "kube-public", "kube-node-lease", "local-path-storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Chart values of traffic capture; lists are comma separated, ``*`` is everything (features B3 to B5)."""

    include_ip_ranges: str = "*"
    exclude_ip_ranges: str = ""
    include_inbound_ports: str = "*"
    exclude_inbound_ports: str = ""
    include_outbound_ports: str = ""
    exclude_outbound_ports: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoped:
    """A ProxyConfig object: ``settings`` are what of ProxyConfig it says, in the JSON form of ``defaultConfig``."""

    namespace: str
    selector: Mapping[str, str]
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionConfig:
    """Settings of one injector. Defaults are those of Istio's chart, without a registry before the image.

    ``proxy_config`` is ``defaultConfig`` of the mesh configuration in its JSON form, as the user wrote it.
    ``merge_metrics`` (A11) needs an agent that asks the app for its metrics, and ``native_sidecar`` (A8) a cluster
    whose kubelets restart init containers: both are on where values and mesh configuration say so (values.py).
    """

    image: str = "proxyv2"
    init_image: str = ""
    """Image of istio-init; "" is the proxy's."""
    allowed_images: tuple[str, ...] = ()
    """Images of the proxy that pods may ask for beside these two, some with ``*`` at their end; empty: any."""
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    revision: str = "default"
    policy: Policy = field(default_factory=Policy)
    templates: Templates = field(default_factory=Templates)
    capture: Capture = field(default_factory=Capture)
    proxy_config: Mapping[str, object] = field(default_factory=dict)
    scoped: tuple[Scoped, ...] = ()
    """ProxyConfig objects, oldest first (proxy_configs.py)."""
    root_namespace: str = names.ROOT_NAMESPACE
    ca_address: str = f"istiod.{names.ROOT_NAMESPACE}.svc:{names.CA_PORT}"
    cluster_id: str = names.CLUSTER_ID
    cluster_domain: str = names.DEFAULT_DNS_DOMAIN
    trust_domain: str = names.DEFAULT_TRUST_DOMAIN
    mesh_id: str = ""
    network: str = ""
    """Where pods are whose labels do not say it; they get it as a label, too."""
    proxy_log_level: str = "warning"
    component_log_level: str = "misc:error"
    agent_log_level: str = "default:info"
    log_as_json: bool = False
    outbound_port: int = names.PROXY_OUTBOUND_PORT
    inbound_port: int = names.PROXY_INBOUND_PORT
    status_port: int = names.STATUS_PORT
    """The agent's port; 0: the proxy has no readiness probe."""
    readiness_initial_delay: int = 0
    readiness_period: int = 15
    readiness_failures: int = 4
    startup_failures: int = 600
    """Tries of the startup probe; 0: there is none."""
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: RESOURCES)
    lifecycle: Mapping[str, object] = field(default_factory=dict)
    """The proxy's hooks, in place of ours."""
    privileged: bool = False
    seccomp: Mapping[str, object] = field(default_factory=dict)
    gateway_security: Mapping[str, object] = field(default_factory=dict)
    """securityContext of gateway pods, in place of ours."""
    gateway_seccomp: Mapping[str, object] = field(default_factory=dict)
    token_audience: str = names.TOKEN_AUDIENCE
    injected_annotations: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further variables of the proxy: those of the path that the webhook was called by."""
    holds_application: bool = False
    native_sidecar: bool = False
    rewrite_probes: bool = True
    merge_metrics: bool = False
    cni: bool = False
    """A network plugin redirects traffic; istio-validation checks that it did."""
    multus: bool = False
    """The plugin is asked for by an annotation (Multus)."""
    openshift: bool = False
    """Users of pods come from ranges that annotations of the namespace name."""
