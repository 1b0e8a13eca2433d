"""ServiceEntry: hosts, ports, resolution and endpoints (features rows H1-H9)."""

from __future__ import annotations

from typing import Final

from crds import path
from crds.checks import labels, values, visibility
from crds.checks.findings import Findings
from crds.checks.patterns import repeated
from crds.service_entry import ServiceEntry, ServiceEntrySpec, WorkloadEntrySpec

_UNIX: Final = "unix://"
_WAYPOINT: Final = "istio.io/use-waypoint"
_DNS: Final = frozenset({"DNS", "DNS_ROUND_ROBIN"})
_OF_BLOCKS: Final = frozenset({"NONE", "STATIC"})
_DYNAMIC_PROTOCOLS: Final = frozenset({"HTTP", "HTTPS", "TLS", "GRPC", "HTTP2"})


def check(item: ServiceEntry, found: Findings) -> None:
    """Everything that one ServiceEntry can be wrong about."""
    spec = item.spec
    visibility.check(found, spec.export_to, may_be_none=True)
    _hosts(spec, found)
    for index, address in enumerate(spec.addresses):
        found.check(f"spec.addresses[{index}]", values.subnet(address))
        if "/" in address and spec.resolution not in _OF_BLOCKS:
            found.refuse(f"spec.addresses[{index}]", "blocks of addresses need resolution NONE or STATIC")
    _ports(spec, found)
    _selector(spec, found)
    known = frozenset(port.name for port in spec.ports)
    for index, endpoint in enumerate(spec.endpoints):
        _address(spec, found, f"spec.endpoints[{index}]", endpoint)
        _numbers(found, f"spec.endpoints[{index}].ports", endpoint, known)
        labels.check(found, f"spec.endpoints[{index}].labels", endpoint.labels)
    _resolution(spec, found)
    if spec.resolution == "DYNAMIC_DNS" and spec.location == "MESH_INTERNAL" and _WAYPOINT in item.metadata.labels:
        found.error("spec.resolution", "DYNAMIC_DNS is not for hosts of the mesh that have a waypoint")


def _hosts(spec: ServiceEntrySpec, found: Findings) -> None:
    if not spec.hosts:
        found.missing("spec.hosts")
    has_tls = any(port.protocol.upper() in values.TLS for port in spec.ports)
    for index, host in enumerate(spec.hosts):
        problem = "host * would take all traffic" if host == "*" else values.wildcard_domain(host)
        found.check(f"spec.hosts[{index}]", problem)
        if problem is None and has_tls and values.dotted_wildcard(host):
            found.error(f"spec.hosts[{index}]", f"{host}: for TLS ports * must be a whole first label")


def _ports(spec: ServiceEntrySpec, found: Findings) -> None:
    for index, port in enumerate(spec.ports):
        field = f"spec.ports[{index}]"
        found.check(f"{field}.number", values.port(port.number))
        if port.target_port:
            found.check(f"{field}.targetPort", values.port(port.target_port))
        if not port.name:
            found.missing(f"{field}.name")
        else:
            found.refuse(f"{field}.name", values.port_name(port.name))
        found.refuse(f"{field}.protocol", values.protocol(port.protocol))
    for name in ("name", "number"):
        for index, value in repeated(getattr(port, name) for port in spec.ports):
            found.error(f"spec.ports[{index}].{name}", f"{value} stands twice")


def _selector(spec: ServiceEntrySpec, found: Findings) -> None:
    if spec.workload_selector is None:
        return
    if spec.endpoints:
        found.error("spec.endpoints", "excludes workloadSelector")
    if spec.resolution == "NONE":
        found.warning("spec.workloadSelector", "has no effect with resolution NONE")
    labels.selector(found, "spec.workloadSelector.labels", spec.workload_selector.labels)


def _address(spec: ServiceEntrySpec, found: Findings, field: str, endpoint: WorkloadEntrySpec) -> None:
    address = endpoint.address
    if address.startswith(_UNIX) and spec.resolution == "STATIC":
        found.check(f"{field}.address", values.socket(address.removeprefix(_UNIX)))
        if endpoint.ports:
            found.error(f"{field}.ports", "a unix socket has no ports")
        if len(spec.ports) != 1:
            found.error("spec.ports", "a unix socket serves exactly one port")
    elif spec.resolution == "STATIC" and not values.is_address(address) and (address or not endpoint.network):
        problem = f"{address!r} is no IP address, which resolution STATIC needs"
        (found.refuse if endpoint.network else found.check)(f"{field}.address", problem)
    elif spec.resolution in _DNS and not values.is_address(address):
        (found.refuse if endpoint.network else found.check)(f"{field}.address", values.domain(address))


def _numbers(found: Findings, field: str, endpoint: WorkloadEntrySpec, known: frozenset[str]) -> None:
    for name, number in endpoint.ports.items():
        place = path.child(field, name)
        found.check(place, values.port(number))
        if name not in known:
            found.error(place, f"spec.ports has no port named {name}")


def _resolution(spec: ServiceEntrySpec, found: Findings) -> None:
    wild = [index for index, host in enumerate(spec.hosts) if "*" in host]
    if spec.resolution == "NONE" and spec.endpoints:
        found.error("spec.endpoints", "resolution NONE has no endpoints")
    elif spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
        found.error("spec.endpoints", "resolution DNS_ROUND_ROBIN has at most one endpoint")
    if spec.resolution in _DNS and not spec.endpoints:
        for index in wild:
            found.error(f"spec.hosts[{index}]", f"resolution {spec.resolution} cannot resolve a wildcard")
    if spec.resolution != "NONE" and len(spec.hosts) > 1:
        _several(spec, found)
    if spec.resolution == "DYNAMIC_DNS":
        _dynamic(spec, found, wild)


def _several(spec: ServiceEntrySpec, found: Findings) -> None:
    """What is no HTTP and no TLS names no host, so that nobody could tell which of several is meant."""
    for index, port in enumerate(spec.ports):
        if port.protocol.upper() not in values.HTTP | values.TLS:
            found.refuse(f"spec.ports[{index}].protocol", "several hosts need HTTP or TLS, which name the host")


def _dynamic(spec: ServiceEntrySpec, found: Findings, wild: list[int]) -> None:
    for index in sorted({*range(len(spec.hosts))} - {*wild}):
        found.error(f"spec.hosts[{index}]", "resolution DYNAMIC_DNS is for wildcards")
    for index, port in enumerate(spec.ports):
        if port.protocol.upper() not in _DYNAMIC_PROTOCOLS:
            found.error(f"spec.ports[{index}].protocol", "DYNAMIC_DNS needs HTTP, HTTP2, GRPC, HTTPS or TLS")
