"""Values by a name that several have: of a namespace, a host, a gateway. Their order stays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, tuple[T, ...]]:
    """The values of each name, in the order in which they came."""
    groups: dict[str, list[T]] = {}
    for name, one in pairs:
        groups.setdefault(name, []).append(one)
    return {name: tuple(group) for name, group in groups.items()}
