"""The object that a resource was made from, as clusters and routes carry it (features row D15)."""

from __future__ import annotations

from istioctl.dump import Json

_PARTS = 8


def shown(resource: Json) -> str:
    """NAME.NAMESPACE of the object in the metadata ``istio.config``; empty where there is none."""
    config = resource.get("metadata", {}).get("filter_metadata", {}).get("istio", {}).get("config", "")
    parts = str(config).split("/")
    return f"{parts[7]}.{parts[5]}" if len(parts) == _PARTS else ""
