"""The loop that all writers share: wait for a change, see that we lead, write what differs.

Level-triggered: each step compares all wishes with all that is there, so a lost event or a failed write is made good by
the next step. The Lease is asked between any two writes, and once more before the first byte of each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from istiod.config.kubernetes import CONFLICT, NOT_FOUND, ApiError
from istiod.kube import fence
from istiod.kube.lease import Leader

PERIOD: Final = 2.0
"""Seconds after which a step is taken without an event: leadership comes without one."""
LONGEST: Final = 30.0
Write = Callable[[], Awaitable[object]]


class Writer:
    """Calls ``step`` for the writes that are due, and makes them while ``leader`` holds."""

    def __init__(self, leader: Leader, step: Callable[[], Iterable[Write]], gather: float = 0.0) -> None:
        """``gather``: seconds from an event to its step, in which further ones join."""
        self._leader = leader
        self._step = step
        self._gather = gather
        self._wake = asyncio.Event()
        self.problem: ApiError | None = None

    def wake(self) -> None:
        """Something changed."""
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(PERIOD):
                    await self._wake.wait()
                await asyncio.sleep(self._gather)
            except TimeoutError:
                pass
            self._wake.clear()
            failures = 0 if await self._write() else failures + 1
            if failures:
                await asyncio.sleep(min(LONGEST, 0.5 * 2 ** min(failures, 10)))
                self._wake.set()

    async def _write(self) -> bool:
        """Make what is due; whether nothing failed. One write that fails does not keep the others back."""
        fine = True
        problem = None
        for write in self._step() if self._leader.holds else ():
            if not self._leader.holds:
                break
            try:
                with fence.fenced(lambda: self._leader.holds):
                    await write()
            except fence.FencedError:
                break  # what is left is the next leader's
            except ApiError as error:
                if error.status in (CONFLICT, NOT_FOUND):  # the object is another one by now: its event will come
                    continue
                fine, problem = False, error
        self.problem = problem
        return fine
