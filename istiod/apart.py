"""A thread for work that would stop the event loop, one piece after the other (fault FT21).

A mesh with an object of a megabyte takes seconds to build. In a thread it takes as long, but Python's lock goes round
between it and the loop, so that everybody else is served meanwhile. What the work touches is its own until it is over:
whoever needs the same holds ``lock``. What is worth a thread is left to others (istiod.pipeline, istiod.watch).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

SWITCH: Final = 0.001
"""Seconds after which a thread that computes lets the loop have Python's lock, for ``sys.setswitchinterval``. Each call
of the loop that gives the lock away (a socket's) may have to wait so long to go on, so Python's own 5 ms add up."""
SLICE: Final = 0.01
"""Seconds of the loop that work in slices takes before all else has its turn."""
MANY: Final = 500_000
"""Objects that a piece of work may leave to the garbage collector: it walks through so many in a fifth of a second."""
_NEVER: Final = 1_000_000_000
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

        Where the caller is cancelled, once or again, it hears so only when the work is over: nobody may touch what it
        works on before.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, _collected, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((future,))
            raise


async def beside(work: Callable[[], _T]) -> _T:
    """What ``work`` gives, out of any thread: it touches nothing that anybody else may touch."""
    return await asyncio.to_thread(_collected, work)


class _Young:
    """While somebody works the garbage collector looks at the youngest objects only, which takes some 15 ms.

    It holds Python's lock as long as it looks, and of all that a large mesh is made of that is seconds. What much was
    made of stays, as what was there at the start does (app.py): it is looked through no more, and freed by its
    reference count when it is replaced.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working = 0
        self._usual = gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            if not self._working:
                self._usual = gc.get_threshold()
                gc.set_threshold(self._usual[0], _NEVER, _NEVER)
            self._working += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._working -= 1
            if gc.get_count()[1] * self._usual[0] > MANY:
                gc.freeze()
            if not self._working:
                gc.set_threshold(*self._usual)


_YOUNG: Final = _Young()


def _collected(work: Callable[[], _T]) -> _T:
    with _YOUNG:
        return work()


async def sliced(steps: Iterable[None], clock: Callable[[], float]) -> None:
    """Go through ``steps`` on the loop; after each SLICE of ``clock``'s seconds all else has its turn."""
    end = clock() + SLICE
    for _ in steps:
        if clock() >= end:
            await asyncio.sleep(0)
            end = clock() + SLICE
