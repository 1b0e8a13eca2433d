"""A process beside the event loop for bodies that take long to read: one at a time, started when first needed.

Parsing and checking hold Python's lock for as long as they take (a dense body of 6 MiB: half a second), so a thread
would not help: proxies would wait for their configuration.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final, TypeVar, TypeVarTuple

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

MOST_WAITING: Final = 16
"""Calls that may wait for the process; each holds its body in memory."""
SECONDS: Final = 9.0
"""How long a call may take: an API server asks with at most 10 s, unless told otherwise."""
IDLE_SECONDS: Final = 300.0


class BusyError(Exception):
    """The process has more to do than it can in time."""


class Worker:
    """Calls pure functions in the other process. ``close`` ends it."""

    def __init__(self, seconds: float = SECONDS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._waiting = 0
        self._pool: ProcessPoolExecutor | None = None
        self._ending: asyncio.TimerHandle | None = None

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """The function's result; it and its arguments must be such as pickle can send.

        Raises:
            BusyError: too many wait, it took too long, or the process died of it.
            Exception: whatever the function raises.
        """
        if self._waiting >= MOST_WAITING:
            raise BusyError("too many large bodies at once")
        self._waiting += 1
        try:
            future = self._started().submit(function, *args)
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except (TimeoutError, BrokenProcessPool) as error:
            self.close()
            raise BusyError("the body took too long") from error
        finally:
            self._waiting -= 1
            self._end_when_idle()

    def close(self) -> None:
        """End the process; a later call starts another."""
        pool, self._pool = self._pool, None
        if pool is not None:
            for process in (pool._processes or {}).values():  # noqa: SLF001 (shutdown alone waits for a hanging call)
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)

    def _started(self) -> ProcessPoolExecutor:
        if self._ending is not None:
            self._ending.cancel()
        if self._pool is None:
            # Not forked: gRPC's threads do not survive that.
            self._pool = ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))
        return self._pool

    def _end_when_idle(self) -> None:
        if self._waiting == 0 and self._pool is not None:
            self._ending = asyncio.get_running_loop().call_later(self._idle_seconds, self.close)
