"""What an API server never lets through of Services, EndpointSlices, Pods and their templates, and a folder may hold.

Ports and addresses become fields of Envoy's that take no others: each is said here, once, and nowhere below.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from crds import apps, core, discovery
from crds.checks import values
from crds.checks.findings import Findings
from crds.pod_spec import PodSpec

_HEADLESS: Final = "None"
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_ADDRESSES: Final = frozenset({"IPv4", "IPv6"})


def service(item: core.Service, found: Findings) -> None:
    """Ports, target ports and addresses of a Service."""
    spec = item.spec
    for index, port in enumerate(spec.ports):
        found.check(f"spec.ports[{index}].port", values.port(port.port))
        if isinstance(port.target_port, int) and port.target_port:
            found.check(f"spec.ports[{index}].targetPort", values.port(port.target_port))
        if port.protocol and port.protocol not in _PROTOCOLS:
            message = (
                f"{port.protocol!r} is none of {', '.join(_PROTOCOLS)}; HTTP and the like stand in name or appProtocol"
            )
            found.error(f"spec.ports[{index}].protocol", message)
    if spec.cluster_ip and spec.cluster_ip != _HEADLESS:
        _address(found, "spec.clusterIP", spec.cluster_ip)
    _each(found, "spec.clusterIPs", (ip for ip in spec.cluster_ips if ip != _HEADLESS))


def endpoint_slice(item: discovery.EndpointSlice, found: Findings) -> None:
    """Ports and addresses of an EndpointSlice."""
    for index, port in enumerate(item.ports):
        if port.port is not None:
            found.check(f"ports[{index}].port", values.port(port.port))
    if item.address_type in _ADDRESSES:
        for index, endpoint in enumerate(item.endpoints):
            _each(found, f"endpoints[{index}].addresses", endpoint.addresses)


def pod(item: core.Pod, found: Findings) -> None:
    """Container ports, account and addresses of a Pod."""
    _spec(found, "spec", item.spec)
    if item.status.pod_ip:
        _address(found, "status.podIP", item.status.pod_ip)
    _each(found, "status.podIPs", (one.ip for one in item.status.pod_ips))


def template(item: apps.Deployment | apps.ReplicaSet | apps.StatefulSet | apps.DaemonSet, found: Findings) -> None:
    """The same of the pods that a workload makes."""
    _spec(found, "spec.template.spec", item.spec.template.spec)


def _spec(found: Findings, field: str, spec: PodSpec) -> None:
    for index, container in enumerate(spec.containers):
        for number, port in enumerate(container.ports):
            found.check(f"{field}.containers[{index}].ports[{number}].containerPort", values.port(port.container_port))
    if spec.service_account_name:
        found.check(f"{field}.serviceAccountName", values.domain(spec.service_account_name))


def _each(found: Findings, field: str, addresses: Iterable[str]) -> None:
    for index, address in enumerate(addresses):
        _address(found, f"{field}[{index}]", address)


def _address(found: Findings, field: str, address: str) -> None:
    if not values.is_address(address):
        found.error(field, f"{address!r} is no IP address")
