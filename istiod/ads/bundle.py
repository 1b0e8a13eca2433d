"""First configurations, put together once for all who get the same: what a client gets that has nothing of a type yet.

A thousand proxies of one scope ask for the same thousand clusters. What they get is looked up name by name for the
first of them only; for all others it is a dict that is there already, or a join of a few.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from istiod.config.resource import Resource, ResourceSet
from wire import names as wire_names

LARGE: Final = 32
"""From how many resources on a bundle is worth remembering."""
MOST: Final = 64
"""Remembered bundles: about 100 KB each at a thousand names."""
_NONE: Final[frozenset[str]] = frozenset()


class Bundle(dict[str, Resource]):
    """Resources that are all of a target, by name. Shared by streams, so nobody writes to it.

    ``warms`` are the names of endpoints that its clusters wait for.
    """

    __slots__ = ("warms",)

    warms: frozenset[str]


_Layer: TypeAlias = Mapping[str, Resource]
_Key: TypeAlias = tuple[int, int]
_Kept: TypeAlias = tuple[weakref.ref[_Layer], frozenset[str] | None, Bundle | None]


class Bundles:
    """Bundles of layers, the newest few. Layers are found by identity, and not kept alive."""

    def __init__(self, most: int = MOST) -> None:
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._most = most

    def of(self, target: ResourceSet, type_url: str, asked: frozenset[str] | None) -> Bundle | None:
        """The target's resources of a type: those asked for, None for all. None if a name asked for is not there.

        Equal sets of names have to be the same object (see NamePool), or each makes its own.
        """
        layers = target.layers.get(type_url, ())
        if asked is None:
            return _joined([self._of(layer, type_url, None) or Bundle() for layer in layers])
        return self._of(layers[0], type_url, asked) if len(layers) == 1 else None

    def _of(self, layer: _Layer, type_url: str, asked: frozenset[str] | None) -> Bundle | None:
        key = (id(layer), id(asked))
        kept = self._kept.get(key)
        if kept is not None and kept[0]() is layer:
            self._kept.move_to_end(key)
            return kept[2]
        made = _make(layer, type_url, asked)
        alive = _weak(layer) if len(layer if asked is None else asked) >= LARGE else None
        if alive is not None:
            self._kept[key] = (alive, asked, made)
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


def endpoints_of(clusters: Iterable[Resource]) -> frozenset[str]:
    """The names under which these clusters' endpoints would be asked for, if they are EDS clusters."""
    found: set[str] = set()
    for cluster in clusters:
        found |= cluster.refs.get(wire_names.ENDPOINT) or {cluster.name}
    return frozenset(found)


def _weak(layer: _Layer) -> weakref.ref[_Layer] | None:
    try:
        return weakref.ref(layer)
    except TypeError:  # a plain dict, which the compiler does not make
        return None


def _make(layer: _Layer, type_url: str, asked: frozenset[str] | None) -> Bundle | None:
    if asked is None:
        made = Bundle(layer)
    else:
        found = ((name, layer.get(name)) for name in asked)
        made = Bundle((name, resource) for name, resource in found if resource is not None)
        if len(made) != len(asked):
            return None
    made.warms = endpoints_of(made.values()) if type_url == wire_names.CLUSTER else _NONE
    return made


def _joined(parts: list[Bundle]) -> Bundle:
    if len(parts) == 1:
        return parts[0]
    made = Bundle()
    for part in parts:
        made.update(part)
    made.warms = _NONE.union(*(part.warms for part in parts))
    return made
