"""Locality load balancing: distribute, failover and failoverPriority as Istio computes them (features row G6).

Source: Istio's pilot/pkg/networking/core/loadbalancer. Envoy wants priorities from 0 without gaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from istiod.mesh.endpoint import Endpoint, View
from istiod.mesh.policy import LocalityLb
from wire import names
from wire.node import Locality

LARGEST_WEIGHT = 0xFFFFFFFF
"""Envoy refuses assignments in which the endpoints of a locality, or the localities of a priority, sum up to more."""
_ANY = ("", "*")
OTHER_REGION = 3
_NOT_CHOSEN = 4
RANKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Endpoints of one locality with one priority (0 is the first choice) and their weight among such groups."""

    locality: Locality
    endpoints: tuple[Endpoint, ...]
    weight: int
    priority: int = 0


def weight(endpoint: Endpoint) -> int:
    """An endpoint's share; Envoy knows no 0."""
    return max(endpoint.weight, 1)


def groups(endpoints: Iterable[Endpoint]) -> list[Group]:
    """Endpoints by locality, in the order of region, zone and subzone."""
    found: dict[Locality, list[Endpoint]] = {}
    for endpoint in endpoints:
        found.setdefault(endpoint.locality, []).append(endpoint)
    ordered = sorted(found.items(), key=lambda item: (item[0].region, item[0].zone, item[0].subzone))
    return [_group(where, members) for where, members in ordered]


def bounded(found: list[Group]) -> list[Group]:
    """The groups with weights that Envoy takes: where all together are too heavy, all become lighter alike."""
    total = sum(group.weight for group in found)
    if total <= LARGEST_WEIGHT:
        return found
    room = LARGEST_WEIGHT - sum(len(group.endpoints) for group in found)  # what is raised to 1 has its place beside it
    return [
        _group(
            group.locality,
            [replace(one, weight=max(weight(one) * room // total, 1)) for one in group.endpoints],
            group.priority,
        )
        for group in found
    ]


def spread(found: list[Group], setting: LocalityLb, view: View) -> list[Group]:
    """The groups as a proxy at ``view`` uses them."""
    if setting.distribute:
        return _distribute(found, setting, view.locality)
    if not setting.failover_priority:
        return ranked(found, lambda group: failover_rank(group, setting, view.locality))
    split = [part for group in found for part in by_labels(group, setting.failover_priority, view)]
    if not setting.failover:
        return ranked(split, lambda group: group.priority)
    return ranked(split, lambda group: group.priority * RANKS + failover_rank(group, setting, view.locality))


def _group(where: Locality, members: Sequence[Endpoint], priority: int = 0) -> Group:
    return Group(
        locality=where, endpoints=tuple(members), weight=sum(weight(member) for member in members), priority=priority
    )


def ranked(found: list[Group], rank: Callable[[Group], int]) -> list[Group]:
    """The groups with priorities that follow from their ranks, without gaps."""
    ranks = [rank(group) for group in found]
    priorities = {value: priority for priority, value in enumerate(sorted(set(ranks)))}
    return [replace(group, priority=priorities[value]) for group, value in zip(found, ranks, strict=True)]


def failover_rank(group: Group, setting: LocalityLb, mine: Locality) -> int:
    """How far away a group is; from OTHER_REGION on it is in another region."""
    other = group.locality
    if other.region == mine.region:
        if other.zone != mine.zone:
            return 2
        return int(other.subzone != mine.subzone)
    wanted = next((to for source, to in setting.failover if source == mine.region), None)
    return OTHER_REGION if wanted is None or other.region == wanted else _NOT_CHOSEN


def by_labels(group: Group, priorities: tuple[str, ...], view: View) -> list[Group]:
    """A group in pieces, whose endpoints have equally many of the labels that come first."""
    split: dict[int, list[Endpoint]] = {}
    for endpoint in group.endpoints:
        split.setdefault(_label_rank(endpoint, priorities, view), []).append(endpoint)
    return [_group(group.locality, members, rank) for rank, members in sorted(split.items())]


def _label_rank(endpoint: Endpoint, priorities: tuple[str, ...], view: View) -> int:
    """0 where all labels agree with the proxy's, else the earlier the first difference the worse."""
    for index, wanted in enumerate(priorities):
        key, given, value = wanted.partition("=")
        if _endpoint_label(endpoint, key) != (value if given else _view_label(view, key)):
            return len(priorities) - index
    return 0


def _endpoint_label(endpoint: Endpoint, key: str) -> str:
    where = endpoint.locality
    known = {
        names.LABEL_REGION: where.region,
        names.LABEL_ZONE: where.zone,
        names.LABEL_SUBZONE: where.subzone,
        names.LABEL_NETWORK: endpoint.network,
        names.LABEL_HOSTNAME: endpoint.node,
        names.LABEL_CLUSTER: endpoint.workload.cluster_id,
    }
    return known[key] if key in known else dict(endpoint.labels).get(key, "")


def _view_label(view: View, key: str) -> str:
    known = {
        names.LABEL_REGION: view.locality.region,
        names.LABEL_ZONE: view.locality.zone,
        names.LABEL_SUBZONE: view.locality.subzone,
        names.LABEL_NETWORK: view.network,
        names.LABEL_HOSTNAME: view.node,
        names.LABEL_CLUSTER: view.cluster_id,
    }
    return known[key] if key in known else dict(view.labels).get(key, "")


def _distribute(found: list[Group], setting: LocalityLb, mine: Locality) -> list[Group]:
    targets = next((to for source, to in setting.distribute if _matches(mine, source)), None)
    if targets is None:
        return found
    weights: dict[int, int] = {}
    for pattern, share in targets:
        members = [
            index for index, group in enumerate(found) if index not in weights and _matches(group.locality, pattern)
        ]
        total = sum(found[index].weight for index in members)
        weights.update((index, math.ceil(found[index].weight * share / total)) for index in members)
    # Localities that nobody named get nothing, as in Istio
    return [replace(found[index], weight=share) for index, share in sorted(weights.items()) if share]


def _matches(where: Locality, pattern: str) -> bool:
    """Whether a locality is of a pattern ``region/zone/subzone`` with "*" for any."""
    region, zone, subzone = [*pattern.split("/"), "", ""][:3]
    return (
        region in ("*", where.region)
        and (zone in _ANY or zone == where.zone)
        and (subzone in _ANY or subzone == where.subzone)
    )
