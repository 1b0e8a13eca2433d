"""What a cluster would add to the objects of some files: pods of Deployments, addresses, endpoints, a gateway.

Nobody runs them, so they are imagined: each has an address of its own that depends on its name only, so that a file
more changes nothing about the others. What the files say themselves stands.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from crds import apps, core, discovery, gateway, parse
from crds.key import NETWORKING
from crds.meta import Object, OwnerReference
from crds.pod_spec import PodSpec
from istiod.config.store import ConfigSnapshot
from wire import names

Document: TypeAlias = dict[str, Any]
_Selectors: TypeAlias = dict[frozenset[tuple[str, str]], list[gateway.Gateway]]
PODS: Final = ipaddress.ip_network("10.244.0.0/16")
SERVICES: Final = ipaddress.ip_network("10.96.0.0/16")
_INJECT: Final = "sidecar.istio.io/inject"
_PROXY: Final = "istio-proxy"
_GATEWAY: Final = "gateway"
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._~-]+")
_LONGEST: Final = 200
"""Characters of a name to which a number is added."""
_MOVED: Final = {80: 8080, 443: 8443}
"""Ports of Istio's gateway Service whose pods listen elsewhere."""
_TEMPLATES: Final = (apps.Deployment, apps.ReplicaSet, apps.StatefulSet, apps.DaemonSet, apps.Job)


class Addresses:
    """Gives addresses by name; of two names that ask for one, the second gets the next free one."""

    def __init__(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network, taken: Iterable[str]) -> None:
        self._network = network
        self._taken = set(taken)

    def of(self, name: str) -> str:
        """A new address for a name."""
        size = self._network.num_addresses - 2
        start = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) % size
        for step in range(size):
            found = str(self._network[1 + (start + step) % size])
            if found not in self._taken:
                self._taken.add(found)
                return found
        raise ValueError(f"no address is left in {self._network}")


def complete(snapshot: ConfigSnapshot, beside: ConfigSnapshot | None = None) -> list[Object]:
    """The objects that a cluster would add to, or put in place of, those of a snapshot.

    ``beside`` is one that it is compared with: the gateways that are imagined for that are there in both.
    """
    namespaces = {key.name: dict(item.metadata.labels) for key, item in snapshot.of("", "Namespace").items()}
    pods = list(_pods(snapshot, namespaces))
    services = list(_services(snapshot))
    said = {item.key for item in snapshot.of("", "Service").values()}
    routers = list(_routers(_selectors(snapshot, beside), [*_all_pods(snapshot, pods)], _addresses(snapshot, services)))
    pods += [pod for pod, _ in routers]
    services += [service for _, service in routers if service.key not in said]
    every = {item.key: item for item in (*snapshot.of("", "Service").values(), *services)}
    slices = _slices(snapshot, every.values(), list(_all_pods(snapshot, pods)))
    return [*pods, *services, *slices]


def made(document: Document) -> Object:
    """The object of a document that was written here.

    Raises:
        ValueError: it is none; a bug.
    """
    found = parse.parse(document)
    if found.object is None:
        raise ValueError(f"{document}: {[str(each) for each in found.diagnostics]}")
    return found.object


def injected(metadata: Mapping[str, str], annotations: Mapping[str, str], namespace: Mapping[str, str] | None) -> bool:
    """Whether a pod gets a sidecar; in a namespace that no file describes, unless the pod says no."""
    said = metadata.get(_INJECT) or annotations.get(_INJECT)
    if said in ("true", "false"):
        return said == "true"
    if namespace is None:
        return True
    return namespace.get("istio-injection") == "enabled" or (
        "istio-injection" not in namespace and names.LABEL_REVISION in namespace
    )


def _all_pods(snapshot: ConfigSnapshot, new: Iterable[core.Pod]) -> Iterator[core.Pod]:
    mine = {pod.key for pod in new}
    yield from new
    for key, item in snapshot.of("", "Pod").items():
        if isinstance(item, core.Pod) and key not in mine:
            yield item


def _pods(snapshot: ConfigSnapshot, namespaces: Mapping[str, Mapping[str, str]]) -> Iterator[core.Pod]:
    known = [item for item in snapshot.of("", "Pod").values() if isinstance(item, core.Pod)]
    addresses = Addresses(PODS, (item.status.pod_ip for item in known if item.status.pod_ip))
    for item in known:
        if not item.status.pod_ip and not item.status.pod_ips:
            yield _pod(item.metadata.name, item.metadata.namespace, item.metadata, item.spec, namespaces, addresses)
    for item in _workloads(snapshot):
        meta, template = item.metadata, item.spec.template
        for number in range(_replicas(item)):
            name = f"{meta.name[:_LONGEST]}-{number}"
            pod = _pod(name, meta.namespace, template.metadata, template.spec, namespaces, addresses)
            yield _owned(pod, item.key.kind, meta.name)


def _workloads(snapshot: ConfigSnapshot) -> Iterator[Any]:
    """Those that make pods, but for those that another has made, and those whose pods the files hold already."""
    pods = [item for item in snapshot.of("", "Pod").values() if isinstance(item, core.Pod)]
    for kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"):
        for _, item in sorted(snapshot.of("apps", kind).items()):
            if isinstance(item, _TEMPLATES) and not item.metadata.owner_references and not _runs(item, pods):
                yield item


def _runs(item: Any, pods: Iterable[core.Pod]) -> bool:
    wanted = item.spec.selector.match_labels if item.spec.selector else {}
    return bool(wanted) and any(
        pod.metadata.namespace == item.metadata.namespace and wanted.items() <= pod.metadata.labels.items()
        for pod in pods
    )


def _replicas(item: Any) -> int:
    said = getattr(item.spec, "replicas", None)
    return 1 if said is None else min(said, 3)


def _pod(
    name: str,
    namespace: str,
    meta: Any,
    spec: PodSpec,
    namespaces: Mapping[str, Mapping[str, str]],
    addresses: Addresses,
) -> core.Pod:
    labels = dict(meta.labels)
    sidecar = any(each.name == _PROXY for each in (*spec.containers, *spec.init_containers))
    wanted = injected(labels, meta.annotations, namespaces.get(namespace)) and not spec.host_network
    alone = _GATEWAY in map(str.strip, meta.annotations.get(names.ANNOTATION_TEMPLATES, "").split(","))
    if (sidecar or wanted) and not alone:  # injection gives a gateway no such label: what calls it begins in plain text
        labels.setdefault(names.LABEL_TLS_MODE, "istio")
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": dict(meta.annotations)},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "status": {
            "phase": "Running",
            "podIP": addresses.of(f"{namespace}/{name}"),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    found = made(document)
    if not isinstance(found, core.Pod):
        raise TypeError(f"{found.key} is no pod")
    return found


def _owned(pod: core.Pod, kind: str, name: str) -> core.Pod:
    """The pod as one that a workload has made: it bears the workload's name."""
    owner = OwnerReference(kind=kind, name=name, controller=True)
    meta = pod.metadata.model_copy(update={"owner_references": (owner,), "generate_name": f"{name}-"})
    return pod.model_copy(update={"metadata": meta})


def _selectors(snapshot: ConfigSnapshot, beside: ConfigSnapshot | None) -> _Selectors:
    """The Gateways by their selectors; also those of the other snapshot, but for selectors that pods of it have."""
    found = _by_selector(snapshot)
    if beside is not None:
        theirs = list(_all_pods(beside, list(_pods(beside, {}))))
        for selector, several in _by_selector(beside).items():
            if selector in found or not any(selector <= frozenset(pod.metadata.labels.items()) for pod in theirs):
                found[selector] = [*found.get(selector, ()), *several]
    return found


def _by_selector(snapshot: ConfigSnapshot) -> _Selectors:
    wanted: _Selectors = {}
    for _, item in sorted(snapshot.of(NETWORKING, "Gateway").items()):
        if isinstance(item, gateway.Gateway) and item.spec.selector:
            wanted.setdefault(frozenset(item.spec.selector.items()), []).append(item)
    return wanted


def _routers(wanted: _Selectors, pods: list[core.Pod], taken: Iterable[str]) -> Iterator[tuple[core.Pod, core.Service]]:
    """A pod and a Service for each selector of Gateways that no pod has the labels of.

    ``taken`` are the addresses of Services.
    """
    addresses = Addresses(PODS, (pod.status.pod_ip for pod in pods if pod.status.pod_ip))
    services = Addresses(SERVICES, taken)
    known = {(pod.metadata.namespace, pod.metadata.name) for pod in pods}
    for selector, several in wanted.items():
        if any(selector <= frozenset(pod.metadata.labels.items()) for pod in pods):
            continue
        labels = dict(selector)
        namespace = names.ROOT_NAMESPACE if "istio" in labels else several[0].metadata.namespace
        name = _free(_name(labels), namespace, known)
        described = _described("Pod", name, namespace, labels)
        described["metadata"]["annotations"] = {names.ANNOTATION_TEMPLATES: _GATEWAY}
        pod = _pod(f"{name}-0", namespace, made(described).metadata, PodSpec(), {}, addresses)
        ports = sorted({server.port.number for one in several for server in one.spec.servers if server.port})
        service = _described("Service", name, namespace, labels)
        service["spec"] = {
            "selector": labels,
            "clusterIP": services.of(f"gateway {namespace}/{name}"),
            "ports": [*_ports(ports)],
        }
        found = made(service)
        if isinstance(found, core.Service):
            yield pod, found


def _name(labels: Mapping[str, str]) -> str:
    """What a gateway with these labels is called: as Istio's, or by the values of the labels."""
    said = f"istio-{labels['istio']}" if "istio" in labels else "-".join(labels[key] for key in sorted(labels))
    return _NO_NAME.sub("-", said).strip("-._~")[:_LONGEST] or _GATEWAY


def _free(name: str, namespace: str, known: set[tuple[str, str]]) -> str:
    """The name, with a number where a pod has it already; noted as known."""
    tried = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    found = next(each for each in tried if (namespace, f"{each}-0") not in known)
    known.add((namespace, f"{found}-0"))
    return found


def _described(kind: str, name: str, namespace: str, labels: Mapping[str, str]) -> Document:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
    }


def _ports(servers: Iterable[int]) -> Iterator[Document]:
    """The ports of Istio's gateway Service, and those of servers that it lacks."""
    yield {"name": "http2", "port": 80, "targetPort": 8080}
    yield {"name": "https", "port": 443, "targetPort": 8443}
    for port in servers:
        if port not in (*_MOVED, *_MOVED.values()):
            yield {"name": f"tcp-{port}", "port": port, "targetPort": port}


def _addresses(snapshot: ConfigSnapshot, new: Iterable[core.Service]) -> Iterator[str]:
    """The addresses of the snapshot's Services and of new ones."""
    every = (*snapshot.of("", "Service").values(), *new)
    return (item.spec.cluster_ip for item in every if isinstance(item, core.Service) and item.spec.cluster_ip)


def _services(snapshot: ConfigSnapshot) -> Iterator[core.Service]:
    known = [item for item in snapshot.of("", "Service").values() if isinstance(item, core.Service)]
    addresses = Addresses(SERVICES, _addresses(snapshot, ()))
    for item in sorted(known, key=lambda one: one.key):
        spec = item.spec
        if not spec.cluster_ip and not spec.cluster_ips and spec.type != "ExternalName":
            address = addresses.of(f"{item.metadata.namespace}/{item.metadata.name}")
            yield item.model_copy(update={"spec": spec.model_copy(update={"cluster_ip": address})})


def _slices(
    snapshot: ConfigSnapshot, services: Iterable[Object], pods: list[core.Pod]
) -> Iterator[discovery.EndpointSlice]:
    """EndpointSlices of Services with a selector that have none."""
    served = {
        (item.metadata.namespace, item.metadata.labels.get(names.LABEL_SERVICE_NAME, ""))
        for item in snapshot.of("discovery.k8s.io", "EndpointSlice").values()
    }
    for item in services:
        name = (item.metadata.namespace, item.metadata.name)
        if not isinstance(item, core.Service) or not item.spec.selector or name in served:
            continue
        mine = [pod for pod in pods if _selects(item, pod)]
        by_ports: dict[tuple[int, ...], list[core.Pod]] = {}
        for pod in sorted(mine, key=lambda one: one.key):
            by_ports.setdefault(tuple(_target(port, pod) for port in item.spec.ports), []).append(pod)
        for number, (targets, several) in enumerate(by_ports.items()):
            found = made(_slice(item, number, targets, several))
            if isinstance(found, discovery.EndpointSlice):
                yield found


def _selects(service: core.Service, pod: core.Pod) -> bool:
    same = pod.metadata.namespace == service.metadata.namespace
    return same and service.spec.selector.items() <= pod.metadata.labels.items()


def _target(port: core.ServicePort, pod: core.Pod) -> int:
    """The number of the pod's port; 0 where no container has one of the name."""
    if not isinstance(port.target_port, str):
        return port.target_port or port.port
    ports = (each for container in pod.spec.containers for each in container.ports)
    return next((each.container_port for each in ports if each.name == port.target_port), 0)


def _slice(service: core.Service, number: int, targets: tuple[int, ...], pods: list[core.Pod]) -> Document:
    meta = service.metadata
    ports = zip(service.spec.ports, targets, strict=True)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{meta.name[:_LONGEST]}-{number}",
            "namespace": meta.namespace,
            "labels": {names.LABEL_SERVICE_NAME: meta.name},
        },
        "addressType": "IPv4",
        "ports": [{"name": port.name, "port": target} for port, target in ports if target],
        "endpoints": [
            {
                "addresses": [pod.status.pod_ip],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": pod.metadata.name, "namespace": meta.namespace},
            }
            for pod in pods
            if pod.status.pod_ip
        ],
    }
