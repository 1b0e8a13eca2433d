"""When the next push may be: how long to rest after one, and how long until one that failed is made again. Pure."""

from __future__ import annotations

import math
from typing import Final

LONGEST_REST: Final = 0.1
INTERVAL: Final = 0.1
"""Seconds between pushes in the long run: endpoints may flap a hundred times a second for hours (fault FT23)."""
BURST: Final = 3
"""Pushes that may follow each other sooner: what a person or a rollout changes goes out at once."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
_DOUBLINGS: Final = 6
"""After so many it is the longest."""


class Pace:
    """When the next push may be: ``BURST`` at once, then one in each ``INTERVAL`` (GCRA, ITU-T I.371). In seconds."""

    def __init__(self) -> None:
        self._earned = -math.inf

    def rest(self, started: float, now: float) -> float:
        """How long to rest after a push."""
        self._earned = max(self._earned, started) + INTERVAL
        return max(0.0, min((now - started) / 2, LONGEST_REST), self._earned - (BURST - 1) * INTERVAL - now)


class Again:
    """How long until a push is made again of which something failed, although nothing changed: each time twice as long.

    A bug fails again, so this must cost little; what failed for want of memory or of time may come.
    """

    def __init__(self) -> None:
        self._failures = 0

    def after(self, *, whole: bool) -> float | None:
        """Seconds from a push to the next in any case; None where it was made as a whole."""
        if whole:
            self._failures = 0
            return None
        self._failures += 1
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, _DOUBLINGS))
