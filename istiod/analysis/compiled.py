"""The mesh that istiod would make of the objects (istiod.mesh), for checks that look at both sides of a connection.

Objects with errors are left out of it, as istiod leaves them out.
"""

from __future__ import annotations

import functools
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from crds import core
from crds.diagnostic import Code, Diagnostic
from crds.key import ConfigKey
from crds.parse import parse
from istiod.analysis import catalogue, fields, kinds, membership, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.kinds import Kind
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource
from istiod.config.store import ConfigStore
from istiod.mesh import context
from istiod.mesh.context import MeshContext
from istiod.mesh.service import Service

_MADE_UP: Final = ipaddress.IPv4Address("240.64.0.1")
"""Services of files get addresses from here, in a block that nobody uses (RFC 1112), after those of istiod's own."""
_UNSEEN: Final = frozenset((kinds.SECRET,))
"""Kinds that no two-sided check looks at; to read Secrets is slow, and IST0161 judges them."""
_TOLD: Final = frozenset(
    (
        Code.SHADOWED_ROUTE,
        Code.NOT_SUPPORTED,
        Code.PORT_CONFLICT,
        Code.INEFFECTIVE,
        Code.DUPLICATE_SUBSET,
        Code.UNKNOWN_PROVIDER,
        Code.UNKNOWN_DELEGATE,
    )
)
"""Findings of the mesh that have no code of Istio's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A workload behind a service. ``sidecar``: it speaks the mesh's mTLS."""

    pod: Resource
    sidecar: bool

    @property
    def labels(self) -> frozenset[tuple[str, str]]:
        """Its labels, as istiod.mesh has them."""
        return frozenset(self.pod.labels.items())


@functools.lru_cache(maxsize=1)
def mesh(known: Collection) -> MeshContext:
    """The mesh of all objects; made once for all analyzers that ask."""
    store = ConfigStore()
    for number, resource in enumerate(known):
        found = known.parsed(resource).object if resource.kind not in _UNSEEN else None
        if isinstance(found, core.Service) and _lacks_address(resource):
            spec = {**resource.spec, "clusterIP": str(_MADE_UP + number)}
            found = parse({**resource.named, "spec": spec}).object
        if found is not None:
            store.apply(found)
    if known.mesh:
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": json.dumps(known.mesh, default=str)},
        }
        settings = parse(document).object
        if isinstance(settings, core.ConfigMap):
            store.apply(settings)
    return context.build(store.snapshot())


def _lacks_address(service: Resource) -> bool:
    """Whether a Service stands in a file: an API server would have given it an address of its own."""
    return not fields.dig(service.spec, "clusterIP") and fields.text(service.spec, "type") != "ExternalName"


def resource_of(known: Collection, key: ConfigKey) -> Resource | None:
    """The resource of an object that the mesh names."""
    kind = Kind(key.group, key.kind)
    found = known.find(kind, key.namespace, key.name)
    return found or known.find(kind, "", key.name)


def servers(known: Collection, service: Service) -> list[Server]:
    """The pods behind a Service of Kubernetes that selects any."""
    if not (service.kubernetes and service.selector):
        return []
    pods = known.pods(dict(service.selector), service.namespace)
    return [Server(pod=pod, sidecar=membership.pod_in_mesh(pod, known)) for pod in pods]


def _run(known: Collection) -> Iterator[Message]:
    own = (each for resource in known for each in _unsupported(known, resource))
    for finding in (*mesh(known).diagnostics, *own):
        resource = resource_of(known, finding.key) if finding.key is not None else None
        if finding.code in _TOLD and resource is not None:
            row = catalogue.of_diagnostic(finding.code.value)
            said = f"{finding.field}: {finding.message}" if finding.field else finding.message
            yield message.of_field(row, resource, said, field=finding.field)


def _unsupported(known: Collection, resource: Resource) -> Iterator[Diagnostic]:
    """Fields that are read and have no effect, where reading the object alone tells."""
    if resource.kind in kinds.ISTIO:
        yield from (each for each in known.parsed(resource).diagnostics if each.code is Code.NOT_SUPPORTED)


ANALYZER: Final = Analyzer(
    name="mesh.FindingsAnalyzer",
    description="What istiod itself finds when it compiles these objects: fields without effect, routes never reached",
    run=_run,
)
