"""The name of an object, everywhere: group, kind, namespace, name."""

from __future__ import annotations

from typing import NamedTuple

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
TELEMETRY = "telemetry.istio.io"


class ConfigKey(NamedTuple):
    """One object's name. ``group`` is "" for the core group; ``namespace`` is "" for cluster-scoped kinds."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"
