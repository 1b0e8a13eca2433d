"""Endpoints of other networks: their gateways stand for them (features row R10; Istio: EndpointsByNetworkFilter).

A gateway passes mesh mTLS on by its server name, so what has none cannot be reached there. Which gateways there are is
istiod.mesh.networks'.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from istiod.envoy import locality
from istiod.envoy.locality import Group
from istiod.mesh.endpoint import Crossing, Endpoint, Health, Query, View, Workload
from wire import names

_Doors = Mapping[str, tuple[tuple[str, int], ...]]
_FINEST = (
    1 << 24
)  # networks of very different counts of gateways would want any scale: this errs by less than 1 in 10,000


def through(groups: Sequence[Group], query: Query, view: View) -> list[Group]:
    """The groups as a proxy at ``view`` reaches them: a gateway has the weight of all who are behind it.

    All weights are multiplied alike, so that those of each network that is entered divide among its gateways.
    """
    doors = {name: at for name, at in view.gateways if name not in ("", view.network)} if view.network else {}
    entered = {one.network for group in groups for one in group.endpoints if one.network in doors}
    scale = min(math.lcm(*(len(doors[name]) for name in entered)), _FINEST)
    found = (_group(group, tuple(_reached(group, query, doors, scale))) for group in groups)
    return [group for group in found if group.endpoints]


def _group(group: Group, members: tuple[Endpoint, ...]) -> Group:
    return replace(group, endpoints=members, weight=sum(map(locality.weight, members)))


def _reached(group: Group, query: Query, doors: _Doors, scale: int) -> Iterator[Endpoint]:
    behind: dict[str, int] = {}
    for endpoint in group.endpoints:
        weight = locality.weight(endpoint) * scale
        if endpoint.network not in doors:
            if endpoint.address:
                yield endpoint if endpoint.weight == weight else replace(endpoint, weight=weight)
        elif endpoint.health is Health.HEALTHY and _crosses(endpoint, query):
            behind[endpoint.network] = behind.get(endpoint.network, 0) + weight
    for network, weight in sorted(behind.items()):
        for address, port in doors[network]:
            yield _gateway(group, network, address, port, weight // len(doors[network]))


def _crosses(endpoint: Endpoint, query: Query) -> bool:
    return query.crossing is Crossing.ALWAYS or (endpoint.tls and query.crossing is Crossing.BY_SIDECAR)


def _gateway(group: Group, network: str, address: str, port: int, weight: int) -> Endpoint:
    return Endpoint(
        address=address,
        port=port,
        labels=frozenset({(names.LABEL_NETWORK, network), (names.LABEL_CLUSTER, names.CLUSTER_ID)}),
        tls=True,
        health=Health.HEALTHY,
        weight=weight,
        locality=group.locality,
        network=network,
        identity="",
        node="",
        workload=Workload(cluster_id=names.CLUSTER_ID),
    )
