"""No request of a leader goes out once its Lease is over (faults FT49, FT50), however long it was on its way before.

A process may be stopped anywhere: between the look at the Lease and the first byte lie waits for credentials and for a
connection. So the last look is where a request has its connection, and nothing waits any more before its bytes are
written: what is left is the time of some Python lines. What a stop in just these lines lets through loses by the
version that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import aiohttp
from aiohttp.connector import Connection

Holds = Callable[[], bool]
_HOLDS: Final[ContextVar[Holds | None]] = ContextVar("holds", default=None)


class FencedError(Exception):
    """The request was not sent: whoever sends it may not write any more."""


@contextmanager
def fenced(holds: Holds) -> Iterator[None]:
    """Requests of this task that begin in the block are sent only while ``holds`` says yes."""
    token = _HOLDS.set(holds)
    try:
        yield
    finally:
        _HOLDS.reset(token)


class Request(aiohttp.ClientRequest):
    """What sessions make of each request."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write it to a connection.

        Raises:
            FencedError: the block around it forbids it.
        """
        holds = _HOLDS.get()
        if holds is not None and not holds():
            raise FencedError(f"{self.method} {self.url.path}: the Lease is over")
        return await super().send(conn)
