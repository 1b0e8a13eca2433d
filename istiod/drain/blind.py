"""Sends proxies to another replica when this one has not heard of the API server for long and the other has (FT47).

It must never make things worse. So nothing is done on this replica's own word: only while another replica, to which
the Service leads as well, answers that it is up to date and takes proxies. Where all are blind, or the others do not
answer, all go on serving what they know. When that is no longer so, this replica is as any other again: at once where
the API server answers, at the second look where no other does, since one answer may be late.

A replica that sends proxies away is not ready, so that the Service leads nobody to it, and after a while for that to be
known it ends some of its streams every few seconds, by chance: nobody who comes back all the same is sent away at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

from istiod.grpcserver.stream import Client
from wire import exposition
from wire.exposition import Family

PERIOD: Final = 5.0
"""Seconds between two looks, and between two lots of streams that end."""
FRESH: Final = 0.5
"""How old another may be to be up to date, as part of the limit: two that were cut off one after the other stay."""
NOTICE: Final = 15.0
"""Seconds from being not ready to the first streams that end: three probes, and the way to the nodes."""
SHARE: Final = 1 / 6
"""Part of the streams that ends in one period: half a minute for each, on average."""
RETURNS: Final = 50.0
"""Streams that end in a second at most: the other replica has to take them."""
LOOKS: Final = 2
"""Looks in a row that have to find no other up to date."""
_CHANCE: Final = random.SystemRandom()
_LOGGER: Final = logging.getLogger(__name__)


class _Server(Protocol):
    """Of istiod.grpcserver.server.Server."""

    def clients(self) -> tuple[Client, ...]:
        """Those that have a call open."""
        ...

    def hasten(self, stale: Callable[[Client], bool], within: float) -> None:
        """Make clients connect anew within so many seconds."""
        ...


class Blind:
    """Whether this replica sends its proxies to others. ``age`` of what it knows, ``limit`` (0: never), in seconds."""

    def __init__(
        self, age: Callable[[], float], limit: float, clock: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        self._age = age
        self._limit = limit
        self._clock = clock
        self._say = say
        self._since: float | None = None
        self._misses = 0

    async def run(self, youngest: Callable[[], Awaitable[float]], server: _Server) -> None:
        """Look until cancelled. ``youngest`` gives the least age that another replica tells."""
        while True:
            await self.look(youngest)
            if self._since is not None and self._misses == 0 and self._clock() >= self._since + NOTICE:
                _end_some(server)
            await asyncio.sleep(PERIOD)

    async def look(self, youngest: Callable[[], Awaitable[float]]) -> None:
        """Decide."""
        if not self._old:
            self._misses = 0
            self._stay("the API server answers again")
            return
        self._misses = 0 if await _age(youngest) <= self._limit * FRESH else self._misses + 1
        if self._misses >= LOOKS:
            self._stay("no other replica is up to date, so this one serves what it knows")
        elif self._misses == 0 and self._old and self._since is None:  # it may have been heard of meanwhile
            self._since = self._clock()
            silent = f"{self._age():.0f} s"
            self._say(
                f"istiod: the API server, silent here for {silent}, answers another replica: proxies are sent there"
            )

    def waiting(self) -> tuple[str, ...]:
        """Why this replica is not ready, if it is not for this reason."""
        if self._since is None:
            return ()
        return ("the API server: silent here, while it answers another replica",)

    def families(self) -> Iterator[Family]:
        """For /metrics."""
        text = "Whether proxies are sent to another replica, which is up to date where this one is not."
        yield exposition.of("pilot_source_sends_away", "gauge", text, float(self._since is not None))

    @property
    def _old(self) -> bool:
        return 0 < self._limit <= self._age()

    def _stay(self, reason: str) -> None:
        if self._since is not None:
            self._since = None
            self._say(f"istiod: ready for proxies again: {reason}")


async def _age(youngest: Callable[[], Awaitable[float]]) -> float:
    try:
        return await youngest()
    except Exception:  # whatever keeps us from asking: nobody is known to take our proxies, so they stay
        _LOGGER.exception("the other replicas cannot be asked how old what they know is")
        return math.inf


def _end_some(server: _Server) -> None:
    share = min(SHARE, RETURNS * PERIOD / max(1, len(server.clients())))
    server.hasten(lambda _: _CHANCE.random() < share, PERIOD)
