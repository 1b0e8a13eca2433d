"""What telemetry needs of both programs: variables that the agent sets for its Envoy and istiod's resources name.

So resources hold nothing of a proxy, and all proxies share them (decisions 22 and 25). Labels of metrics are Istio's
(features row Q2), and so are tags of spans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

UNKNOWN: Final = "unknown"
"""What Istio's metrics say of what is not known."""
NOBODY: Final = "OWN_UNKNOWN"
"""Variable that holds ``unknown``, for operators that only choose among operators."""
PEER: Final = "OWN_PEER"
"""Variable that holds the value of the peer header."""
HEADER: Final = "x-envoy-peer-metadata"
"""Header by which a proxy tells the next who it is: ``PARTS`` of it, with semicolons between; not Istio's encoding."""
PARTS: Final = ("workload", "namespace", "app", "version", "service", "revision", "cluster")
"""What is told of a workload; ``service`` and ``revision`` are the canonical ones."""
TAGS: Final = {
    "istio.canonical_revision": "revision",
    "istio.canonical_service": "service",
    "istio.cluster_id": "cluster",
    "istio.mesh_id": "mesh",
    "istio.namespace": "namespace",
}
"""Istio's tags of spans, by what of a workload they say; ``mesh`` is in no label."""
PROXY: Final = "istio-proxy"
"""What tracing backends call a proxy whose agent does not say who it is."""
STATS_PATH: Final = "/stats/envoy"
"""Where the agent gives Envoy's statistics alone, under Istio's names; port 15090 leads there."""

_ATTRIBUTES: Final = "OTEL_RESOURCE_ATTRIBUTES"
_SERVICE_NAME: Final = "service.name="
_DATADOG: Final = "DD_SERVICE"
_SERVICE_LABELS: Final = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_REVISION_LABELS: Final = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


def variable(part: str) -> str:
    """The variable that holds one of ``PARTS``, or ``mesh``."""
    return f"OWN_{part.upper()}"


def parts(metadata: Mapping[str, object]) -> dict[str, str]:
    """What node metadata says of a workload, by ``PARTS``. What it does not say is ``unknown``."""
    labels = metadata.get("LABELS")
    said = {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}
    workload = str(metadata.get("WORKLOAD_NAME") or "")
    found = {
        "workload": workload,
        "namespace": str(metadata.get("NAMESPACE") or ""),
        "app": said.get("app", ""),
        "version": said.get("version", ""),
        "service": _first(said, _SERVICE_LABELS) or workload,
        "revision": _first(said, _REVISION_LABELS) or "latest",
        "cluster": str(metadata.get("CLUSTER_ID") or ""),
    }
    return {part: found[part] or UNKNOWN for part in PARTS}


def environment(metadata: Mapping[str, object]) -> dict[str, str]:
    """The variables of a proxy with this node metadata. What it does not say is ``unknown``."""
    own = parts(metadata)
    variables = {variable(part): value for part, value in own.items()}
    mesh = {variable("mesh"): str(metadata.get("MESH_ID") or UNKNOWN)}
    return variables | mesh | {PEER: ";".join(own.values()), NOBODY: UNKNOWN}


def service(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which tracers of OpenTelemetry and Datadog know a proxy's name; the user's own win.

    Envoy reads ``OTEL_RESOURCE_ATTRIBUTES`` as KEY=VALUE,KEY=VALUE and refuses its tracer where a part is none, so
    such parts are left out.
    """
    said = (part.strip() for part in environment.get(_ATTRIBUTES, "").split(","))
    parts = [part for part in said if part.count("=") == 1 and all(part.split("="))]
    if not any(part.startswith(_SERVICE_NAME) for part in parts):
        parts.append(_SERVICE_NAME + name.replace(",", "-").replace("=", "-"))
    return {_ATTRIBUTES: ",".join(parts), _DATADOG: environment.get(_DATADOG) or name}


def _first(labels: Mapping[str, str], keys: tuple[str, ...]) -> str:
    return next((labels[key] for key in keys if labels.get(key)), "")
