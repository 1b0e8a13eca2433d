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
from functools import partial
from typing import Final

SLICE: Final = 0.004
"""Seconds of reading before all else has its turn: a push goes several times round the loop before it is told."""
HURRIED: Final = 0.001
"""The same while those that are served wait for something."""
REST: Final = 3.0
"""How many times as long all else has its turn then."""
EASE: Final = 1.0
"""The same when nobody hurries: a change from elsewhere goes round the loop a dozen times before it is known as one."""
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


_Line = collections.OrderedDict[Hashable, collections.deque[Callable[[], None]]]


class Turns:
    """Those of one server. ``clock`` gives monotonic seconds; ``hurried``: whether those that are served wait."""

    def __init__(self, clock: Callable[[], float], later: Later, hurried: Callable[[], bool] = lambda: False) -> None:
        self._clock = clock
        self._later = later
        self._hurried = hurried
        self._served: _Line = collections.OrderedDict()
        self._others: _Line = collections.OrderedDict()
        self._running = False
        self._due: float | None = None
        self._call = 0
        self._rested = self._since = clock()
        self._spent = 0.0

    def begin(self, *, served: bool = False) -> float | None:
        """When reading begins, for ``spend``; None where the client has to ``wait``: others do, or time is over.

        Who is ``served`` waits only for its time.
        """
        now = self._clock()
        if now >= self._since + 2 * max(SLICE, self._spent):  # there was as much time for all else
            self._since, self._spent = now, 0.0
        ahead = served or not (self._others or self._hurried())
        return now if ahead and self._spent < SLICE else None

    def spend(self, began: float) -> None:
        """Somebody was read since then."""
        self._spent += self._clock() - began

    def wait(self, turn: Callable[[], None], who: Hashable, *, served: bool = False) -> None:
        """Call ``turn`` when it is due: after what ``who`` asked for before, and in turn with all others.

        Those that are ``served`` go first, and rest for nobody: what they say is what a push waits for.
        """
        line = self._served if served else self._others
        line.setdefault(who, collections.deque()).append(turn)
        self._ask()

    def run(self) -> None:
        """A slice of the served who wait, and one of the others, unless these have to rest."""
        self._running, self._due = True, None
        try:
            self._take(self._served, SLICE)
            began = self._clock()
            if began >= self._rested:
                hurried = self._hurried()
                try:
                    self._take(self._others, HURRIED if hurried or self._served else SLICE)
                finally:
                    now = self._clock()
                    rest = (REST if hurried else EASE) * (now - began) if hurried or self._others else 0.0
                    self._rested = now + min(LONGEST_REST, rest)
        finally:
            self._running = False
            self._ask()

    def _take(self, line: _Line, time: float) -> None:
        """So many seconds of a line: each time the first of whoever waits longest, who goes behind all others then."""
        end = self._clock() + time
        while line:
            who, turns = line.popitem(last=False)
            turn = turns.popleft()
            if turns:
                line[who] = turns
            turn()
            if self._clock() >= end:
                break

    def _ask(self) -> None:
        """Have a slice run: at once, or when the others have rested."""
        if self._running or not (self._served or self._others):
            return
        now = self._clock()
        at = now if self._served else max(now, self._rested)
        if self._due is None or at < self._due:
            self._due = at
            self._call += 1
            self._later(partial(self._called, self._call), at - now)

    def _called(self, call: int) -> None:
        if call == self._call:  # one that was asked for later was overtaken
            self.run()
