"""Which labels of proxies and endpoints count for failover priorities (features row G6)."""

from __future__ import annotations

from istiod.mesh.model import Model
from istiod.mesh.service import Labels


def labels(model: Model) -> frozenset[str]:
    """Label keys that some failover priority names (``key`` or ``key=value``)."""
    settings = [model.settings.locality_lb]
    for policy in model.policies.all():
        settings += [p.load_balancer.locality for _, p in policy.policies]
    return frozenset(name.partition("=")[0] for one in settings if one for name in one.failover_priority)


def looked_at(said: Labels, keys: frozenset[str]) -> Labels:
    """Those of some labels that count."""
    return frozenset(pair for pair in said if pair[0] in keys) if keys else frozenset()
