"""The workload of a proxy: its pod's word where there is a pod, else what the proxy says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from istiod.mesh import failover, node_settings, workloads
from istiod.mesh.endpoint import View
from istiod.mesh.inbound import Place
from istiod.mesh.networks import Gateways
from istiod.mesh.workloads import PodWorkload
from wire.node import Locality, Node

_NO_CAPTURE = "NONE"  # interception mode without iptables
_LAST_PORT = 65_535
_POD_PORTS = "POD_PORTS"  # node metadata: the pod's container ports, from the downward API


def of(node: Node, pod: PodWorkload | None) -> Place:
    """The place of a proxy; ``pod`` is the one of its name, if it is known."""
    said = Place(
        namespace=node.namespace,
        labels=frozenset(node.labels.items()),
        ports=dict(_said_ports(node.metadata.get(_POD_PORTS))),
        addresses=node.addresses,
        captured=node.interception_mode != _NO_CAPTURE,
        own=node_settings.read(node),
    )
    if pod is None:
        return said
    ports = {port.name: port.number for port in reversed(pod.ports) if port.name and not port.udp}
    return replace(said, labels=pod.labels, ports=ports, addresses=pod.addresses or node.addresses)


def view(
    node: Node, pod: PodWorkload | None, failover_labels: frozenset[str], gateways: Gateways = (), *, node_local: bool
) -> View:
    """Where a proxy looks from, for its endpoints.

    ``failover_labels`` are those that some rule looks at; ``node_local``: whether some Service keeps to its node.
    """
    return View(
        cluster_id=node.cluster_id,
        network=node.network or (pod.network if pod else ""),
        locality=locality(node, pod),
        node=(pod.node if pod else node.node_name) if node_local else "",
        labels=failover.looked_at(pod.all_labels if pod else frozenset(node.labels.items()), failover_labels),
        gateways=gateways,
    )


def locality(node: Node, pod: PodWorkload | None) -> Locality:
    """Where a proxy is: its own word first."""
    if node.locality != workloads.NOWHERE:
        return node.locality
    return pod.locality if pod else workloads.label_locality(node.labels) or workloads.NOWHERE


def _said_ports(said: Any) -> Iterator[tuple[str, int]]:
    for port in said if isinstance(said, list) else ():
        number = port.get("containerPort") if isinstance(port, dict) else None
        if isinstance(number, int | float) and 0 < number <= _LAST_PORT:  # the proxy's own word
            yield str(port.get("name")), int(number)
