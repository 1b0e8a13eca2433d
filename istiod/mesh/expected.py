"""The proxies that are to come: pods that have a sidecar, and have not connected yet.

Of what a proxy gets most is the same for all of its namespace, and some for all of the mesh; one of each namespace is
enough to have that made before anybody asks. Its own listeners are those of its workload's other pods. Who they really
are, and what they may have, is checked when they come.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from istiod.config.proxy import Peer, Proxy
from istiod.mesh.context import MeshContext
from istiod.mesh.workloads import PodWorkload
from wire.node import Node, NodeType


def proxies(context: MeshContext) -> Iterator[Proxy]:
    """One proxy per namespace with sidecars, in order of names: the first of its pods that has an address."""
    return _first(context, lambda pod: pod.namespace)


def workloads(context: MeshContext) -> Iterator[Proxy]:
    """One proxy per workload with sidecars, in order of names: pods with the same labels and ports are one."""
    return _first(context, lambda pod: (pod.namespace, pod.labels, pod.ports))


def _first(context: MeshContext, kind: Callable[[PodWorkload], Hashable]) -> Iterator[Proxy]:
    first: dict[Hashable, PodWorkload] = {}
    for _, pod in sorted(context.backends.pods.items()):
        if pod.tls and pod.addresses:
            first.setdefault(kind(pod), pod)
    domain = context.model.settings.dns_domain
    return (_proxy(pod, f"{pod.namespace}.svc.{domain}") for pod in first.values())


def _proxy(pod: PodWorkload, domain: str) -> Proxy:
    node = Node(
        id=f"{NodeType.SIDECAR.value}~{pod.addresses[0]}~{pod.name}.{pod.namespace}~{domain}",
        type=NodeType.SIDECAR,
        addresses=pod.addresses,
        name=pod.name,
        namespace=pod.namespace,
        dns_domain=domain,
        labels=dict(pod.labels),
    )
    return Proxy(peer=Peer(address="", identity=None), node=node)
