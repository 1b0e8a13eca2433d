"""Steady load over kept connections, and every request that failed, with its time.

The test uses Load in its own process, to come through the gateway; in a pod it runs as `python -m tests.story.load
[--rate=N] NAME=URL ...` and tells in its log what happens: ``ok COUNT`` a few times a second, ``FAIL ...`` for each
failure.
A way to ask is an async function that gives "" or what was wrong, so HTTP/2, gRPC and TCP are further functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import aiohttp

Ask = Callable[[], Awaitable[str]]
PAUSE = 0.02
"""Seconds between a worker's answer and its next request."""
TOLD = 0.25
"""Seconds between two counts in the log."""
LIMIT = 15.0
LATE = 0.1


def clock(moment: float) -> str:
    """A time.time() as access logs write it."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%H:%M:%S.%f")[:-3]


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that went wrong, and when (as time.time())."""

    moment: float
    name: str
    what: str

    def __str__(self) -> str:
        return f"{clock(self.moment)} {self.name}: {self.what}"


@dataclass(slots=True)
class Load:
    """Workers, ``each`` of them per way to ask, each with one request after the other."""

    asks: dict[str, Ask]
    each: int = 2
    pause: float = PAUSE
    ok: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    rate: float = 0.0
    """Requests in a second, each at its own time whether or not earlier ones were answered (aiohttp has a hundred under
    way at most, more wait their turn); 0: workers ask instead."""
    late: int = 0
    """Requests that were due more than a tenth of a second before they were made: the machine had no more to give."""
    _over: bool = False

    @property
    def total(self) -> int:
        """All answers."""
        return self.ok.total() + len(self.failures)

    async def run(self) -> None:
        """Ask until ``stop`` is called; the requests under way are finished."""
        async with asyncio.TaskGroup() as workers:
            if self.rate:
                await self._in_time(workers)
                return
            for name, ask in self.asks.items():
                for _ in range(self.each):
                    workers.create_task(self._work(name, ask))

    def stop(self) -> None:
        """Let ``run`` end."""
        self._over = True

    async def _in_time(self, workers: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        due, names = loop.time(), itertools.cycle(self.asks)
        while not self._over:
            due += 1 / self.rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.late += loop.time() - due > LATE
            name = next(names)
            workers.create_task(self._once(name, self.asks[name]))

    async def _once(self, name: str, ask: Ask) -> None:
        if wrong := await ask():
            self.failures.append(Failure(time.time(), name, wrong))
        else:
            self.ok[name] += 1

    async def _work(self, name: str, ask: Ask) -> None:
        while not self._over:
            await self._once(name, ask)
            await asyncio.sleep(self.pause)


@contextlib.asynccontextmanager
async def running(load: Load) -> AsyncIterator[Load]:
    """The load beside a body."""
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop()
        await task


def http(session: aiohttp.ClientSession, url: str) -> Ask:
    """GET a URL with status 200, as one of a few users."""
    users = iter(range(sys.maxsize))

    async def ask() -> str:
        try:
            async with session.get(url, headers={"x-user": f"user-{next(users) % 4}"}) as response:
                text = await response.text()
                return "" if response.ok else f"{response.status} {text[:200]}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"

    return ask


@contextlib.asynccontextmanager
async def over_http(urls: Iterable[tuple[str, str]]) -> AsyncIterator[Load]:
    """A load that asks these named URLs over kept HTTP/1.1 connections."""
    timeout = aiohttp.ClientTimeout(total=LIMIT)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Load({name: http(session, url) for name, url in urls})


async def tell(load: Load) -> None:
    """Print counts and failures for ever."""
    told = 0
    while True:
        await asyncio.sleep(TOLD)
        for failure in load.failures[told:]:
            print("FAIL", failure)  # noqa: T201 (the log is this program's answer)
        told = len(load.failures)
        print("ok", load.ok.total())  # noqa: T201 (as above)
        if load.rate:
            print("late", load.late)  # noqa: T201 (as above)


async def main(arguments: Iterable[str]) -> None:
    """Ask until the process is ended."""
    pairs = [argument.partition("=") for argument in arguments]
    rate = sum(float(value) for name, _, value in pairs if name == "--rate")
    urls = ((name, url) for name, _, url in pairs if name != "--rate")
    async with over_http(urls) as load, asyncio.TaskGroup() as tasks:
        load.rate = rate
        tasks.create_task(tell(load))
        tasks.create_task(load.run())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
