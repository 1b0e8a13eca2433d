"""The picture of the traffic: which flows are drawn, with which words, and which workloads stand there without any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from istiod.mesh.context import MeshContext
from istiod.meshpage import graph, listing, render, traffic
from istiod.meshpage.graph import Curve, Drawing
from istiod.meshpage.traffic import Flow, Place

MOST_EDGES: Final = 40
"""Edges of a picture that a person can still read: the busiest."""
MOST_NAMESPACES: Final = 12
MOST_IDLE: Final = 24
"""Nodes without traffic that are drawn; more would only fill the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A drawn flow and its words."""

    curve: Curve
    flow: Flow
    words: tuple[str, str]
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The drawing; ``left_out`` flows and ``idle`` quiet nodes are not on it."""

    drawing: Drawing[Place]
    lines: tuple[Line, ...]
    left_out: int
    idle: int


def picture(flows: Sequence[Flow], quiet: Collection[Place]) -> Picture:
    """Draw the busiest flows, and of the nodes without traffic those that fit."""
    shown = flows[:MOST_EDGES]
    busy = dict.fromkeys(place for flow in flows for place in (flow.source, flow.destination))
    drawn = dict.fromkeys(place for flow in shown for place in (flow.source, flow.destination))
    idle = sorted(place for place in quiet if place not in busy)
    drawing = graph.drawn([*drawn, *idle[:MOST_IDLE]], [(flow.source, flow.destination) for flow in shown])
    lines = (
        Line(curve=each, flow=shown[each.edge], words=words(shown[each.edge]), width=_width(shown[each.edge]))
        for each in drawing.curves
    )
    return Picture(
        drawing=drawing,
        lines=tuple(lines),
        left_out=len(flows) - len(shown),
        idle=max(0, len(idle) - MOST_IDLE),
    )


def words(flow: Flow) -> tuple[str, str]:
    """What stands above an edge and below it: how often and how many fail, and how long half and nearly all take."""
    if not flow.requests:
        return f"{render.rate(flow.bytes)} B/s", "TCP"
    failing = f" · {render.percent(flow.failing)} err" if flow.errors else ""
    return f"{render.rate(flow.requests)}/s{failing}", render.span(flow.p50, flow.p99)


def _width(flow: Flow) -> float:
    """Busier edges are thicker, by powers of ten."""
    return min(5.0, 1.4 + 0.6 * len(str(int(flow.requests))))


def namespaces(nodes: Iterable[Place], flows: Iterable[Flow], chosen: str) -> list[str]:
    """Those that can be chosen: the one that is, and those with the most nodes."""
    places = {*nodes, *(place for flow in flows for place in (flow.source, flow.destination))}
    many = Counter(each.namespace for each in places if each.namespace)
    kept = {name for name, _ in sorted(many.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_NAMESPACES]}
    return sorted(kept | ({chosen} if chosen else set()))


def known(context: MeshContext, group: str, namespace: str, query: str) -> set[Place]:
    """The nodes that the mesh itself knows: workloads of pods, or services of Kubernetes."""
    found: Iterable[Place]
    if group == traffic.WORKLOADS:
        pods = context.backends.pods.values()
        found = (Place(each.namespace, each.workload.name) for each in pods if each.addresses and each.tls)
    else:
        found = (Place(each.namespace, each.name) for each in context.model.registry.services)
    return {each for each in found if namespace in ("", each.namespace) and listing.fits(query, *each)}
