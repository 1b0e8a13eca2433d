"""Names of clusters in statistics, as the mesh configuration has them (inboundClusterStatName; row Q14).

Source: Istio's MeshConfig reference and telemetry.BuildStatPrefix. The name of the cluster itself never changes.
"""

from __future__ import annotations

from istiod.mesh.service import Port, Service


def of(pattern: str, service: Service, port: Port, target: int, subset: str = "") -> str:
    """The name that a pattern gives to a port of a service; "" where there is no pattern.

    ``target`` is the workload's port, 0 where it is not known. Hosts that are no Kubernetes Services have one name.
    """
    if not pattern:
        return ""
    short, name = (f"{service.name}.{service.namespace}", service.name) if service.kubernetes else (service.host,) * 2
    values = {
        "%SERVICE%": short,
        "%SERVICE_NAME%": name,
        "%SERVICE_FQDN%": service.host,
        "%SUBSET_NAME%": subset,
        "%SERVICE_PORT%": str(port.number),
        "%TARGET_PORT%": str(target),
        "%SERVICE_PORT_NAME%": port.name,
    }
    found = pattern
    for variable, value in values.items():
        found = found.replace(variable, value)
    return found
