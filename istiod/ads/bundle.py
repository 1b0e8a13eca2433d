"""First configurations, put together once for all who get the same: what a client gets that has nothing of a type yet.

A thousand proxies of one scope ask for the same thousand clusters. What they get is looked up name by name, and its
bytes are joined, for the first of them only; for all others both are there already.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from operator import attrgetter
from typing import Final, TypeAlias, TypeVar

from istiod.config.resource import Resource, ResourceSet
from wire import names as wire_names

LARGE: Final = 32
"""From how many resources on it is worth remembering what was made of all of them."""
MOST: Final = 64
"""Remembered bundles: about 100 KB each at a thousand names, without their bytes."""
ROOM: Final = 32 * 1024 * 1024
"""Bytes that remembered bundles may hold of responses; where there are more, the oldest bundles are forgotten."""
FEW: Final = 8
"""Up to how many frames are sent one by one, rather than copied into one: each may have half a megabyte."""
_ANY_FRAME: Final = attrgetter("any_frame")
_DELTA_FRAME: Final = attrgetter("delta_frame")
"""Thousands of frames per response: without a step of Python for each."""
_NONE: Final[frozenset[str]] = frozenset()


class Bundle(dict[str, Resource]):
    """Resources that are all of a target, by name. Shared by streams, so nobody writes to it.

    ``warms`` are the names of endpoints that its clusters wait for. ``parts`` are the bundles that it was put together
    from, if it was; ``size`` is what it holds of responses, in bytes.
    """

    __slots__ = ("_frames", "parts", "size", "warms")

    def __init__(self, resources: Mapping[str, Resource] | Iterable[tuple[str, Resource]] = ()) -> None:
        super().__init__(resources)
        self.warms = _NONE
        self.parts: tuple[Bundle, ...] = ()
        self.size = 0
        self._frames: dict[bool, tuple[bytes, ...]] = {}

    def frames(self, *, delta: bool) -> tuple[bytes, ...]:
        """The bytes of all resources in a response; they are the same objects for all streams."""
        if self.parts:
            return tuple(chain.from_iterable(part.frames(delta=delta) for part in self.parts))
        if delta not in self._frames:
            self._frames[delta] = made = frames(self.values(), delta=delta)
            self.size += sum(map(len, made)) if len(self) > FEW else 0
        return self._frames[delta]


def frames(resources: Collection[Resource], *, delta: bool) -> tuple[bytes, ...]:
    """The bytes of resources in a response: a few as they are, many as one."""
    found = map(_DELTA_FRAME if delta else _ANY_FRAME, resources)
    return tuple(found) if len(resources) <= FEW else (b"".join(found),)


T = TypeVar("T")
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
        alive = weak(layer) if len(layer if asked is None else asked) >= LARGE else None
        if alive is not None:
            self._kept[key] = (alive, asked, made)
            self._kept.move_to_end(key)
            self._forget()
        return made

    def _forget(self) -> None:
        """Make room for the newest: first without those whose layers are gone, which nobody will ask for."""
        for key in [key for key, (layer, _, _) in self._kept.items() if layer() is None]:
            del self._kept[key]
        held = sum(made.size for _, _, made in self._kept.values() if made is not None)
        while len(self._kept) > self._most or held > ROOM:
            _, (_, _, made) = self._kept.popitem(last=False)
            held -= made.size if made is not None else 0


def endpoints_of(clusters: Iterable[Resource]) -> frozenset[str]:
    """The names under which these clusters' endpoints would be asked for, if they are EDS clusters."""
    found: set[str] = set()
    for cluster in clusters:
        found |= cluster.refs.get(wire_names.ENDPOINT) or {cluster.name}
    return frozenset(found)


def weak(layer: T) -> weakref.ref[T] | None:
    """A weak reference; None where there can be none."""
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
    if type_url == wire_names.CLUSTER:
        made.warms = endpoints_of(made.values())
    return made


def _joined(parts: list[Bundle]) -> Bundle:
    if len(parts) == 1:
        return parts[0]
    made = Bundle()
    for part in parts:
        made.update(part)
    made.parts = tuple(parts)
    made.warms = _NONE.union(*(part.warms for part in parts))
    return made
