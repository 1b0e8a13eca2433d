"""Zone-aware balancing: each zone's share of the calls, as Envoy's own zone-aware routing gives it (row R7).

Envoy would have to know its zone and the endpoints of its own service (``local_cluster_name``) from its start on. Both
are known here, so the shares come as weights of localities. What a proxy ejects changes no share, but a zone of which
nobody is left is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from istiod.envoy import locality
from istiod.envoy.locality import Group
from istiod.mesh.endpoint import View
from istiod.mesh.policy import LocalityLb

_WHOLE: Final = 1_000_000
"""What the weights of a priority's zones add up to."""


def spread(found: list[Group], setting: LocalityLb, view: View) -> list[Group]:
    """The groups as a proxy at ``view`` uses them: its region first, in that by zones."""
    wanted = setting.failover_priority
    parts = [part for group in found for part in locality.by_labels(group, wanted, view)] if wanted else found

    def rank(group: Group) -> int:
        """Zones of the client's region are alike."""
        distance = locality.failover_rank(group, setting, view.locality)
        return group.priority * locality.RANKS + (distance if distance >= locality.OTHER_REGION else 0)

    placed = locality.ranked(parts, rank)
    home = [group for group in placed if group.priority == 0 and group.locality.region == view.locality.region]
    there = Counter[str]()
    for group in home:
        there[group.locality.zone] += len(group.endpoints)
    if there.total() < (setting.zones_from or 0):
        return placed
    shares = _shares(there, dict(view.peers), view.locality.zone)
    return [_weighted(group, shares, home) if group in home else group for group in placed] if shares else placed


def _shares(there: Mapping[str, int], here: Mapping[str, int], mine: str) -> Mapping[str, float]:
    """The share of each zone for clients in one of them; empty where zones do not count.

    Each zone gets as many calls as its part of the endpoints is; as many of them as can be come from its own clients,
    who are as many as theirs part of the peers. What they cannot place at home goes where endpoints are left over.
    """
    if len(there) < 2 or not there.get(mine) or not here.get(mine):  # noqa: PLR2004 (nothing to choose from)
        return {}
    endpoints, peers = sum(there.values()), sum(here.values())
    parts = {zone: count / endpoints for zone, count in there.items()}
    own = here[mine] / peers
    if parts[mine] >= own:
        return {mine: 1.0}
    left = {zone: max(part - here.get(zone, 0) / peers, 0.0) for zone, part in parts.items() if zone != mine}
    kept = parts[mine] / own
    return {mine: kept} | {zone: (1 - kept) * free / sum(left.values()) for zone, free in left.items()}


def _weighted(group: Group, shares: Mapping[str, float], home: list[Group]) -> Group:
    """The group with its part of its zone's share."""
    zone = group.locality.zone
    whole = sum(other.weight for other in home if other.locality.zone == zone)
    return replace(group, weight=round(shares.get(zone, 0.0) * _WHOLE * group.weight / whole))
