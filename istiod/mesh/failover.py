"""What of a proxy counts for locality load balancing: labels, its node, its place (features row G6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from istiod.mesh.model import Model
from istiod.mesh.policy import LocalityLb
from istiod.mesh.service import NAMED, Labels, Service
from wire import names
from wire.node import Locality

_NOWHERE = Locality()


def settings(model: Model) -> Iterator[LocalityLb | None]:
    """Everything that is said of localities, by the mesh and by rules."""
    yield model.settings.locality_lb
    for policy in model.policies.all():
        yield from (p.load_balancer.locality for _, p in policy.policies)


def by_node(labels: frozenset[str], services: Iterable[Service]) -> bool:
    """Whether somebody looks at the node that a proxy is on."""
    return names.LABEL_HOSTNAME in labels or any(one.looks_at_nodes for one in services)


def labels(model: Model) -> frozenset[str]:
    """Label keys that some failover priority names (``key`` or ``key=value``)."""
    return frozenset(name.partition("=")[0] for one in settings(model) if one for name in one.failover_priority)


def looked_at(said: Labels, keys: frozenset[str]) -> Labels:
    """Those of some labels that count."""
    return frozenset(pair for pair in said if pair[0] in keys) if keys else frozenset()


def in_clusters(model: Model) -> bool:
    """Whether the place of a client may change a cluster itself: one with the endpoints of a host that Envoy resolves.

    Where no such endpoint says where it is, only ``distribute`` looks at them: it leaves them out.
    """
    resolved = [one for one in model.registry.services if one.resolution in NAMED]
    if not resolved:
        return False
    leaves = (model.declared.leaves.get((one.host, one.namespace)) for one in resolved)
    places = (end.locality for leaf in leaves if leaf for ends in leaf.ports.values() for end in ends)
    return any(place != _NOWHERE for place in places) or any(one.distribute for one in settings(model) if one)
