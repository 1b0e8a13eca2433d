"""Locality load balancing as users set it (features row G6); which endpoints that prefers is decided per view."""

from __future__ import annotations

from typing import Final

from crds.destination_rule import LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting
from istiod.mesh.policy import LocalityLb
from istiod.mesh.service import SAME_NODE
from wire import names

CLOSE = LocalityLb(failover_priority=(names.LABEL_NETWORK, names.LABEL_REGION, names.LABEL_ZONE))
"""What trafficDistribution PreferClose (PreferSameZone) means: subzones count for nothing (Istio 1.27 and later)."""
CLOSE_TO_NODE = LocalityLb(failover_priority=(*CLOSE.failover_priority, names.LABEL_SUBZONE, names.LABEL_HOSTNAME))
_DISTRIBUTION = {"PreferClose": CLOSE, "PreferSameZone": CLOSE, SAME_NODE: CLOSE_TO_NODE}

_FEW: Final = 6
"""With fewer endpoints Envoy does not look at zones, unless ``minClusterSize`` says otherwise."""


def setting(said: LocalityLoadBalancerSetting) -> LocalityLb:
    """The setting of a mesh or a DestinationRule."""
    return LocalityLb(
        distribute=tuple((d.from_, tuple(sorted(d.to.items()))) for d in said.distribute),
        failover=tuple((f.from_, f.to) for f in said.failover),
        failover_priority=said.failover_priority,
        enabled=said.enabled is not False,
    )


def zone_aware(said: ZoneAwareLoadBalancerSetting) -> LocalityLb:
    """The setting of a mesh or a DestinationRule that leaves the shares of zones to what is there."""
    return LocalityLb(
        failover=tuple((f.from_, f.to) for f in said.failover),
        failover_priority=said.failover_priority,
        zones_from=_FEW if said.min_cluster_size is None else said.min_cluster_size,
        enabled=said.enabled is not False,
    )


def effective(
    rule: LocalityLb | None, mesh: LocalityLb | None, distribution: str, *, ejects: bool
) -> LocalityLb | None:
    """The setting that has an effect on a cluster, or None.

    A rule replaces the service's trafficDistribution, and that the mesh's setting. Without outlier detection nothing
    would ever fail over, so only ``distribute``, zone-aware settings and trafficDistribution work without it
    (``ejects`` False).
    """
    said = rule or _DISTRIBUTION.get(distribution) or mesh
    if said is None or not said.enabled:
        return None
    forced = (rule is None and distribution in _DISTRIBUTION) or said.zones_from is not None
    return said if said.distribute or ejects or forced else None
