"""Where the workload of a proxy runs beside it, zone by zone: what zone-aware balancing goes by (row R7).

How calls are spread by it is istiod.envoy.zones'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from istiod.mesh import failover, inbound
from istiod.mesh.endpoint import Endpoint, EndpointLeaf, EndpointTable, View
from istiod.mesh.inbound import Place
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
from istiod.mesh.service import Labels
from istiod.mesh.workloads import PodWorkload

_TEMPLATE: Final = "pod-template-hash"
_NOBODY = EndpointLeaf(ports={})


def seen(
    view: View,
    model: Model,
    table: EndpointTable,
    whose: Callable[[], tuple[PodWorkload | None, Place]],
    recall: Recall,
) -> View:
    """The view with the peers of its proxy, where some setting is zone-aware. ``whose``: its pod, and its place."""
    if not recall.of("zones", (model.policies, model.settings), lambda: _asked(model)):
        return view
    pod, place = whose()
    inputs = (place, model.registry, model.declared)
    home = recall.of_each(
        "home", (place.namespace, pod.name if pod else place.addresses), inputs, lambda: _home(model, place)
    )
    leaf = table.leaves.get(home, _NOBODY) if home else _NOBODY
    name, template = (pod.workload.name, _template(pod.labels)) if pod else ("", "")
    region = view.locality.region
    peers = recall.of(("peers", name, template, region), (leaf,), lambda: _peers(leaf, name, template, region))
    return replace(view, peers=peers) if peers else view


def _asked(model: Model) -> bool:
    return any(one is not None and one.zones_from is not None for one in failover.settings(model))


def _home(model: Model, place: Place) -> tuple[str, str] | None:
    """The first service that sends to the workload, by host and namespace."""
    return next(((one.host, one.namespace) for one, _, _ in inbound.targets(model, place)), None)


def _peers(leaf: EndpointLeaf, name: str, template: str, region: str) -> tuple[tuple[str, int], ...]:
    """Endpoints of one workload in a region, by zone: other versions of it run elsewhere, perhaps."""
    members: Iterable[Endpoint] = next(iter(leaf.ports.values()), ())
    found = Counter(
        one.locality.zone
        for one in members
        if one.locality.region == region
        and (not name or (one.workload.name == name and _template(one.labels) == template))
    )
    return tuple(sorted(found.items()))


def _template(labels: Labels) -> str:
    return dict(labels).get(_TEMPLATE, "")
