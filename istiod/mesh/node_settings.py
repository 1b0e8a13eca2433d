"""What a proxy says of its own listeners in its node metadata (``ISTIO_META_...`` of its container).

Beside it stands what Telemetry says of it, which listeners need at the same places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from crds import duration
from istiod.mesh import metrics, proxy_headers, tracing
from istiod.mesh.access_logs import AccessLogs
from istiod.mesh.metrics import Metrics
from istiod.mesh.proxy_headers import ProxyHeaders
from istiod.mesh.tracing import ProxyTracing, Tracing
from wire.node import Node

_HTTP10 = "HTTP10"
_UNPRIVILEGED = "UNPRIVILEGED_POD"
_IDLE_TIMEOUT = "IDLE_TIMEOUT"
_CONFIG = "PROXY_CONFIG"
_ON = ("1", "true")
_FIRST_OPEN = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """``http10``: HTTP/1.0 is taken. ``idle_timeout``: idle connections from clients end then, unless a rule says when.

    None is Envoy's default: an hour. ``unprivileged``: it may not listen on ports below 1024. ``headers`` and
    ``tracing`` are its own word on them; ``traced``, ``logs`` and ``metrics`` are what Telemetry says of it, None where
    nobody says anything.
    """

    http10: bool = False
    unprivileged: bool = False
    idle_timeout: timedelta | None = None
    headers: ProxyHeaders = proxy_headers.NOTHING
    tracing: ProxyTracing = tracing.NOTHING
    traced: Tracing | None = None
    logs: AccessLogs | None = None
    metrics: Metrics = metrics.NOTHING

    def listens(self, port: int) -> bool:
        """Whether the proxy may listen on a port; 0 is that of a Unix domain socket."""
        return not (self.unprivileged and 0 < port < _FIRST_OPEN)


NOTHING = NodeSettings()


def read(node: Node) -> NodeSettings:
    """The settings of a proxy. What is no duration is as good as nothing (as on Istio)."""
    return NodeSettings(
        http10=str(node.metadata.get(_HTTP10)) in _ON,
        unprivileged=str(node.metadata.get(_UNPRIVILEGED)).lower() in _ON,
        idle_timeout=_duration(node.metadata.get(_IDLE_TIMEOUT)),
        headers=proxy_headers.of_metadata(node.metadata.get(_CONFIG)),
        tracing=tracing.of_metadata(node.metadata.get(_CONFIG)),
    )


def told(own: NodeSettings, mesh: ProxyTracing, traced: Tracing | None) -> NodeSettings:
    """The settings with what Telemetry says of a proxy, and without what it only repeats of the mesh's words.

    Injection writes these into each pod, and proxies that say no more shall be alike.
    """
    said = tracing.NOTHING if tracing.joined(mesh, own.tracing) == mesh else own.tracing
    return own if said == own.tracing and traced is own.traced else replace(own, tracing=said, traced=traced)


def _duration(said: object) -> timedelta | None:
    try:
        found = duration.parse(said) if isinstance(said, str) else None
    except ValueError:
        return None
    return found if found is not None and found >= timedelta() else None
