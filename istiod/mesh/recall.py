"""Remembers what was made from what, so that a change costs what it touches (DESIGN section 2).

Inputs are compared with ``is``: parts of the model that did not change are the same objects, and an entry keeps its
inputs alive, so that an id cannot come to mean another object. Forgetting everything would change no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

T = TypeVar("T")

Inputs = tuple[object, ...]

SLACK: Final = 500
"""So many values may come on top of twice as many as the last sweep left: those of what went, at most (fault FT57)."""


class _Entry:
    __slots__ = ("generation", "inputs", "value")

    def __init__(self, inputs: Inputs, value: Any, generation: int) -> None:
        self.inputs = inputs
        self.value = value
        self.generation = generation


class Recall:
    """Values by name and inputs.

    What is made of one host (``of``) is small and stays until there is much of it: it may be right again later, and is
    not asked for while that stands which was made of it. What is made of many hosts (``of_many``) is large and goes
    when a model did not ask for it. What is made of a proxy (``of_each``) is the newest of its pod's only, as pods and
    streams come and go while a model stays.
    """

    __slots__ = ("_asked", "_before", "_each", "_generation", "_large", "_seen", "_small", "_swept_at", "_swept_size")

    def __init__(self) -> None:
        self._small: dict[tuple[object, ...], _Entry] = {}
        self._large: dict[tuple[object, ...], _Entry] = {}
        self._each: dict[tuple[Hashable, Hashable], _Entry] = {}
        self._seen = self._before = 0
        self._generation = 0
        self._asked = False
        self._swept_at = -1
        self._swept_size = 0

    def of(self, name: Hashable, inputs: Inputs, make: Callable[[], T]) -> T:
        """The value of these inputs: the one made before, else what ``make`` gives now.

        Args:
            name: what kind of value it is, with everything that counts by equality (namespaces, ports).
            inputs: everything else that the value depends on; counts by identity.
            make: called without arguments when there is no such value yet.
        """
        return self._of(self._small, name, inputs, make)

    def of_many(self, name: Hashable, inputs: Inputs, make: Callable[[], T]) -> T:
        """As ``of``, for large values."""
        return self._of(self._large, name, inputs, make)

    def of_each(self, name: Hashable, who: Hashable, inputs: Inputs, make: Callable[[], T]) -> T:
        """As ``of``, of one of many that come and go: of ``who`` no more than the newest value is kept."""
        key = (name, who)
        entry = self._each.get(key)
        if entry is None or not _same(entry.inputs, inputs):
            if len(self._each) > 2 * self._before + SLACK:
                self._each.clear()
            entry = self._each[key] = _Entry(inputs, make(), -1)
        if entry.generation != self._generation:
            entry.generation = self._generation
            self._seen += 1
        self._asked = True
        value: T = entry.value
        return value

    def _of(self, known: dict[tuple[object, ...], _Entry], name: Hashable, inputs: Inputs, make: Callable[[], T]) -> T:
        key = (name, *map(id, inputs))
        entry = known.get(key)
        if entry is None:
            entry = known[key] = _Entry(inputs, make(), self._generation)
        entry.generation = self._generation
        self._asked = True
        value: T = entry.value
        return value

    def next(self) -> Recall:
        """The memory for the next model, without what is not worth keeping; unused, it is what it was."""
        if not self._asked:
            return self
        self._large = {key: one for key, one in self._large.items() if one.generation == self._generation}
        self._each = {key: one for key, one in self._each.items() if one.generation == self._generation}
        self._before, self._seen = self._seen, 0
        if len(self._small) > 2 * self._swept_size + SLACK:
            self._sweep()
        self._generation += 1
        self._asked = False
        return self

    def _sweep(self) -> None:
        """Forget what nobody asked for in the later half of the time since the sweep before.

        All that was made in the whole of that time would be as much as the last sweep left and SLACK, on top of what is
        needed: each sweep would leave more than the one before, for ever.
        """
        since = (self._swept_at + self._generation) // 2
        self._small = {key: one for key, one in self._small.items() if one.generation >= since}
        self._swept_at, self._swept_size = self._generation, len(self._small)


def _same(some: Inputs, others: Inputs) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
