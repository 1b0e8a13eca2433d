"""Balancing by locality, of DestinationRules and the mesh (features row G6; Istio: ValidateLocalityLbSetting)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from crds.checks import values
from crds.checks.findings import Findings
from crds.destination_rule import Failover, LocalityLoadBalancerSetting

_TOPOLOGY: Final = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)
_ANY: Final = "*"


def check(found: Findings, field: str, settings: LocalityLoadBalancerSetting) -> None:
    """Shares add up, localities do not overlap, and traffic fails over from one region to another."""
    if settings.distribute and settings.failover:
        found.error(field, "distribute and failover exclude each other")
    by_topology = next((name for name in settings.failover_priority if name in _TOPOLOGY), None)
    if settings.failover and by_topology is not None:
        found.refuse(f"{field}.failoverPriority", f"{by_topology} excludes failover")
    for index, share in enumerate(settings.distribute):
        place = f"{field}.distribute[{index}].to"
        if any(not 0 < weight <= values.HUNDRED for weight in share.to.values()):
            found.error(place, "each weight is from 1 to 100")
        elif sum(share.to.values()) != values.HUNDRED:
            found.error(place, "the weights do not add up to 100")
        found.refuse(place, _problem(share.to))
    found.refuse(f"{field}.distribute", _problem(share.from_ for share in settings.distribute))
    for index, one in enumerate(settings.failover):
        found.refuse(f"{field}.failover[{index}]", _regions(one))


def _regions(one: Failover) -> str | None:
    if one.from_ == one.to:
        return "from and to are the same region"
    if "/" in one.from_ + one.to or _ANY in one.from_ + one.to:
        return "from and to are regions, without zones and wildcards"
    return None


def _problem(localities: Iterable[str]) -> str | None:
    """``region/zone/subzone``, of which less may be said; * at the end is the rest. No two may hold the same place."""
    seen: set[tuple[str, ...]] = set()
    around: set[tuple[str, ...]] = set()  # what holds one that was there before
    for locality in localities:
        if _ANY in locality.removesuffix(_ANY):
            return f"{locality}: * stands once, at the end"
        steps = tuple(locality.split("/", 2))
        if not all(steps):
            return f"{locality!r} has an empty region, zone or subzone"
        wider = [steps[:count] for count in range(1, len(steps) + 1)]
        if steps in around or (_ANY,) in seen or any(one in seen or (*one, _ANY) in seen for one in wider):
            return f"{locality} overlaps with another one"
        seen.add(steps)
        around.update(wider)
    return None
