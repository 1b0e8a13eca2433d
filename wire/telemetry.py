"""What istio_* metrics need of both programs: variables that the agent sets for its Envoy and istiod's resources name.

So resources hold nothing of a proxy, and all proxies share them (decision 22). Labels are Istio's (features row Q2).
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
STATS_PATH: Final = "/stats/envoy"
"""Where the agent gives Envoy's statistics alone, under Istio's names; port 15090 leads there."""

_SERVICE_LABELS: Final = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_REVISION_LABELS: Final = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


def variable(part: str) -> str:
    """The variable that holds one of ``PARTS``."""
    return f"OWN_{part.upper()}"


def environment(metadata: Mapping[str, object]) -> dict[str, str]:
    """The variables of a proxy with this node metadata. What it does not say is ``unknown``."""
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
    parts = {part: found[part] or UNKNOWN for part in PARTS}
    variables = {variable(part): value for part, value in parts.items()}
    return variables | {PEER: ";".join(parts.values()), NOBODY: UNKNOWN}


def _first(labels: Mapping[str, str], keys: tuple[str, ...]) -> str:
    return next((labels[key] for key in keys if labels.get(key)), "")
