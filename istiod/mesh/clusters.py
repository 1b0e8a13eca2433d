"""Outbound clusters and the destinations that name them (features rows D14, G4-G14, N3; S50, S52).

Decides discovery type, TLS (auto mTLS included) and which policy holds; bytes are istiod.envoy's. Inbound clusters are
inbound.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from istiod.mesh.model import Model
from istiod.mesh.route import Destination
from istiod.mesh.scope import Cluster
from istiod.mesh.service import Service

PASSTHROUGH = "PassthroughCluster"
BLACKHOLE = "BlackHoleCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"


def cluster_name(direction: str, subset: str, host: str, port: int) -> str:
    """``outbound|9080|v1|reviews.default.svc.cluster.local``; inbound clusters have neither subset nor host."""
    return f"{direction}|{port}|{subset}|{host}"


def sni(subset: str, host: str, port: int) -> str:
    """The SNI of mesh mTLS to a cluster: ``outbound_.9080_.v1_.HOST``, ``outbound_.9080_._.HOST`` without a subset."""
    return f"outbound_.{port}_.{subset}_.{host}"


def outbound_clusters(model: Model, namespace: str, services: Iterable[Service]) -> Mapping[str, Cluster]:
    """Clusters of these services (host, and each subset) as clients in ``namespace`` see them, by name.

    PassthroughCluster and BlackHoleCluster are always among them.
    """
    raise NotImplementedError


def destination(model: Model, namespace: str, host: str, port: int, subset: str = "") -> Destination:
    """The destination that a route in ``namespace`` means by a full host name, a port and a subset.

    The cluster is named even when host or subset are unknown: a request then gets a 503 with flag NC, as on Istio;
    who asks for it reports UNKNOWN_HOST or UNKNOWN_SUBSET.
    """
    raise NotImplementedError
