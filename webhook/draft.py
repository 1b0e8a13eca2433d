"""What the templates ask of a pod, read once: its parts, its annotations, its effective ProxyConfig. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from webhook import annotations as notes
from webhook import openshift, proxy_configs, templates, workload
from webhook.decision import items, part, strings
from webhook.settings import InjectionConfig, Json
from webhook.workload import Owner
from wire import names

PROXY = "istio-proxy"
INIT = "istio-init"
KINDS = ("distroless", "debug")
"""Kinds of the proxy's image that its tag may end with."""
_BUILT_IN: Mapping[str, object] = {
    "binaryPath": "/usr/local/bin/envoy",
    "configPath": "./etc/istio/proxy",
    "controlPlaneAuthPolicy": "MUTUAL_TLS",
    "discoveryAddress": f"istiod.{names.ROOT_NAMESPACE}.svc:{names.CA_PORT}",
    "drainDuration": "45s",
    "proxyAdminPort": names.ADMIN_PORT,
    "serviceCluster": PROXY,
    "statNameLength": 189,
    "statusPort": names.STATUS_PORT,
    "terminationDrainDuration": "5s",
}
"""What every agent starts with: not repeated in PROXY_CONFIG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A pod on its way through injection. ``user`` is the container istio-proxy that the pod brought, or empty."""

    pod: Mapping[str, object]
    namespace: str
    config: InjectionConfig
    owner: Owner
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    proxy_config: Mapping[str, object]
    containers: tuple[Json, ...]
    user: Mapping[str, object]
    ids: tuple[int, int] = (names.PROXY_UID, names.PROXY_UID)
    """User and group of the proxy, where the pod does not say them."""

    def note(self, name: str, default: str) -> str:
        """An annotation's value, or what the chart says."""
        return self.annotations.get(name, default)

    @property
    def router(self) -> bool:
        """A gateway, not a sidecar."""
        return templates.GATEWAY in self.config.templates.named(self.annotations.get(notes.TEMPLATES, ""))

    @property
    def native(self) -> bool:
        """The sidecar is an init container that keeps running."""
        return notes.truth(self.annotations, notes.NATIVE, default=self.config.native_sidecar) and not self.router

    @property
    def uid(self) -> int:
        """The user that the proxy runs as: an override of the user's must reach the rules too."""
        asked = part(self.user, "securityContext").get("runAsUser")
        return asked if isinstance(asked, int) and asked else self.ids[0]  # rules for root would catch the app's root

    @property
    def gid(self) -> int:
        """The group that the proxy runs as."""
        asked = part(self.user, "securityContext").get("runAsGroup")
        return asked if isinstance(asked, int) else self.ids[1]

    @property
    def mode(self) -> str:
        """How traffic is captured: REDIRECT, TPROXY or NONE."""
        configured = str(self.proxy_config.get("interceptionMode", "REDIRECT"))
        return self.note(f"{notes.SIDECAR}interceptionMode", configured)

    @property
    def agent_port(self) -> int:
        """Where the agent answers for the app's probes."""
        asked = self.note(notes.STATUS_PORT, "0")
        return int(asked) or self.metrics_port

    @property
    def status_port(self) -> int:
        """The agent's port as chart and pod say it; 0: the proxy has no readiness probe."""
        configured = self.proxy_config.get("statusPort")
        default = configured if isinstance(configured, int) else self.config.status_port
        return int(self.note(notes.STATUS_PORT, str(default)))

    @property
    def metrics_port(self) -> int:
        """The port for Prometheus: the mesh's, also where the pod's annotation moves the probes (as Istio does)."""
        port = self.proxy_config.get("statusPort", names.STATUS_PORT)
        return port if isinstance(port, int) else names.STATUS_PORT

    @property
    def holds_application(self) -> bool:
        """Whether the app's containers wait for the proxy."""
        return self.proxy_config.get("holdApplicationUntilProxyStarts") is True or self.config.holds_application

    @property
    def proxy_metadata(self) -> Mapping[str, str]:
        """Environment variables that the user gives the proxy."""
        return strings(self.proxy_config.get("proxyMetadata"))

    @property
    def network(self) -> str:
        """The network that the pod is in: its own label says it best."""
        return self.labels.get(names.LABEL_NETWORK, self.config.network)

    @property
    def departs(self) -> bool:
        """Whether the pod ends only when nobody sends to it any more."""
        return not self.router and self.proxy_metadata.get(names.DRAIN_UNTIL_ACKNOWLEDGED) == "true"

    @property
    def image(self) -> str:
        """The proxy's image. A name in the annotation has to be a full one, as on Istio."""
        asked = self.annotations.get(f"{notes.SIDECAR}proxyImage", "")
        kind = str(part(self.proxy_config, "image").get("imageType") or "")
        kind = self.annotations.get(f"{notes.SIDECAR}proxyImageType", kind)
        return asked if "/" in asked else variant(self.config.image, kind)

    @property
    def init_image(self) -> str:
        """The image that programs the rules."""
        asked = self.annotations.get(f"{notes.SIDECAR}proxyImage", "")
        return asked if "/" in asked else self.config.init_image or self.image


def variant(image: str, kind: str) -> str:
    """The image of a kind: its tag ends with it, in place of the kind that it may end with now."""
    if not kind:
        return image
    for known in KINDS:
        image = image.removesuffix(f"-{known}")
    return image if kind == "default" else f"{image}-{kind}"


def draft(
    pod: Mapping[str, object],
    config: InjectionConfig,
    namespace: str,
    owner: Owner | None = None,
    of_namespace: Mapping[str, str] | None = None,
) -> Draft:
    """The draft of a pod.

    Args:
        pod: the pod as JSON.
        config: the injector's settings.
        namespace: where the pod will be.
        owner: given where it is known better than from the pod's references.
        of_namespace: annotations of the namespace.
    """
    metadata, spec = part(pod, "metadata"), part(pod, "spec")
    annotations, labels = (strings(metadata.get(name)) for name in ("annotations", "labels"))
    both = [dict(each) for each in (*items(spec.get("containers")), *items(spec.get("initContainers")))]
    containers = tuple(dict(each) for each in items(spec.get("containers")) if each.get("name") != PROXY)
    user = next((each for each in both if each.get("name") == PROXY), {})
    made = Draft(
        pod=pod,
        namespace=namespace,
        config=config,
        owner=owner or workload.owner(pod),
        labels=labels,
        annotations=annotations,
        proxy_config=_effective(proxy_configs.effective(config, namespace, labels), notes.proxy_config(annotations)),
        containers=containers,
        user=openshift.without_own_user(user, containers) if config.openshift else user,
    )
    if not config.openshift or made.mode == "TPROXY":  # transparent sockets need root, and rules 1337
        return made
    return replace(made, ids=openshift.ids(of_namespace or {}))


def _effective(mesh: Mapping[str, object], pod: Mapping[str, object]) -> Mapping[str, object]:
    """The mesh's ProxyConfig under the pod's, but for what every agent starts with."""
    found = proxy_configs.merged(mesh, pod)
    return {key: value for key, value in found.items() if _BUILT_IN.get(key) != value}
