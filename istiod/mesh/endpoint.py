"""Endpoints of hosts, kept apart from scopes: an endpoint event touches no scope (DESIGN section 2, point 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from istiod.mesh.networks import Gateways
from istiod.mesh.policy import LocalityLb
from istiod.mesh.service import Labels
from wire.node import Locality


class Health(Enum):
    """What Envoy is told of an endpoint. An UNHEALTHY one is sent only where policy keeps not-ready addresses."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Whose endpoint it is, for metrics and logs. All parts may be "". ``app`` and ``version`` are its labels."""

    name: str = ""
    namespace: str = ""
    app: str = ""
    version: str = ""
    canonical_name: str = ""
    canonical_revision: str = ""
    cluster_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address and port that serves a port of a host.

    ``tls`` says that a sidecar with mesh identity answers there (label security.istio.io/tlsMode: istio).
    ``identity`` is its SPIFFE id, "" if unknown.
    """

    address: str
    port: int
    labels: Labels
    tls: bool
    health: Health
    weight: int
    locality: Locality
    network: str
    identity: str
    node: str
    workload: Workload
    hostname: str = ""
    """The name of its own that a pod has in a headless service (StatefulSets)."""
    additional: tuple[str, ...] = ()
    """Its other addresses, of a pod with both IP versions: tried where ``address`` does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndpointLeaf:
    """All endpoints of one host in one namespace, by service port number, in a fixed order. Interned by content.

    ``identities`` are the SPIFFE ids of all its backends, sorted, those in no port (not ready) too.
    """

    ports: Mapping[int, tuple[Endpoint, ...]]
    identities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndpointTable:
    """host -> leaf, for every namespace that defines the host: key (host, namespace)."""

    leaves: Mapping[tuple[str, str], EndpointLeaf] = field(default_factory=dict)

    def of(self, host: str, namespace: str, port: int) -> tuple[Endpoint, ...]:
        """Endpoints of a service port; () when there are none."""
        leaf = self.leaves.get((host, namespace))
        return leaf.ports.get(port, ()) if leaf else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Where a proxy looks from: what may change the order, priority or selection of endpoints.

    ``labels`` are the proxy's own, only those whose keys some ``failover_priority`` names (usually none).
    """

    cluster_id: str
    network: str
    locality: Locality
    node: str = ""
    labels: Labels = frozenset()
    gateways: Gateways = ()
    """Of all networks; () where every endpoint is reached at its own address."""
    peers: tuple[tuple[str, int], ...] = ()
    """Zones of its region, and how many of its own workload are there; () where no setting is zone-aware."""


class Crossing(Enum):
    """To which endpoints a client gets through another network's gateway, which passes mesh mTLS only."""

    NEVER = "never"
    BY_SIDECAR = "by sidecar"  # auto mTLS: to those that have a sidecar
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What one EDS resource holds: a service port's endpoints that carry ``labels``, spread as ``locality_lb`` says.

    ``name`` is the cluster's name (the EDS resource name). ``locality_lb`` is None where locality plays no part, and
    then every view shares the bytes (failover needs outlier detection: without it this is None unless ``distribute``
    is set).
    """

    name: str
    host: str
    namespace: str
    port: int
    labels: Labels
    locality_lb: LocalityLb | None
    node_local: bool = False
    mesh_tls: bool = False
    """Only endpoints with mesh mTLS."""
    crossing: Crossing = Crossing.BY_SIDECAR
