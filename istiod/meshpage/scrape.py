"""Asks connected proxies what they counted, while somebody looks at the traffic, and only then.

Bounded in number, time and size: a proxy is its owner's, and may answer anything or nothing. It is asked at the address
that its connection comes from, never at one that it names.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from istiod.meshpage import samples, traffic
from istiod.meshpage.samples import Counted
from istiod.meshpage.traffic import Round

PERIOD: Final = 5.0
WINDOW: Final = 12
"""Rounds that count: a minute."""
PATIENCE: Final = 30.0
"""Seconds after the last look until nobody is asked any more."""
MOST_PROXIES: Final = 200
AT_ONCE: Final = 16
TIMEOUT: Final = 3.0
MOST_BYTES: Final = 8 * 1024 * 1024
_BLOCK: Final = 65_536
_OURS: Final = (b"istio_request", b"istio_tcp_")
_OK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A proxy: POD.NAMESPACE, the namespace that it proved, and where it gives its metrics (HOST:PORT)."""

    name: str
    namespace: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known now. ``asked`` of ``connected`` proxies were asked, ``failed`` of them did not answer, by name."""

    rounds: Sequence[Round] = ()
    total: Round = field(default_factory=lambda: Round(seconds=0, counted={}))
    """All rounds together."""
    asked: int = 0
    connected: int = 0
    failed: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Scraper:
    """``targets`` gives the proxies that are connected now; ``clock`` is monotonic, in seconds."""

    targets: Callable[[], Sequence[Target]]
    clock: Callable[[], float]
    period: float = PERIOD
    patience: float = PATIENCE
    _looked: float = 0.0
    _task: asyncio.Task[None] | None = None
    _before: dict[str, Counted] = field(default_factory=dict)
    _at: float | None = None
    _seen: Seen = field(default_factory=Seen)
    _total: Counted = field(default_factory=dict)
    _rounds: deque[Round] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def look(self) -> Seen:
        """What is known; somebody looks, so go on asking for a while."""
        self._looked = self.clock()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._follow())
        return self._seen

    async def close(self) -> None:
        """Ask nobody any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while self.clock() - self._looked < self.patience:
                await self._round(session)
                await asyncio.sleep(self.period)
        self._before, self._at, self._seen = {}, None, Seen()
        self._rounds.clear()
        self._total.clear()

    async def _round(self, session: aiohttp.ClientSession) -> None:
        connected = sorted(self.targets(), key=lambda each: each.name)
        asked = {each.address: each for each in connected[:MOST_PROXIES]}
        gate = asyncio.Semaphore(AT_ONCE)
        answers = await asyncio.gather(*(self._ask(session, each, gate) for each in asked.values()))
        now = {each.name: found for each, found in zip(asked.values(), answers, strict=True) if found is not None}
        moment = self.clock()
        if self._at is not None:
            grown = (traffic.grown(self._before[name], found) for name, found in now.items() if name in self._before)
            latest = Round(seconds=moment - self._at, counted=traffic.together(grown))
            oldest = self._rounds[0].counted if len(self._rounds) == WINDOW else {}
            traffic.moved(self._total, latest.counted, oldest)
            self._rounds.append(latest)
        self._before, self._at = now, moment
        self._seen = Seen(
            rounds=tuple(self._rounds),
            total=Round(seconds=sum(each.seconds for each in self._rounds), counted=self._total),
            asked=len(asked),
            connected=len(connected),
            failed=tuple(sorted(each.name for each in asked.values() if each.name not in now)),
        )

    async def _ask(self, session: aiohttp.ClientSession, target: Target, gate: asyncio.Semaphore) -> Counted | None:
        url = f"http://{target.address}/stats/prometheus"
        try:
            async with gate, session.get(url, allow_redirects=False) as answer:
                if answer.status != _OK:
                    return None
                lines = [line async for line in _lines(answer.content)]
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        found: Counted = {}
        for start in range(0, len(lines), _LINES):
            samples.add(found, lines[start : start + _LINES], target.namespace)
            await asyncio.sleep(0)  # proxies are to be served meanwhile
        return found


_LINES: Final = 500
"""Lines that are read at a stretch: a few milliseconds."""


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines of ours; what comes after ``MOST_BYTES`` is left out."""
    rest, size = b"", 0
    async for block in content.iter_chunked(_BLOCK):
        size += len(block)
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            if line.startswith(_OURS):
                yield line
        if size > MOST_BYTES:
            return
