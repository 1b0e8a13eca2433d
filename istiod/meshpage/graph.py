"""Draws a graph in layers from left to right: places for boxes, and curves between them that share no place. Pure.

The usual steps (Sugiyama, Tagawa, Toda 1981): cycles are cut, nodes get layers by their longest way from a start, long
edges get a place in each layer they cross, layers are ordered by the middle of their neighbours. Each edge arrives at a
row of its own, where its label stands, so labels never meet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Generic, TypeVar

WIDTH: Final = 176
GAP: Final = 156
"""Between layers: room for a bend and a label."""
BEND: Final = 44
ROW: Final = 36
LEAST: Final = 46
SPACE: Final = 22
MARGIN: Final = 16
SWEEPS: Final = 6
_LEAST_COLUMNS: Final = 3
_N = TypeVar("_N", bound=Hashable)
_Item = Hashable
"""A node, or the place of an edge (its number) in a layer that it crosses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box(Generic[_N]):
    """Where a node stands: its left upper corner and height; all are ``WIDTH`` wide."""

    node: _N
    x: int
    y: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """An edge by its number: an SVG path, where its label ends, and whether it leads to the left (closing a cycle)."""

    edge: int
    path: str
    x: int
    y: int
    backwards: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing(Generic[_N]):
    """The whole picture."""

    width: int
    height: int
    boxes: tuple[Box[_N], ...]
    curves: tuple[Curve, ...]


def drawn(nodes: Sequence[_N], edges: Sequence[tuple[_N, _N]]) -> Drawing[_N]:
    """Boxes for all nodes, curves for all edges but those from a node to itself. Nodes without edges stand below."""
    real = {number: edge for number, edge in enumerate(edges) if edge[0] != edge[1]}
    turned = _backwards(nodes, real)
    ways = {number: edge[::-1] if number in turned else edge for number, edge in real.items()}
    used = {node for edge in ways.values() for node in edge}
    busy, idle = [node for node in nodes if node in used], [node for node in nodes if node not in used]
    layers = _layers(busy, ways)
    routes = {number: _route(number, edge, layers) for number, edge in ways.items()}
    columns = _ordered(_columns(busy, layers, routes), routes)
    arriving = Counter(target for _, target in ways.values())
    heights: dict[_Item, int] = {node: max(LEAST, ROW * arriving[node]) for node in busy}
    tops = _tops(columns, heights)
    boxes = [Box(node=node, x=_x(layers[node]), y=tops[node], height=heights[node]) for node in busy]
    bottom = max((box.y + box.height + SPACE for box in boxes), default=MARGIN)
    wide = max(_LEAST_COLUMNS, len(columns))
    boxes += [_below(node, number, bottom, wide) for number, node in enumerate(idle)]
    return Drawing(
        width=_x(wide - 1) + WIDTH + MARGIN,
        height=max((box.y + box.height for box in boxes), default=0) + MARGIN,
        boxes=tuple(boxes),
        curves=tuple(_curves(routes, layers, tops, heights, turned)),
    )


def _backwards(nodes: Sequence[_N], edges: Mapping[int, tuple[_N, _N]]) -> set[int]:
    """The edges that close a cycle, as a depth-first search meets them."""
    leaving: dict[_N, list[tuple[int, _N]]] = {node: [] for node in nodes}
    for number, (source, target) in edges.items():
        leaving[source].append((number, target))
    found: set[int] = set()
    done: set[_N] = set()
    for start in nodes:
        way: list[tuple[_N, Iterator[tuple[int, _N]]]] = [(start, iter(leaving[start]))] if start not in done else []
        open_nodes = {start}
        while way:
            node, rest = way[-1]
            number, target = next(rest, (-1, node))
            if number < 0:
                way.pop()
                open_nodes.discard(node)
                done.add(node)
            elif target in open_nodes:
                found.add(number)
            elif target not in done:
                open_nodes.add(target)
                way.append((target, iter(leaving[target])))
    return found


def _layers(nodes: Sequence[_N], edges: Mapping[int, tuple[_N, _N]]) -> dict[_N, int]:
    """The longest way to each node, in edges. There is no cycle, so this ends."""
    found = dict.fromkeys(nodes, 0)
    moved = True
    while moved:
        moved = False
        for source, target in edges.values():
            if found[target] <= found[source]:
                found[target] = found[source] + 1
                moved = True
    return found


def _route(number: int, edge: tuple[_N, _N], layers: Mapping[_N, int]) -> list[_Item]:
    """The edge's ends, and its places in the layers between."""
    source, target = edge
    return [source, *((number, layer) for layer in range(layers[source] + 1, layers[target])), target]


def _columns(nodes: Sequence[_N], layers: Mapping[_N, int], routes: Mapping[int, list[_Item]]) -> list[list[_Item]]:
    found: list[list[_Item]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    for node in nodes:
        found[layers[node]].append(node)
    for route in routes.values():
        for layer, item in enumerate(route[1:-1], layers[route[0]] + 1):  # type: ignore[index]  # it begins at a node
            found[layer].append(item)
    return found


def _ordered(columns: list[list[_Item]], routes: Mapping[int, list[_Item]]) -> list[list[_Item]]:
    """Each column by the middle of its neighbours, from the left and from the right in turns."""
    before: dict[_Item, list[_Item]] = {}
    after: dict[_Item, list[_Item]] = {}
    for route in routes.values():
        for left, right in pairwise(route):
            before.setdefault(right, []).append(left)
            after.setdefault(left, []).append(right)
    for sweep in range(SWEEPS):
        neighbours, way = (
            (before, range(1, len(columns))) if sweep % 2 == 0 else (after, range(len(columns) - 2, -1, -1))
        )
        for layer in way:
            rank = {item: place / len(column) for column in columns for place, item in enumerate(column)}
            columns[layer].sort(key=lambda item: _middle(item, neighbours, rank))
    return columns


def _middle(item: _Item, neighbours: Mapping[_Item, list[_Item]], rank: Mapping[_Item, float]) -> float:
    several = neighbours.get(item)
    return sum(rank[each] for each in several) / len(several) if several else rank[item]


def _tops(columns: Sequence[Sequence[_Item]], heights: Mapping[_Item, int]) -> dict[_Item, int]:
    """Upper edges; lower columns stand in the middle beside the highest."""
    tall = [sum(heights.get(item, ROW) + SPACE for item in column) for column in columns]
    found: dict[_Item, int] = {}
    for column, height in zip(columns, tall, strict=True):
        top = MARGIN + (max(tall) - height) // 2
        for item in column:
            found[item] = top
            top += heights.get(item, ROW) + SPACE
    return found


def _below(node: _N, number: int, bottom: int, wide: int) -> Box[_N]:
    return Box(node=node, x=_x(number % wide), y=bottom + number // wide * (LEAST + SPACE), height=LEAST)


def _curves(
    routes: Mapping[int, list[_Item]],
    layers: Mapping[_N, int],
    tops: Mapping[_Item, int],
    heights: Mapping[_Item, int],
    turned: set[int],
) -> Iterator[Curve]:
    for target, height in heights.items():
        several = sorted((tops[route[-2]], number) for number, route in routes.items() if route[-1] == target)
        for row, (_, number) in enumerate(several):
            end = tops[target] + height // 2 + int((row - (len(several) - 1) / 2) * ROW)
            route = routes[number]
            start = layers[route[0]]  # type: ignore[index]  # it begins at a node
            middles = [tops[item] + heights.get(item, ROW) // 2 for item in route[:-1]]
            path = _path(start, [*middles, end])
            x = _x(start + len(route) - 1)
            yield Curve(edge=number, path=path, x=x - 12, y=end, backwards=number in turned)


def _path(layer: int, heights: Sequence[int]) -> str:
    """Through the right side of the first box, level with each place between, to the left side of the last."""
    x = _x(layer) + WIDTH
    said = [f"M{x} {heights[0]}"]
    for step, y in enumerate(heights[1:], 1):
        left = _x(layer + step)
        half = x + BEND // 2
        said.append(f"C{half} {heights[step - 1]} {half} {y} {x + BEND} {y}H{left}")
        if step < len(heights) - 1:
            said.append(f"H{left + WIDTH}")
            x = left + WIDTH
    return "".join(said)


def _x(layer: int) -> int:
    return MARGIN + layer * (WIDTH + GAP)
