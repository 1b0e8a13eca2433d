"""MeshNetworks: endpoints of registries that do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from istiod.analysis import catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.kinds import Kind
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource

_REMOTE: Final = "istio/multiCluster"
_BUILT_IN: Final = frozenset(("Mock", "Kubernetes", "External"))
_NETWORKS: Final = Kind("", "MeshNetworks")


def _run(known: Collection) -> Iterator[Message]:
    registries = set(_BUILT_IN)
    for secret in known.of(kinds.SECRET):
        if secret.labels.get(_REMOTE) == "true":
            registries |= {*fields.record(secret.document, "data"), *fields.record(secret.document, "stringData")}
    about = Resource(kind=_NETWORKS, namespace="istio-system", name="meshnetworks", document=known.networks)
    for name, network in sorted(fields.record(known.networks, "networks").items()):
        for endpoint in fields.records(network, "endpoints"):
            registry = fields.text(endpoint, "fromRegistry")
            if registry and registry not in registries:
                yield message.make(catalogue.UNKNOWN_REGISTRY, about, registry, name)


ANALYZER: Final = Analyzer(
    name="meshnetworks.MeshNetworksAnalyzer",
    description="Check the validity of MeshNetworks in the cluster",
    run=_run,
)
