"""The workload of a proxy: its pod's word where there is a pod, else what the proxy says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from istiod.mesh import node_settings
from istiod.mesh.inbound import Place
from istiod.mesh.workloads import PodWorkload
from wire.node import Node

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


def _said_ports(said: Any) -> Iterator[tuple[str, int]]:
    for port in said if isinstance(said, list) else ():
        number = port.get("containerPort") if isinstance(port, dict) else None
        if isinstance(number, int | float) and 0 < number <= _LAST_PORT:  # the proxy's own word
            yield str(port.get("name")), int(number)
