"""Whose turn it is to be read, when more clients have something to say than there is time for (fault FT13).

A thousand proxies that come at once would be read one after the other before anybody else is heard: probes, timers,
proxies that have long been there. So after a slice of time those who are left wait, first come, first served, and the
event loop goes round between two slices. Nobody is refused: all wait about as long as all together take. Who waits
takes turns with others, not with its own: a crowd that floods from one address has one turn where others have theirs.
While those that are served are waiting for something, the others have a part of the time only: a push takes as many
rounds of the loop as ever, and a flood may not make each of them long.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Hashable
from typing import Final

SLICE: Final = 0.004
"""Seconds of reading before all else has its turn: a push goes several times round the loop before it is told."""
HURRIED: Final = 0.001
"""The same while those that are served wait for something."""
REST: Final = 3.0
"""How many times as long all else has its turn then."""
LONGEST_REST: Final = 0.02
"""Seconds of that at most: a slice may be long since the machine did something else meanwhile."""

Later = Callable[[Callable[[], None], float], object]
"""Calls once, when the event loop went round, and so many seconds are over."""


def of_loop(run: Callable[[], None], delay: float) -> None:
    """A ``Later`` of the running event loop."""
    loop = asyncio.get_running_loop()
    if delay:
        loop.call_later(delay, run)
    else:
        loop.call_soon(run)


class Turns:
    """Those of one server. ``clock`` gives monotonic seconds; ``hurried``: whether those that are served wait."""

    def __init__(self, clock: Callable[[], float], later: Later, hurried: Callable[[], bool] = lambda: False) -> None:
        self._clock = clock
        self._later = later
        self._hurried = hurried
        self._waiting: collections.OrderedDict[Hashable, collections.deque[Callable[[], None]]] = (
            collections.OrderedDict()
        )
        self._asked = False
        self._since = clock()
        self._spent = 0.0

    def begin(self, *, served: bool = False) -> float | None:
        """When reading begins, for ``spend``; None where the client has to ``wait``: others do, or time is over.

        Who is ``served`` waits only for its time.
        """
        now = self._clock()
        if now >= self._since + 2 * max(SLICE, self._spent):  # there was as much time for all else
            self._since, self._spent = now, 0.0
        ahead = served or not (self._waiting or self._hurried())
        return now if ahead and self._spent < SLICE else None

    def spend(self, began: float) -> None:
        """Somebody was read since then."""
        self._spent += self._clock() - began

    def wait(self, turn: Callable[[], None], who: Hashable) -> None:
        """Call ``turn`` when it is due: after what ``who`` asked for before, and in turn with all others."""
        self._waiting.setdefault(who, collections.deque()).append(turn)
        self._ask()

    def run(self) -> None:
        """A slice of those who wait."""
        self._asked = False
        hurried, began = self._hurried(), self._clock()
        end = began + (HURRIED if hurried else SLICE)
        try:
            while self._waiting:
                self._next()()
                if self._clock() >= end:
                    break
        finally:
            if self._waiting:
                self._ask(min(LONGEST_REST, REST * (self._clock() - began)) if hurried else 0.0)

    def _next(self) -> Callable[[], None]:
        """The first of whoever waits longest, who goes behind all others with the rest."""
        who, turns = self._waiting.popitem(last=False)
        turn = turns.popleft()
        if turns:
            self._waiting[who] = turns
        return turn

    def _ask(self, delay: float = 0.0) -> None:
        if not self._asked:
            self._asked = True
            self._later(self.run, delay)
