"""ServiceEntry -> Services of the registry and the endpoints that it names itself (features rows H1-H7).

Endpoints of pods that a workloadSelector matches are endpoints.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network

from crds.service_entry import ServiceEntry, WorkloadEntrySpec
from istiod.config.origin import Origin
from istiod.mesh import protocol, workloads
from istiod.mesh.endpoint import Endpoint, Health
from istiod.mesh.registry import audience
from istiod.mesh.service import Port, Resolution, Service
from istiod.mesh.settings import MeshSettings
from wire import names
from wire.spiffe import Identity

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
    allocated = entry.status.addresses if entry.status and not spec.addresses else ()
    return tuple(
        Service(
            host=host,
            name=host,
            namespace=meta.namespace,
            ports=ports,
            addresses=tuple(_address(address) for address in spec.addresses),
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
            allocated=tuple(a.value for a in allocated if a.host in ("", host)),
        )
        for host in spec.hosts
    )


def endpoints(entry: ServiceEntry, service: Service, settings: MeshSettings) -> dict[int, tuple[Endpoint, ...]]:
    """The endpoints that the entry itself names for one of its hosts, by service port number.

    A DNS host without endpoints resolves its own name. Order is the entry's.
    """
    named = tuple(enumerate(entry.spec.endpoints))
    if not named and service.resolution in _DNS:
        own = _endpoint(
            WorkloadEntrySpec(address=service.host), entry.metadata.name, entry.metadata.namespace, settings
        )
        return {port.number: (_at(own, port, {}),) for port in service.ports}
    found = [
        (_endpoint(spec, f"{entry.metadata.name}-{i}", entry.metadata.namespace, settings), spec.ports)
        for i, spec in named
        if not spec.address.startswith("unix://")
    ]
    return {port.number: tuple(_at(one, port, ports) for one, ports in found) for port in service.ports if found}


def _at(endpoint: Endpoint, port: Port, ports: Mapping[str, int]) -> Endpoint:
    """The endpoint of one service port: its own number for the port's name, else targetPort, else the same number."""
    number = ports.get(port.name) or (port.target if isinstance(port.target, int) else 0) or port.number
    return replace(endpoint, port=number)


def _address(address: str) -> str:
    """A CIDR that holds one address is that address; of others the network alone counts: equal ones are equal text."""
    host, slash, _ = address.partition("/")
    if not slash:
        return address
    network = ip_network(address, strict=False)
    return host if network.num_addresses == 1 else str(network)


def _endpoint(spec: WorkloadEntrySpec, name: str, namespace: str, settings: MeshSettings) -> Endpoint:
    locality = workloads.parse_locality(spec.locality)
    account = spec.service_account
    return Endpoint(
        address=spec.address,
        port=0,
        labels=workloads.placed(spec.labels, locality, spec.network, ""),
        tls=spec.labels.get(names.LABEL_TLS_MODE) == "istio",
        health=Health.HEALTHY,
        weight=spec.weight or 1,
        locality=locality,
        network=spec.network,
        identity=str(Identity(settings.trust_domain, namespace, account)) if account else "",
        node="",
        workload=workloads.workload(name, namespace, spec.labels),
    )
