"""Which labels of proxies and endpoints count for failover priorities (features row G6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from istiod.mesh.model import Model
from istiod.mesh.policy import LocalityLb
from istiod.mesh.service import Labels, Service
from wire import names


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
