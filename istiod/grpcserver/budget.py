"""What a client may make us do for nothing: a bucket that empties with each such frame and fills again with time.

The floods of HTTP/2 (PING, SETTINGS, RST_STREAM, empty frames, one-byte windows: CVE-2019-9511 to 9518, CVE-2023-44487)
differ from honest use in their rate only (hostile-input SEC26).
"""

from __future__ import annotations

from typing import Final

VAIN: Final = 8
"""Calls that may come to nothing at once before their connection yields."""


class Budget:
    """``burst`` at once, ``rate`` per second from then on. Times are monotonic seconds."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._at = now

    def spend(self, now: float) -> bool:
        """Take one; False if there is none."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        self._left -= 1
        return self._left >= 0

    def earn(self, count: float) -> None:
        """Give some back: what is asked for in answer to something of ours."""
        self._left = min(self._burst, self._left + count)


class Allowances:
    """What one connection may do: ``frames`` that cost it nothing, ``calls`` that it begins and ``resets`` of these.

    More than these end the connection. ``vain`` are calls that came to nothing, refused or given up: who has more of
    them yields to others.
    """

    __slots__ = ("calls", "frames", "resets", "vain")

    def __init__(self, now: float) -> None:
        self.frames = Budget(1_000, 100, now)
        self.calls = Budget(200, 20, now)
        self.resets = Budget(100, 5, now)
        self.vain = Budget(VAIN, 1, now)
