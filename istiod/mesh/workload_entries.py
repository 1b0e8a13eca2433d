"""WorkloadEntry -> a workload that selectors find as they find pods (features rows H4, H10).

An endpoint that a ServiceEntry names itself is read alike. Who selects an entry is selected.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crds.checks import values
from crds.service_entry import WorkloadEntry, WorkloadEntrySpec
from istiod.mesh import workloads
from istiod.mesh.endpoint import Endpoint, Health
from istiod.mesh.service import Labels, Port
from istiod.mesh.settings import MeshSettings
from wire import names
from wire.node import Locality
from wire.spiffe import Identity

_UNIX: Final = "unix://"
_ISTIO: Final = "istio"  # the mode of who has a sidecar
_PROBED: Final = "proxy.istio.io/health-checks-enabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryWorkload:
    """A workload that a WorkloadEntry declares.

    ``labels`` are the entry's own and those of its spec, which selectors look at; ``endpoint`` has port 0. ``healthy``
    is False where health checks are asked for and none has succeeded (yet).
    """

    namespace: str
    name: str
    labels: Labels
    ports: tuple[tuple[str, int], ...]
    endpoint: Endpoint
    healthy: bool

    @property
    def is_address(self) -> bool:
        """Whether it is at an IP address: not at a name or a socket, nor somewhere behind a gateway."""
        return values.is_address(self.endpoint.address)

    @property
    def is_behind(self) -> bool:
        """Whether it has no address, and is reached by its network's gateway (row H10)."""
        return not self.endpoint.address and bool(self.endpoint.network)

    @property
    def is_socket(self) -> bool:
        """Whether it is at a Unix domain socket."""
        return self.endpoint.address[:1] in ("/", "@")


def workload(item: WorkloadEntry, settings: MeshSettings) -> EntryWorkload:
    """The workload of an entry; labels of the object win over those of its spec (Istio: ConvertWorkloadEntry)."""
    meta, spec = item.metadata, item.spec
    labels = {**spec.labels, **meta.labels}
    return EntryWorkload(
        namespace=meta.namespace,
        name=meta.name,
        labels=frozenset(labels.items()),
        ports=tuple(sorted(spec.ports.items())),
        endpoint=endpoint(spec, labels, labels.get(names.LABEL_WORKLOAD_NAME) or meta.name, meta.namespace, settings),
        healthy=_healthy(item),
    )


def endpoint(
    spec: WorkloadEntrySpec, labels: Mapping[str, str], name: str, namespace: str, settings: MeshSettings
) -> Endpoint:
    """The endpoint of an entry, with port 0; at a Unix domain socket its address is the path.

    Label ``security.istio.io/tlsMode`` says whether it has a sidecar; without it, a service account does.
    """
    said = _locality(spec, labels)
    account = spec.service_account
    network = spec.network or labels.get(names.LABEL_NETWORK, "") or settings.networks.of(spec.address)
    mode = labels.get(names.LABEL_TLS_MODE, _ISTIO if account else "")
    return Endpoint(
        address=spec.address.removeprefix(_UNIX),
        port=0,
        labels=workloads.placed(labels, said, network, ""),
        tls=mode == _ISTIO,
        health=Health.HEALTHY,
        weight=spec.weight or 1,
        locality=said,
        network=network,
        identity=str(Identity(settings.trust_domain, namespace, account)) if account else "",
        node="",
        workload=workloads.workload(name, namespace, labels),
    )


def number(ports: Mapping[str, int], port: Port) -> int:
    """The endpoint's port for a port of a ServiceEntry: its own by that name, else targetPort, else the same."""
    return ports.get(port.name) or (port.target if isinstance(port.target, int) else 0) or port.number


def _locality(spec: WorkloadEntrySpec, labels: Mapping[str, str]) -> Locality:
    """Where an entry says that it is: ``locality``, else its label."""
    said = workloads.parse_locality(spec.locality) if spec.locality else workloads.label_locality(labels)
    return said or workloads.NOWHERE


def _healthy(item: WorkloadEntry) -> bool:
    if item.metadata.annotations.get(_PROBED, "").lower() not in ("true", "1"):
        return True
    conditions = item.status.conditions if item.status else ()
    return any(one.type == "Healthy" and one.status.lower() == "true" for one in conditions)
