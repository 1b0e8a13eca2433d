"""A connection under a local name, for clients that cannot choose the address that they come from, as gRPC's cannot.

The name is an abstract one (unix(7)): the pod's file system may be read-only.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Final

_READ_BYTES: Final = 65_536


@contextlib.asynccontextmanager
async def named(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[str]:
    """The abstract socket at which this connection can be had, once; both are closed at the end."""

    async def connected(theirs: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        await asyncio.gather(_pass_on(theirs, writer), _pass_on(reader, answers))

    name = secrets.token_hex(16)
    server = await asyncio.start_unix_server(connected, f"\0{name}")
    try:
        yield name
    finally:
        server.close()
        writer.close()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # either side may leave at any time, and the other learns it by the close
        while chunk := await source.read(_READ_BYTES):
            sink.write(chunk)
            await sink.drain()
    sink.close()
