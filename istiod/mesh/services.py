"""Kubernetes Service -> Service of the registry (features rows D12, D13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from crds import core
from istiod.config.origin import Origin
from istiod.mesh import networks, protocol
from istiod.mesh.registry import audience
from istiod.mesh.service import SAME_NODE, Port, Resolution, Service
from istiod.mesh.settings import MeshSettings
from wire import names

_NO_CLUSTER_IP = "None"
_DISTRIBUTIONS = {name.lower(): name for name in ("PreferClose", "PreferSameZone", SAME_NODE)}
_ISTIOS = ("networking.istio.io/", "alpha.istio.io/", "traffic.istio.io/", "auth.istio.io/", "ambient.istio.io/")


def service(item: core.Service, settings: MeshSettings) -> Service:
    """The service that a Kubernetes Service declares."""
    spec, meta = item.spec, item.metadata
    addresses = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    headless = _NO_CLUSTER_IP in addresses
    host = f"{meta.name}.{meta.namespace}.svc.{settings.dns_domain}"
    said = (part.strip() for part in meta.annotations.get(names.ANNOTATION_EXPORT_TO, "").split(","))
    return Service(
        host=host,
        name=meta.name,
        namespace=meta.namespace,
        ports=tuple(_port(port) for port in spec.ports),
        addresses=() if headless else addresses,
        resolution=_resolution(spec, headless=headless),
        mesh_external=False,
        kubernetes=True,
        headless=headless,
        selector=frozenset(spec.selector.items()),
        labels=frozenset(meta.labels.items()),
        export_to=audience((part for part in said if part), meta.namespace, settings.service_export_to),
        external_name=spec.external_name if spec.type == "ExternalName" else "",
        created=meta.creation_timestamp,
        origin=Origin(key=item.key),
        node_local=spec.internal_traffic_policy == "Local",
        traffic_distribution=distribution(spec.traffic_distribution, meta.annotations),
        outside=networks.addresses(item) if settings.networks.names(item, host) else (),
    )


def without_effect(item: core.Service) -> Iterator[tuple[str, str]]:
    """Fields and annotations of Istio's that say something in vain, and why."""
    if item.spec.session_affinity == "ClientIP":
        reason = "has no effect: sidecars choose anew each time; consistentHash in a DestinationRule keeps one"
        yield "spec.sessionAffinity", reason
    for name in item.metadata.annotations:
        field = f"metadata.annotations[{name}]"
        if name == names.ANNOTATION_TRAFFIC_DISTRIBUTION:
            if item.spec.traffic_distribution in _DISTRIBUTIONS.values():
                yield field, "has no effect: spec.trafficDistribution says it"
            else:
                yield from unknown_distribution(item.metadata.annotations)
        elif name.startswith(_ISTIOS) and name != names.ANNOTATION_EXPORT_TO:
            yield field, "has no effect on a Service"


def unknown_distribution(annotations: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The annotation, where it says what nobody knows, and why that is so."""
    value = annotations.get(names.ANNOTATION_TRAFFIC_DISTRIBUTION)
    if value is not None and value.lower() not in (*_DISTRIBUTIONS, "any"):
        reason = f"{value!r} has no effect: it is none of PreferClose, PreferSameZone and PreferSameNode"
        yield f"metadata.annotations[{names.ANNOTATION_TRAFFIC_DISTRIBUTION}]", reason


def distribution(said: str, annotations: Mapping[str, str]) -> str:
    """The field; where it says nothing that Istio knows, the older annotation (Istio: GetTrafficDistribution)."""
    older = annotations.get(names.ANNOTATION_TRAFFIC_DISTRIBUTION, "")
    return said if said in _DISTRIBUTIONS.values() else _DISTRIBUTIONS.get(older.lower(), "")


def _port(port: core.ServicePort) -> Port:
    return Port(
        number=port.port,
        name=port.name,
        protocol=protocol.of_service_port(port.port, port.name, port.protocol, port.app_protocol),
        target=port.target_port or 0,
    )


def _resolution(spec: core.ServiceSpec, *, headless: bool) -> Resolution:
    if spec.type == "ExternalName" and spec.external_name:
        return Resolution.ALIAS
    return Resolution.PASSTHROUGH if headless else Resolution.CLIENT_SIDE
