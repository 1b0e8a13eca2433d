"""The clusters of one scope, each service's remembered by what it depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from istiod.mesh import clusters
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
from istiod.mesh.scope import Cluster, Discovery, ScopeKey
from istiod.mesh.service import Service

_DNS = frozenset({Discovery.STRICT_DNS, Discovery.LOGICAL_DNS})


def of(model: Model, key: ScopeKey, services: Iterable[Service], recall: Recall) -> Mapping[str, Cluster]:
    """The clusters of these services as clients of a key see them, by name, with those that are always there.

    What a service's clusters depend on is stated here once: the mesh's settings, the service, the policy that speaks
    for it, what is known of its endpoints, and the mTLS mode of its namespace.
    """
    bare = partial(clusters.outbound_clusters, model, key.namespace, (), key.type)
    found = dict(recall.of(("always", key.type), (model.settings,), bare))
    for service in services:
        host = (service.host, service.namespace)
        inputs = (
            model.settings,
            service,
            model.policies.lookup(service, key.namespace),
            model.summary(*host),
            model.declared.leaves.get(host),
            model.peers.of_namespace(service.namespace),
        )
        make = partial(_of_service, model, key, service)
        for cluster in recall.of(("clusters", key.type, key.families), inputs, make):
            found.setdefault(cluster.name, cluster)
    return found


def _of_service(model: Model, key: ScopeKey, service: Service) -> tuple[Cluster, ...]:
    found = clusters.service_clusters(model, key.namespace, service, key.type)
    return tuple(replace(one, families=key.families) if one.discovery in _DNS else one for one in found)
