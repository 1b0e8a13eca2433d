"""What of the mesh is counted at a scrape: services nobody serves, endpoints that are not ready, pods that are missing.

Istio's names and meanings (pilot/pkg/model/push_context.go, pilot/pkg/serviceregistry/kube/controller). A walk over all
endpoints each time: a counter kept at each change would cost every push.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from crds import discovery
from istiod.config.proxy import Proxy
from istiod.mesh import backends
from istiod.mesh.context import MeshContext
from istiod.mesh.service import Resolution
from wire import exposition
from wire.exposition import Family
from wire.node import NodeType


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The mesh in numbers.

    Attributes:
        services: services of the mesh.
        unserved: ports of services that proxies balance over endpoints, and that have none.
        unready: endpoints that Kubernetes says are not ready.
        podless: endpoints that name a pod which is not there.
        strangers: connected sidecars whose address is of no service's endpoint.
    """

    services: int = 0
    unserved: int = 0
    unready: int = 0
    podless: int = 0
    strangers: int = 0

    def families(self) -> Iterator[Family]:
        """For the text of a scrape."""
        for name, text, value in (
            ("pilot_services", "Services of the mesh.", self.services),
            ("pilot_eds_no_instances", "Ports of services without endpoints.", self.unserved),
            ("pilot_endpoint_not_ready", "Endpoints that are not ready.", self.unready),
            ("endpoint_no_pod", "Endpoints whose pod is not there.", self.podless),
            ("pilot_no_ip", "Connected sidecars that no service selects.", self.strangers),
        ):
            yield exposition.of(name, "gauge", text, value)


def of(context: MeshContext, proxies: Iterable[Proxy]) -> Mesh:
    """Those of a mesh and its connected proxies."""
    slices = [item for found in context.backends.slices.values() for item in found]
    return Mesh(
        services=len(context.model.registry.services),
        unserved=_unserved(context),
        unready=sum(_unready(backend) for item in slices for backend in item.endpoints),
        podless=sum(_podless(context, item) for item in slices),
        strangers=_strangers(context, proxies),
    )


def _unserved(context: MeshContext) -> int:
    balanced = (one for one in context.model.registry.services if one.resolution is Resolution.CLIENT_SIDE)
    return sum(not context.endpoints.of(one.host, one.namespace, port.number) for one in balanced for port in one.ports)


def _unready(backend: discovery.Endpoint) -> bool:
    return backend.conditions.ready is False


def _podless(context: MeshContext, item: discovery.EndpointSlice) -> int:
    pods = context.backends.pods
    named = (backends.target(item, backend) for backend in item.endpoints)
    return sum(pod is not None and pod not in pods for pod in named)


def _strangers(context: MeshContext, proxies: Iterable[Proxy]) -> int:
    sidecars = [each.node.addresses for each in proxies if each.node.type is NodeType.SIDECAR]
    if not sidecars:
        return 0
    leaves = context.endpoints.leaves.values()
    served = {each.address for leaf in leaves for found in leaf.ports.values() for each in found}
    return sum(served.isdisjoint(addresses) for addresses in sidecars)
