"""The proxies that are to come: pods that have a sidecar, and have not connected yet.

Of what a proxy gets most is the same for all of its namespace, and some for all of the mesh. One of each namespace is
enough to have that made before anybody asks. Who they really are, and what they may have, is checked when they come.
"""

from __future__ import annotations

from collections.abc import Iterator

from istiod.config.proxy import Peer, Proxy
from istiod.mesh.context import MeshContext
from istiod.mesh.workloads import PodWorkload
from wire.node import Node, NodeType


def proxies(context: MeshContext) -> Iterator[Proxy]:
    """One proxy per namespace with sidecars, in order of names: the first of its pods that has an address."""
    first: dict[str, PodWorkload] = {}
    for _, pod in sorted(context.backends.pods.items()):
        if pod.tls and pod.addresses:
            first.setdefault(pod.namespace, pod)
    for pod in first.values():
        yield _proxy(pod, f"{pod.namespace}.svc.{context.model.settings.dns_domain}")


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
