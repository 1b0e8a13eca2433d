"""The services of the mesh as Istio's /debug/registryz has them: Kiali reads these fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from istiod.mesh.service import Port, Resolution, Service
from wire import names

_UNSPECIFIED: Final = "0.0.0.0"  # noqa: S104 (how Istio says that a host has no address; nobody listens)
_RESOLUTIONS: Final = {
    Resolution.CLIENT_SIDE: 0,
    Resolution.DNS: 1,
    Resolution.PASSTHROUGH: 2,
    Resolution.DNS_ROUND_ROBIN: 3,
    Resolution.ALIAS: 4,
    Resolution.DYNAMIC_DNS: 5,
}


def shown(services: Iterable[Service]) -> list[dict[str, Any]]:
    """One entry each, in the mesh's own order."""
    return [_service(each) for each in services]


def _service(service: Service) -> dict[str, Any]:
    addresses = service.addresses or ("None" if service.headless else _UNSPECIFIED,)
    return {
        "Attributes": {
            "ServiceRegistry": "Kubernetes" if service.kubernetes else "External",
            "Name": service.name,
            "Namespace": service.namespace,
            "Labels": dict(sorted(service.labels)) or None,
            "LabelSelectors": dict(sorted(service.selector)) or None,
            "ExportTo": {each: {} for each in sorted(service.export_to)} or None,
        },
        "ports": [_port(each) for each in service.ports],
        "creationTime": service.created.isoformat() if service.created else None,
        "hostname": service.host,
        "clusterVIPs": {"Addresses": {names.CLUSTER_ID: list(addresses)}},
        "defaultAddress": addresses[0],
        "Resolution": _RESOLUTIONS[service.resolution],
        "MeshExternal": service.mesh_external,
    }


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "port": port.number, "protocol": port.protocol.value}
