"""Whose turn it is to be read, when more clients have something to say than there is time for (fault FT13). Pure.

A thousand proxies that come at once would be read one after the other before anybody else is heard: probes, timers,
proxies that have long been there. So after a slice of time those who are left wait, first come, first served, and the
event loop goes round between two slices. Nobody is refused: all wait about as long as all together take.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Final

SLICE: Final = 0.02
"""Seconds of reading before all else has its turn."""


class Turns:
    """Those of one server. ``clock`` gives monotonic seconds; ``later`` calls once, when the loop went round."""

    def __init__(self, clock: Callable[[], float], later: Callable[[Callable[[], None]], object]) -> None:
        self._clock = clock
        self._later = later
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._asked = False
        self._since = clock()
        self._spent = 0.0

    def begin(self) -> float | None:
        """When reading begins, for ``spend``; None where the client has to ``wait``: others do, or time is over."""
        now = self._clock()
        if now >= self._since + 2 * max(SLICE, self._spent):  # there was as much time for all else
            self._since, self._spent = now, 0.0
        return now if not self._waiting and self._spent < SLICE else None

    def spend(self, began: float) -> None:
        """Somebody was read since then."""
        self._spent += self._clock() - began

    def wait(self, turn: Callable[[], None]) -> None:
        """Call ``turn`` when it is due."""
        self._waiting.append(turn)
        self._ask()

    def run(self) -> None:
        """A slice of those who wait."""
        self._asked = False
        end = self._clock() + SLICE
        try:
            while self._waiting:
                self._waiting.popleft()()
                if self._clock() >= end:
                    break
        finally:
            if self._waiting:
                self._ask()

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._later(self.run)
