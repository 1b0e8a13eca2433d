"""The clusters of one scope, each service's remembered by what it depends on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from istiod.mesh import clusters
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
from istiod.mesh.scope import Cluster, Discovery, ScopeKey
from istiod.mesh.service import NAMED, Service

_DNS = frozenset({Discovery.STRICT_DNS, Discovery.LOGICAL_DNS})


def of(
    model: Model, key: ScopeKey, namespace: str, services: tuple[Service, ...], recall: Recall
) -> Mapping[str, Cluster]:
    """The clusters of these services as clients of a key see them, by name, with those that are always there.

    The same object for all keys that see the same.

    Args:
        model: the mesh.
        key: whose clusters.
        namespace: with whose eyes rules are seen (perspective.of).
        services: those that need clusters, one per host.
        recall: what earlier clusters were made from.
    """
    name = ("clusters", namespace, key.type.value, key.families, key.locality)
    inputs = (model.settings, services, model.policies, model.summaries, model.declared, model.peers)
    return recall.of_many(name, inputs, lambda: dict(_all(model, key, namespace, services, recall)))


def _all(
    model: Model, key: ScopeKey, namespace: str, services: Iterable[Service], recall: Recall
) -> Iterator[tuple[str, Cluster]]:
    """What a service's clusters depend on is stated here once.

    It is the mesh's settings, the service, the policy that speaks for it, what is known of its endpoints, and the mTLS
    mode of its namespace.
    """
    settings = model.settings
    yield from recall.of(("always", key.type.value, key.families), (settings,), lambda: _always(model, key)).items()
    homes = {service.namespace for service in services}
    modes = {home: model.peers.of_namespace(home) for home in homes}
    for service in services:
        host = (service.host, service.namespace)
        inputs = (
            settings,
            service,
            model.policies.lookup(service, namespace),
            model.summaries.get(host),
            model.declared.leaves.get(host),
            modes[service.namespace],
        )
        place = key.locality if service.resolution in NAMED else None
        name = ("clusters of a service", key.type.value, key.families, place)
        make = partial(_of_service, model, key, namespace, service, recall)
        yield from ((cluster.name, cluster) for cluster in recall.of(name, inputs, make))


def _always(model: Model, key: ScopeKey) -> Mapping[str, Cluster]:
    found = clusters.outbound_clusters(model, "", (), key.type)
    return {name: _spoken(one, key) for name, one in found.items()}


def _of_service(model: Model, key: ScopeKey, namespace: str, service: Service, recall: Recall) -> tuple[Cluster, ...]:
    found = clusters.service_clusters(model, namespace, service, key.type, recall)
    return tuple(_spoken(one, key) for one in found)


def _spoken(cluster: Cluster, key: ScopeKey) -> Cluster:
    """The cluster, where names that it resolves stand for addresses that the workload can reach, nearest first.

    One name alone (LOGICAL_DNS) leaves nothing to choose, and Envoy takes no such cluster without it.
    """
    if cluster.cache is not None:
        return replace(cluster, cache=replace(cluster.cache, families=key.families))
    if cluster.discovery not in _DNS:
        return cluster
    spread = cluster.discovery is Discovery.STRICT_DNS and cluster.policy.load_balancer.locality is not None
    return replace(cluster, families=key.families, locality=key.locality if spread else None)
