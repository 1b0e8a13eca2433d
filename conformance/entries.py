"""ServiceEntries as Istio reads them inside: their services and the endpoints they name (se_services, se_instances).

Istio has a service for each address of a host, we have one with all of them; its lists are made of ours here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from conformance import difference
from conformance.difference import Difference
from crds.parse import parse
from crds.service_entry import ServiceEntry
from istiod.mesh import service_entries
from istiod.mesh.endpoint import Endpoint
from istiod.mesh.service import Port, Resolution, Service
from istiod.mesh.settings import MeshSettings

_SETTINGS = MeshSettings()
_RESOLUTIONS = {
    Resolution.CLIENT_SIDE: "ClientSide",
    Resolution.DNS: "DNS",
    Resolution.DNS_ROUND_ROBIN: "DNSRoundRobin",
    Resolution.PASSTHROUGH: "Passthrough",
    Resolution.DYNAMIC_DNS: "DynamicDNS",
}
_UNSPECIFIED = "0.0.0.0"  # noqa: S104 (how Istio writes that there is no address)
_PLACE = ("topology.", "kubernetes.io/hostname")


def services(path: Path) -> Iterator[Difference]:
    """The services of an entry.

    The recorder left out the entry's status, where Istio's tests had put allocated addresses: it is made anew from
    what they give.
    """
    case = json.loads(path.read_text())
    entry = _read(case["config"], case["services"])
    given = [one for service in _services(entry) for one in _as_istio(service)]
    yield from difference.leaves("", "services", case["services"], given)


def instances(path: Path) -> Iterator[Difference]:
    """The endpoints that an entry names for one of its hosts."""
    case = json.loads(path.read_text())
    entry, host = _read(case["config"], ()), case["service"]["hostname"]
    service = next(one for one in _services(entry) if one.host == host)
    found = service_entries.endpoints(entry, service, _SETTINGS)
    given = [
        {"hostname": host, "service_port": _port(port), "endpoint": _endpoint(one, port)}
        for port in service.ports
        for one in found.get(port.number, ())
    ]
    yield from difference.leaves("", "instances", sorted(case["instances"], key=_order), sorted(given, key=_order))


def _read(config: Mapping[str, Any], wanted: Any) -> ServiceEntry:
    """The entry. What validation refuses is read all the same: these cases are about conversion alone."""
    addresses = [
        {"host": one["hostname"], "value": one[name]}
        for one in wanted
        for name in ("auto_allocated_ipv4", "auto_allocated_ipv6")
        if one.get(name)
    ]
    document = {**config, **({"status": {"addresses": addresses}} if addresses else {})}
    found = parse(document).object
    return found if isinstance(found, ServiceEntry) else ServiceEntry.model_validate(document)


def _services(entry: ServiceEntry) -> tuple[Service, ...]:
    return service_entries.services(entry, _SETTINGS)


def _as_istio(service: Service) -> Iterator[dict[str, Any]]:
    allocated = {f"auto_allocated_ipv{6 if ':' in one else 4}": one for one in service.allocated}
    for address in service.addresses or (_UNSPECIFIED,):
        said = {
            "default_address": address,
            "hostname": service.host,
            "label_selectors": dict(service.selector),
            "labels": dict(service.labels),
            "mesh_external": service.mesh_external,
            "name": service.name,
            "namespace": service.namespace,
            "ports": [_port(port) for port in service.ports],
            "registry": "External",
            "resolution": _RESOLUTIONS[service.resolution],
            "service_accounts": list(service.subject_alt_names),
            "export_to": {} if service.export_to == {"*"} else {name: {} for name in service.export_to},
            **allocated,
        }
        yield {name: value for name, value in said.items() if value or name == "mesh_external"}


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "port": port.number, "protocol": port.protocol.value}


def _endpoint(one: Endpoint, port: Port) -> dict[str, Any]:
    place = one.locality
    said = {
        "addresses": [one.address],
        "endpoint_port": one.port,
        "labels": {name: value for name, value in one.labels if not name.startswith(_PLACE)},
        "legacy_cluster_port_key": port.number,
        "lb_weight": one.weight if one.weight > 1 else None,
        "locality": "/".join(part for part in (place.region, place.zone, place.subzone) if part),
        "namespace": one.workload.namespace,
        "network": one.network,
        "service_account": one.identity,
        "service_port_name": port.name,
        "tls_mode": "istio" if one.tls else "disabled",
        "workload_name": one.workload.name,
    }
    return {name: value for name, value in said.items() if value}


def _order(instance: Mapping[str, Any]) -> tuple[int, str]:
    return instance["service_port"]["port"], instance["endpoint"]["workload_name"]
