"""The object that a resource was made from, as clusters and routes carry it (features row D15)."""

from __future__ import annotations

from istioctl.dump import Json

_PARTS = 8


def shown(resource: Json) -> str:
    """NAME.NAMESPACE of the object in the metadata ``istio.config``; empty where there is none."""
    namespace, name = of_kind(resource)
    return f"{name}.{namespace}" if name else ""


def of_kind(resource: Json, kind: str = "") -> tuple[str, str]:
    """Namespace and name of the object, if it is of a kind such as ``virtual-service``; both empty where it is not."""
    config = resource.get("metadata", {}).get("filter_metadata", {}).get("istio", {}).get("config", "")
    parts = str(config).split("/")
    return (parts[5], parts[7]) if len(parts) == _PARTS and kind in ("", parts[6]) else ("", "")
