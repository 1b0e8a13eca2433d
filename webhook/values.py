"""Chart values and mesh configuration -> settings of the injector (features S19, A5, A13 to A19). Pure.

The webhook reads the texts from ConfigMaps, ``istioctl kube-inject`` from ConfigMaps or files; the meaning is one.
What is unknown, or known and without effect, is reported: nothing is dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from crds import parse, proxy_annotation, text
from crds.diagnostic import Code, Diagnostic, Severity, error, warning
from crds.key import ConfigKey
from crds.mesh_config import MeshConfig
from webhook import annotations as notes
from webhook import chart, templates
from webhook.settings import Capture, InjectionConfig, Policy
from webhook.templates import Templates
from wire import names

INJECTOR: Final = "istio-sidecar-injector"
MESH: Final = "istio"
_DEFAULT: Final = "default"
_NATIVE: Final = "ENABLE_NATIVE_SIDECARS"
AUTO: Final = "auto"
_NATIVE_SINCE: Final = (1, 33)
"""Istio's rule: kubelets of all nodes are at least this, though restartable init containers are older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Texts of ConfigMaps, YAML or JSON; "" is an absent key, and has Istio's defaults."""

    values: str = ""
    config: str = ""
    mesh: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What no ConfigMap says. ``kubelets`` are the versions of the cluster's nodes, such as v1.36.0.

    ``native_sidecars`` is Istio's variable ENABLE_NATIVE_SIDECARS: true, false or auto (by ``kubelets``).
    """

    revision: str = _DEFAULT
    kubelets: tuple[str, ...] = ()
    native_sidecars: str = "auto"
    openshift: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``config`` is None where a text cannot be read or a value is none: whoever has an older one keeps it."""

    config: InjectionConfig | None
    diagnostics: tuple[Diagnostic, ...] = ()


def injector_name(revision: str) -> str:
    """Name of the injector's ConfigMap of a revision."""
    return INJECTOR if revision in {"", _DEFAULT} else f"{INJECTOR}-{revision}"


def mesh_name(revision: str) -> str:
    """Name of the ConfigMap with the mesh's configuration of a revision."""
    return MESH if revision in {"", _DEFAULT} else f"{MESH}-{revision}"


def from_values(
    texts: Texts,
    around: Surroundings = Surroundings(),
    namespace: str = names.ROOT_NAMESPACE,
) -> Found:
    """The injector's settings.

    Args:
        texts: values, config and mesh as their ConfigMaps have them.
        around: the revision, and what is known of the cluster.
        namespace: where the ConfigMaps are; findings name it.
    """
    injector = ConfigKey("", "ConfigMap", namespace, injector_name(around.revision))
    mesh_key = ConfigKey("", "ConfigMap", namespace, mesh_name(around.revision))
    values, found = parse.part_of_text(chart.Values, texts.values, injector, "data.values")
    said, more = parse.part_of_text(chart.Config, texts.config, injector, "data.config")
    mesh, of_mesh = parse.part_of_text(MeshConfig, texts.mesh, mesh_key, "data.mesh")
    # Warnings about the mesh's configuration are the mesh's: it reads all of it.
    diagnostics = [*found, *more, *(each for each in of_mesh if each.severity is Severity.ERROR)]
    if values is None or said is None or mesh is None:
        return Found(config=None, diagnostics=tuple(diagnostics))
    choices, of_templates = _templates(values, said, injector)
    diagnostics += [*of_templates, *_ranges(values, injector), *_in_vain(values, injector)]
    if any(each.severity is Severity.ERROR for each in diagnostics):
        return Found(config=None, diagnostics=tuple(diagnostics))
    made = replace(
        _config(values, _raw(texts.mesh)),
        policy=_policy(values, said),
        templates=choices,
        revision=around.revision,
        native_sidecar=native(around, str(values.pilot.env.get(_NATIVE, AUTO)).lower()),
        openshift=around.openshift or values.global_.platform == "openshift",
        injected_annotations=_first(said.injected_annotations, values.sidecar_injector_webhook.injected_annotations),
        root_namespace=mesh.root_namespace or namespace,
        merge_metrics=mesh.enable_prometheus_merge is not False,
        outbound_port=mesh.proxy_listen_port or names.PROXY_OUTBOUND_PORT,
        inbound_port=mesh.proxy_inbound_listen_port or names.PROXY_INBOUND_PORT,
    )
    return Found(config=made, diagnostics=tuple(diagnostics))


def native(around: Surroundings, of_chart: str = AUTO) -> bool:
    """Whether sidecars are init containers that keep running (feature A8). ``of_chart`` is what istiod was told."""
    said = of_chart if around.native_sidecars == AUTO else around.native_sidecars
    if said in {"true", "false"}:
        return said == "true"
    versions = [re.match(r"v?(\d+)\.(\d+)", version) for version in around.kubelets]
    return bool(versions) and all(m is not None and (int(m[1]), int(m[2])) >= _NATIVE_SINCE for m in versions)


def _raw(mesh: str) -> Mapping[str, Any]:
    """The mesh's configuration as it was written, once that is known to be readable."""
    found = text.load(mesh)
    return found if isinstance(found, dict) else {}


def _first(*choices: Any) -> Any:
    return next(each for each in choices if each is not None)


def _policy(values: chart.Values, said: chart.Config) -> Policy:
    webhook = values.sidecar_injector_webhook
    policy = said.policy or values.global_.proxy.auto_inject
    return Policy(
        enabled=policy != "disabled",
        namespaces_by_default=webhook.enable_namespaces_by_default,
        never=_first(said.never_inject_selector, webhook.never_inject_selector),
        always=_first(said.always_inject_selector, webhook.always_inject_selector),
    )


def _templates(values: chart.Values, said: chart.Config, key: ConfigKey) -> tuple[Templates, tuple[Diagnostic, ...]]:
    webhook = values.sidecar_injector_webhook
    overlays, unusable, found = templates.read(webhook.templates, key, "data.values.sidecarInjectorWebhook.templates")
    # The chart copies the values' templates into the configuration, so most stand in both.
    more, also, again = templates.read(said.templates or {}, key, "data.config.templates")
    found += tuple(each for each in again if each.message not in {other.message for other in found})
    defaults = said.default_templates or webhook.default_templates or (templates.SIDECAR,)
    return Templates(
        overlays={**overlays, **more}, unusable={**unusable, **also}, aliases=dict(said.aliases), defaults=defaults
    ), found


def _config(values: chart.Values, mesh: Mapping[str, Any]) -> InjectionConfig:
    whole, proxy = values.global_, values.global_.proxy
    domain = str(mesh.get("trustDomain") or whole.trust_domain or names.DEFAULT_TRUST_DOMAIN)
    proxy_config = mesh.get("defaultConfig")
    cni = values.pilot.cni if values.pilot.cni.enabled else values.istio_cni
    return InjectionConfig(
        image=_image(whole, proxy.image),
        init_image=_init_image(whole),
        allowed_images=values.sidecar_injector_webhook.allowed_proxy_images,
        image_pull_policy=whole.image_pull_policy,
        image_pull_secrets=whole.image_pull_secrets,
        capture=_capture(proxy),
        proxy_config=proxy_config if isinstance(proxy_config, Mapping) else {},
        ca_address=whole.ca_address or f"{_istiod(values.revision)}.{whole.istio_namespace}.svc:{names.CA_PORT}",
        cluster_id=whole.multi_cluster.cluster_name or names.CLUSTER_ID,
        cluster_domain=proxy.cluster_domain,
        trust_domain=domain,
        mesh_id=whole.mesh_id,
        network=whole.network,
        proxy_log_level=proxy.log_level,
        component_log_level=proxy.component_log_level,
        agent_log_level=whole.logging.level,
        log_as_json=whole.log_as_json,
        status_port=proxy.status_port,
        readiness_initial_delay=proxy.readiness_initial_delay_seconds,
        readiness_period=proxy.readiness_period_seconds,
        readiness_failures=proxy.readiness_failure_threshold,
        startup_failures=proxy.startup_probe.failure_threshold if proxy.startup_probe.enabled else 0,
        resources=_resources(proxy.resources),
        lifecycle=dict(proxy.lifecycle),
        privileged=proxy.privileged,
        seccomp=dict(proxy.seccomp_profile),
        gateway_security=dict(values.gateways.security_context),
        gateway_seccomp=dict(values.gateways.seccomp_profile),
        token_audience=whole.sds.token.aud,
        holds_application=proxy.hold_application_until_proxy_starts,
        rewrite_probes=values.sidecar_injector_webhook.rewrite_app_http_probe,
        cni=cni.enabled,
        multus=cni.enabled and (cni.provider == "multus" or not cni.chained),
    )


def _istiod(revision: str) -> str:
    return "istiod" if revision in {"", _DEFAULT} else f"istiod-{revision}"


def _image(whole: chart.Global, name: str) -> str:
    """The proxy's image: a full name as it is, else of the hub and with the tag."""
    if "/" in name:
        return name
    hub, tag = f"{whole.hub}/" if whole.hub else "", f":{whole.tag}" if whole.tag else ""
    return f"{hub}{name}{tag}"


def _init_image(whole: chart.Global) -> str:
    """The image of istio-init where a full name says it; a name alone stands for the proxy's image, as on Istio."""
    return whole.proxy_init.image if "/" in whole.proxy_init.image else ""


def _capture(proxy: chart.Proxy) -> Capture:
    return Capture(
        include_ip_ranges=proxy.include_ip_ranges,
        exclude_ip_ranges=proxy.exclude_ip_ranges,
        include_inbound_ports=proxy.include_inbound_ports,
        exclude_inbound_ports=proxy.exclude_inbound_ports,
        include_outbound_ports=proxy.include_outbound_ports,
        exclude_outbound_ports=proxy.exclude_outbound_ports,
    )


def _resources(given: Mapping[str, Mapping[str, str | None] | None]) -> Mapping[str, Mapping[str, str]]:
    """Requests and limits. Helm removes a default by null."""
    kinds = {kind: {name: value for name, value in (of or {}).items() if value} for kind, of in given.items()}
    return {kind: of for kind, of in kinds.items() if of}


def _ranges(values: chart.Values, key: ConfigKey) -> Iterator[Diagnostic]:
    """Values that become arguments of istio-iptables are checked as the annotations are that replace them."""
    capture = _capture(values.global_.proxy)
    for field, name, alias in (
        ("include_ip_ranges", "includeOutboundIPRanges", "includeIPRanges"),
        ("exclude_ip_ranges", "excludeOutboundIPRanges", "excludeIPRanges"),
        ("include_inbound_ports", "includeInboundPorts", "includeInboundPorts"),
        ("exclude_inbound_ports", "excludeInboundPorts", "excludeInboundPorts"),
        ("include_outbound_ports", "includeOutboundPorts", "includeOutboundPorts"),
        ("exclude_outbound_ports", "excludeOutboundPorts", "excludeOutboundPorts"),
    ):
        accepts, wanted = notes.CHECKS[f"{notes.TRAFFIC}{name}"]
        value = getattr(capture, field)
        if not accepts(value):
            yield error(Code.BAD_VALUE, key, f"data.values.global.proxy.{alias}", f"{value!r} is not {wanted}")


def _in_vain(values: chart.Values, key: ConfigKey) -> Iterator[Diagnostic]:
    whole, proxy = values.global_, values.global_.proxy
    said = {
        "global.caName": bool(whole.ca_name),
        "global.mountMtlsCerts": whole.mount_mtls_certs,
        "global.nativeNftables": whole.native_nftables,
        "global.pilotCertProvider": whole.pilot_cert_provider not in {"istiod", ""},
        "global.podDNSSearchNamespaces": bool(whole.pod_dns_search_namespaces),
        "global.remotePilotAddress": bool(whole.remote_pilot_address),
        "global.variant": bool(whole.variant),
        "global.sts.servicePort": bool(whole.sts.service_port),
        "global.proxy.enableCoreDump": proxy.enable_core_dump,
        "global.proxy.outlierLogPath": bool(proxy.outlier_log_path),
        "global.proxy.tracer": proxy.tracer not in {"none", ""},
        "global.proxy_init.forceApplyIptables": whole.proxy_init.force_apply_iptables,
        "global.proxy_init.resources": bool(whole.proxy_init.resources),
    }
    for field, is_said in said.items():
        if is_said:
            yield warning(Code.NOT_SUPPORTED, key, f"data.values.{field}", proxy_annotation.IN_VAIN)
