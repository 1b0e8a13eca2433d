"""Pods as the mesh sees them: labels, identity, place and ports; whether they serve is the EndpointSlices' to say.

A leaf per pod, interned by content, so that a status change that means nothing to us touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crds import core, proxy_annotation
from crds.diagnostic import Diagnostic
from istiod.mesh.endpoint import Workload
from istiod.mesh.service import Labels
from istiod.mesh.settings import MeshSettings
from wire import names
from wire.node import Locality
from wire.spiffe import Identity

NOWHERE = Locality()
_NO_REVISION = "latest"
_LOCALITY_LABEL = "istio-locality"
_GATEWAY = "gateway"
"""Istio's template of proxies that stand alone."""
_FINISHED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    """A port that a container declares."""

    number: int
    name: str
    udp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWorkload:
    """A pod. ``labels`` are its own; ``all_labels`` also say where it runs (failover priorities and subsets use them).

    ``identity`` is its SPIFFE id; ``tls`` says that it has a sidecar with mesh identity. ``addresses`` are empty while
    it has none, and when it has finished.
    """

    namespace: str
    name: str
    addresses: tuple[str, ...]
    labels: Labels
    all_labels: Labels
    ports: tuple[ContainerPort, ...]
    identity: str
    tls: bool
    ready: bool
    locality: Locality
    network: str
    node: str
    workload: Workload
    gateway: bool = False
    """Whether it asks for a proxy that is a gateway's."""
    diagnostics: tuple[Diagnostic, ...] = ()
    """What its annotations say in vain."""


def pod(item: core.Pod, settings: MeshSettings, localities: Mapping[str, Locality]) -> PodWorkload:
    """The workload of a pod. ``localities`` is by node name."""
    meta, spec = item.metadata, item.spec
    locality = label_locality(meta.labels) or localities.get(spec.node_name, NOWHERE)
    addresses = tuple(a.ip for a in item.status.pod_ips) or ((item.status.pod_ip,) if item.status.pod_ip else ())
    network = meta.labels.get(names.LABEL_NETWORK, "") or settings.networks.of(next(iter(addresses), ""))
    account = spec.service_account_name or "default"
    return PodWorkload(
        namespace=meta.namespace,
        name=meta.name,
        addresses=() if item.status.phase in _FINISHED else addresses,
        labels=frozenset(meta.labels.items()),
        all_labels=placed(meta.labels, locality, network, spec.node_name),
        ports=tuple(
            ContainerPort(number=port.container_port, name=port.name, udp=port.protocol == "UDP")
            for container in spec.containers
            for port in container.ports
        ),
        identity=str(Identity(settings.trust_domain, meta.namespace, account)),
        tls=meta.labels.get(names.LABEL_TLS_MODE) == "istio",
        ready=any(c.type == "Ready" and c.status == "True" for c in item.status.conditions),
        locality=locality,
        network=network,
        node=spec.node_name,
        workload=workload(workload_name(meta.labels, item), meta.namespace, meta.labels),
        gateway=_GATEWAY in map(str.strip, meta.annotations.get(names.ANNOTATION_TEMPLATES, "").split(",")),
        diagnostics=tuple(proxy_annotation.check(meta.annotations.get(proxy_annotation.NAME, ""), item.key)),
    )


def workload(name: str, namespace: str, labels: Mapping[str, str]) -> Workload:
    """Names of a workload for metrics (Istio: canonical service and revision, from labels)."""
    service = (names.LABEL_CANONICAL_NAME, "app.kubernetes.io/name", "app")
    revision = (names.LABEL_CANONICAL_REVISION, "app.kubernetes.io/version", "version")
    return Workload(
        name=name,
        namespace=namespace,
        app=labels.get("app", ""),
        version=labels.get("version", ""),
        canonical_name=next((labels[k] for k in service if labels.get(k)), name),
        canonical_revision=next((labels[k] for k in revision if labels.get(k)), _NO_REVISION),
        cluster_id=names.CLUSTER_ID,
    )


def workload_name(labels: Mapping[str, str], item: core.Pod) -> str:
    """The name of what runs the pod: its label, else the controller of a generated pod, else the pod's own name.

    A ReplicaSet stands for its Deployment when it carries the pod's template hash (Istio: GetDeployMetaFromPod).
    """
    if said := labels.get(names.LABEL_WORKLOAD_NAME):
        return said
    meta = item.metadata
    owner = next((o for o in meta.owner_references if o.controller), None)
    if owner is None or not meta.generate_name:
        return meta.name
    template = labels.get("pod-template-hash", "")
    return owner.name.removesuffix(f"-{template}") if owner.kind == "ReplicaSet" and template else owner.name


def placed(labels: Mapping[str, str], locality: Locality, network: str, node: str) -> Labels:
    """Labels, and where the workload runs as labels; what the object itself says stands."""
    place = {
        names.LABEL_REGION: locality.region,
        names.LABEL_ZONE: locality.zone,
        names.LABEL_SUBZONE: locality.subzone,
        names.LABEL_NETWORK: network,
        names.LABEL_HOSTNAME: node,
        "topology.istio.io/cluster": names.CLUSTER_ID,
    }
    return frozenset({**{k: v for k, v in place.items() if v}, **labels}.items())


def label_locality(labels: Mapping[str, str]) -> Locality | None:
    """The locality that label ``istio-locality`` gives (``region.zone.subzone``), or None.

    Dots stand for slashes, which labels of Kubernetes cannot have; where there are slashes, dots belong to names.
    """
    said = labels.get(_LOCALITY_LABEL)
    return parse_locality(said if "/" in said else said.replace(".", "/")) if said else None


def parse_locality(text: str) -> Locality:
    """``region/zone/subzone``, shorter forms allowed."""
    region, zone, subzone = (*text.split("/"), "", "")[:3]
    return Locality(region=region, zone=zone, subzone=subzone)


def node_locality(labels: Mapping[str, str]) -> Locality:
    """Where a node is, by its topology labels."""
    return Locality(
        region=labels.get(names.LABEL_REGION, ""),
        zone=labels.get(names.LABEL_ZONE, ""),
        subzone=labels.get(names.LABEL_SUBZONE, ""),
    )
