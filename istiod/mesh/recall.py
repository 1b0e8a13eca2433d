"""Remembers what was made from what, so that a change costs what it touches (DESIGN section 2).

Inputs are compared with ``is``: parts of the model that did not change are the same objects, and an entry keeps its
inputs alive, so that an id cannot come to mean another object. Forgetting everything would change no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

Inputs = tuple[object, ...]


class Recall:
    """Values by name and inputs, for two generations: what one did not ask for, the next has forgotten."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._before: dict[tuple[object, ...], tuple[Inputs, Any]] = {}
        self._now: dict[tuple[object, ...], tuple[Inputs, Any]] = {}

    def of(self, name: Hashable, inputs: Inputs, make: Callable[[], T]) -> T:
        """The value of these inputs: the one made before, else what ``make`` gives now.

        Args:
            name: what kind of value it is, with everything that counts by equality (namespaces, ports).
            inputs: everything else that the value depends on; counts by identity.
            make: called without arguments when there is no such value yet.
        """
        key = (name, *map(id, inputs))
        entry = self._now.get(key) or self._before.get(key)
        if entry is None:
            entry = (inputs, make())
        self._now[key] = entry
        value: T = entry[1]
        return value

    def next(self) -> Recall:
        """The memory for the next model; an unused one passes on what it was given."""
        found = Recall()
        found._before = self._now or self._before
        return found
