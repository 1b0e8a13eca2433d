"""ServiceEntry -> Services of the registry and the endpoints that it names itself (features rows H1-H7).

Endpoints of pods that a workloadSelector matches are endpoints.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network

from crds.checks import values
from crds.service_entry import ServiceEntry, WorkloadEntrySpec
from istiod.config.origin import Origin
from istiod.mesh import protocol, workload_entries
from istiod.mesh.endpoint import Endpoint
from istiod.mesh.registry import audience
from istiod.mesh.service import Port, Resolution, Service
from istiod.mesh.services import distribution
from istiod.mesh.settings import MeshSettings

_RESOLUTION = {
    "NONE": Resolution.PASSTHROUGH,
    "STATIC": Resolution.CLIENT_SIDE,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "DYNAMIC_DNS": Resolution.DYNAMIC_DNS,
}
_DNS = frozenset({Resolution.DNS, Resolution.DNS_ROUND_ROBIN})


def services(entry: ServiceEntry, settings: MeshSettings) -> tuple[Service, ...]:
    """One service for each host of the entry."""
    spec, meta = entry.spec, entry.metadata
    ports = tuple(
        Port(number=p.number, name=p.name, protocol=protocol.parse(p.protocol), target=p.target_port)
        for p in spec.ports
    )
    selector = spec.workload_selector.labels if spec.workload_selector else {}
    spread = distribution("", meta.annotations)
    allocated = entry.status.addresses if entry.status and not spec.addresses else ()
    return tuple(
        Service(
            host=host,
            name=host,
            namespace=meta.namespace,
            ports=ports,
            addresses=tuple(filter(None, map(_address, spec.addresses))),
            resolution=_RESOLUTION[spec.resolution],
            mesh_external=spec.location == "MESH_EXTERNAL",
            kubernetes=False,
            headless=False,
            selector=frozenset(selector.items()),
            labels=frozenset(meta.labels.items()),
            export_to=audience(spec.export_to, meta.namespace, settings.service_export_to),
            external_name="",
            created=meta.creation_timestamp,
            origin=Origin(key=entry.key),
            subject_alt_names=spec.subject_alt_names,
            traffic_distribution=spread,
            allocated=tuple(a.value for a in allocated if a.host in ("", host) and values.is_address(a.value)),
        )
        for host in spec.hosts
    )


def endpoints(entry: ServiceEntry, service: Service, settings: MeshSettings) -> dict[int, tuple[Endpoint, ...]]:
    """The endpoints that the entry itself names for one of its hosts, by service port number.

    A DNS host without endpoints and without a selector resolves its own name. Order is the entry's.
    """
    meta, named = entry.metadata, tuple(enumerate(entry.spec.endpoints))
    if not named and service.resolution in _DNS and entry.spec.workload_selector is None:
        own = WorkloadEntrySpec(address=service.host)
        found = [(workload_entries.endpoint(own, {}, meta.name, meta.namespace, settings), own.ports)]
    else:
        found = [
            (workload_entries.endpoint(spec, spec.labels, f"{meta.name}-{i}", meta.namespace, settings), spec.ports)
            for i, spec in named
        ]
    return {
        port.number: tuple(_at(service, one, port, ports) for one, ports in found) for port in service.ports if found
    }


def _at(service: Service, endpoint: Endpoint, port: Port, ports: Mapping[str, int]) -> Endpoint:
    """The endpoint of one service port; a Unix domain socket has no number."""
    socket = endpoint.address[:1] in ("/", "@")
    if service.resolution is Resolution.CLIENT_SIDE and not (socket or values.is_address(endpoint.address)):
        endpoint = replace(endpoint, address="")  # a name: where its network has gateways nobody looks it up
    return endpoint if socket else replace(endpoint, port=workload_entries.number(ports, port))


def _address(address: str) -> str:
    """A CIDR that holds one address is that address; of others the network alone counts: equal ones are equal text.

    "" for what is no network, which the checks refuse.
    """
    host, slash, _ = address.partition("/")
    if not slash:
        return address
    try:
        network = ip_network(address, strict=False)
    except ValueError:
        return ""
    return host if network.num_addresses == 1 else str(network)
