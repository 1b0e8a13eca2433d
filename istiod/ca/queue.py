"""Who waits for a signature: first come, first served, a signature at a time, and not too many (fault FT38).

A signature holds the event loop for about half a millisecond. Between two of them everything else has its turn, so that
thousands of CSRs, as when a node is drained, do not hold up configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from istiod.grpcserver.status import Code, RpcError

MOST: Final = 5_000
"""CSRs that may wait: some ten seconds of work, as long as a caller waits."""


class Queue:
    """One line of callers."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one's turn.

        Raises:
            RpcError: UNAVAILABLE; too many wait, and the caller is to come again.
        """
        if self._waiting >= MOST:
            raise RpcError(Code.UNAVAILABLE, f"{MOST} requests for certificates wait already; try again in 10 s")
        self._waiting += 1
        try:
            async with self._lock:
                yield
                await asyncio.sleep(0)  # whoever else has something to do comes first
        finally:
            self._waiting -= 1
