"""A thread for work that would stop the event loop, one piece after the other (fault FT21).

A mesh with an object of a megabyte takes seconds to build. In a thread it takes as long, but Python's lock goes round
between it and the loop, so that everybody else is served meanwhile. What the work touches is its own until it is over:
whoever needs the same holds ``lock``. What is worth a thread is left to others (istiod.pipeline, istiod.watch).
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

SWITCH: Final = 0.001
"""Seconds after which a thread that computes lets the loop have Python's lock, for ``sys.setswitchinterval``. Each call
of the loop that gives the lock away (a socket's) may have to wait so long to go on, so Python's own 5 ms add up."""
SLICE: Final = 0.01
"""Seconds of the loop that work in slices takes before all else has its turn."""
MANY: Final = 200_000
"""So many objects more than before a piece of work made what stays: see ``_collected``."""
_T = TypeVar("_T")


class Apart:
    """One thread, and the lock of what it works on."""

    def __init__(self, name: str) -> None:
        self.lock = asyncio.Lock()
        self._threads = ThreadPoolExecutor(1, name)

    @property
    def busy(self) -> bool:
        """Whether somebody holds the lock."""
        return self.lock.locked()

    async def run(self, work: Callable[[], _T]) -> _T:
        """What ``work`` gives, out of the thread. The caller holds the lock.

        Where the caller is cancelled, it hears so only when the work is over: nobody may touch what it works on before.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, _collected, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait((future,))
            raise


def _collected(work: Callable[[], _T]) -> _T:
    """Run it without the garbage collector, which holds Python's lock while it looks through all that is new.

    What much was made of stays, as what was there at the start does (app.py): it is looked through no more. What is
    replaced is freed by its reference count.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return work()
    finally:
        if gc.get_count()[0] > MANY:
            gc.freeze()
        if enabled:
            gc.enable()


async def sliced(steps: Iterable[None], clock: Callable[[], float]) -> None:
    """Go through ``steps`` on the loop; after each SLICE of ``clock``'s seconds all else has its turn."""
    end = clock() + SLICE
    for _ in steps:
        if clock() >= end:
            await asyncio.sleep(0)
            end = clock() + SLICE
