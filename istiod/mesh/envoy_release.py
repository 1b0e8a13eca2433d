"""Which Envoys are told apart: what a proxy says of its Envoy's version, as the release whose API it is taken to know.

Tests run against one Envoy of each release here; a version between two of them gets what the older one takes. One that
says nothing (no Envoy does that) gets everything, as does one that is newer than all. What each knows is istiod.envoy's
(since.py).
"""

from __future__ import annotations

from enum import IntEnum

from wire.node import Node


class Release(IntEnum):
    """Envoy 1.x, by x."""

    V1_36 = 36
    V1_38 = 38
    CURRENT = 40

    def __str__(self) -> str:
        return f"1.{self.value}"


OLDEST = Release.V1_36
"""Older ones get what this one takes, which is a guess."""
_MAJOR = 1


def of(node: Node) -> Release:
    """The release that a proxy's configuration is made for."""
    if not node.envoy:
        return Release.CURRENT
    if node.envoy[0] != _MAJOR:
        return Release.CURRENT if node.envoy[0] > _MAJOR else OLDEST
    return max((each for each in Release if each <= node.envoy[1]), default=OLDEST)


def is_untried(node: Node) -> bool:
    """Whether it is older than what is tested."""
    return bool(node.envoy) and node.envoy[:2] < (_MAJOR, OLDEST)
