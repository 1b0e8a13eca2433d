"""What injection needs to know beside the pod: images, addresses, chart values, policy. One frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
class InjectionConfig:
    """Settings of one injector. Defaults are those of Istio's chart, without a registry before the image.

    ``proxy_config`` is ``defaultConfig`` of the mesh configuration in its JSON form, as the user wrote it.
    ``merge_metrics`` (A11) needs an agent that asks the app for its metrics, so it is off until ours does.
    ``native_sidecar`` (A8) needs a cluster whose kubelets restart init containers.
    """

    image: str = "proxyv2"
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    revision: str = "default"
    policy: Policy = field(default_factory=Policy)
    capture: Capture = field(default_factory=Capture)
    proxy_config: Mapping[str, object] = field(default_factory=dict)
    ca_address: str = f"istiod.{names.ROOT_NAMESPACE}.svc:{names.CA_PORT}"
    cluster_id: str = names.CLUSTER_ID
    cluster_domain: str = names.DEFAULT_DNS_DOMAIN
    trust_domain: str = names.DEFAULT_TRUST_DOMAIN
    mesh_id: str = ""
    network: str = ""
    proxy_log_level: str = "warning"
    component_log_level: str = "misc:error"
    agent_log_level: str = "default:info"
    status_port: int = names.STATUS_PORT
    readiness_initial_delay: int = 0
    readiness_period: int = 15
    readiness_failures: int = 4
    startup_failures: int = 600
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: RESOURCES)
    native_sidecar: bool = False
    rewrite_probes: bool = True
    merge_metrics: bool = False
