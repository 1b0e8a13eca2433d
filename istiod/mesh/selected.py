"""Which workloads a selector finds: pods and WorkloadEntries for ServiceEntries, the latter for Services (H5, H10).

Pods of Kubernetes' own Services come by EndpointSlices, in endpoints.py. Pods stand before entries: where both have an
address, the pod's word counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from crds.diagnostic import Code, Diagnostic, warning
from crds.key import NETWORKING, ConfigKey
from istiod.mesh import workload_entries
from istiod.mesh.backends import Backends
from istiod.mesh.endpoint import Endpoint, Health
from istiod.mesh.registry import Registry
from istiod.mesh.service import NAMED, Port, Protocol, Resolution, Service
from istiod.mesh.workload_entries import EntryWorkload
from istiod.mesh.workloads import PodWorkload

_SAID: Final = {
    Resolution.CLIENT_SIDE: "STATIC",
    Resolution.PASSTHROUGH: "NONE",
    Resolution.DNS: "DNS",
    Resolution.DNS_ROUND_ROBIN: "DNS_ROUND_ROBIN",
    Resolution.DYNAMIC_DNS: "DYNAMIC_DNS",
}
_HERE: Final = frozenset({Resolution.CLIENT_SIDE, Resolution.PASSTHROUGH})


def of_entry(service: Service, found: Backends) -> Iterator[tuple[int, Endpoint]]:
    """Endpoints of the workloads in its namespace that a ServiceEntry selects, each with its service port."""
    if not service.selector or service.resolution not in (*_HERE, *NAMED):
        return
    for pod in found.homes.get(service.namespace, ()):
        if pod.addresses and pod.ready and service.selector <= pod.labels:
            ports = {port.name: port.number for port in reversed(pod.ports) if port.name}
            base = replace(of_pod(pod, pod.addresses[0], Health.HEALTHY), additional=pod.addresses[1:])
            yield from ((p.number, replace(base, port=workload_entries.number(ports, p))) for p in service.ports)
    for one in _entries(service, found):
        ports = dict(one.ports)
        for port in service.ports:
            number = 0 if one.is_socket else workload_entries.number(ports, port)
            yield port.number, replace(one.endpoint, port=number)


def of_service(service: Service, found: Backends) -> Iterator[tuple[int, Endpoint]]:
    """Endpoints of the WorkloadEntries that a Service of Kubernetes selects, each with its service port.

    The entry's port is the one of the service port's name, else the number of ``targetPort``; a named ``targetPort`` is
    a port of the entry, or the entry does not serve it (Istio: serviceInstanceFromWorkloadInstance).
    """
    if not service.selector or service.resolution not in _HERE:
        return
    for one in _entries(service, found):
        ports = dict(one.ports)
        for port in service.ports:
            number = 0 if port.protocol is Protocol.UDP else _number(port, ports)
            if number:
                yield port.number, replace(one.endpoint, port=number)


def of_pod(pod: PodWorkload, address: str, health: Health) -> Endpoint:
    """The endpoint that a pod is, with port 0."""
    return Endpoint(
        address=address,
        port=0,
        labels=pod.all_labels,
        tls=pod.tls,
        health=health,
        weight=1,
        locality=pod.locality,
        network=pod.network,
        identity=pod.identity,
        node=pod.node,
        workload=pod.workload,
    )


def findings(registry: Registry, found: Backends) -> Iterator[Diagnostic]:
    """WorkloadEntries that do not do for somebody who selects them, by their addresses."""
    for one in (one for entries in found.entries.values() for one in entries):
        for service in registry.choosers(one.namespace, one.labels) if not one.is_address else ():
            if service.selector and not _does(one, service):
                kind = "a Service" if service.kubernetes else f"resolution {_SAID[service.resolution]}"
                message = f"{service.host} leaves it out: {one.endpoint.address or 'no address'} is nothing for {kind}"
                key = ConfigKey(NETWORKING, "WorkloadEntry", one.namespace, one.name)
                yield warning(Code.BAD_VALUE, key, "spec.address", message)


def _entries(service: Service, found: Backends) -> Iterator[EntryWorkload]:
    for one in found.entries.get(service.namespace, ()):
        if one.healthy and service.selector <= one.labels and _does(one, service):
            yield one


def _does(one: EntryWorkload, service: Service) -> bool:
    """Whether such a service can have the workload's address for an endpoint."""
    if one.is_address or (one.is_behind and service.resolution is Resolution.CLIENT_SIDE):
        return True
    if one.is_socket:
        return not service.kubernetes and service.resolution is Resolution.CLIENT_SIDE
    return service.resolution in NAMED and bool(one.endpoint.address)


def _number(port: Port, ports: dict[str, int]) -> int:
    if isinstance(port.target, str):
        return ports.get(port.target, 0)
    return ports.get(port.name) or port.target or port.number
