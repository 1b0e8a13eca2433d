"""A port of the host that leads into the mesh: a small TCP forwarder, so that no rule of the host changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from node.network import Inside

_CHUNK = 65536


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, until its end; then the other side is told so."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


class Forwarder:
    """Listens on the host's loopback; each connection goes to ``target()`` (address, port) inside."""

    def __init__(self, inside: Inside, target: Callable[[], tuple[str, int]]) -> None:
        """``target`` is asked for each connection; it may raise OSError to refuse."""
        self._inside = inside
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, port: int, address: str = "127.0.0.1") -> None:
        """Listen; port 0 takes a free one, which is then in ``port``.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._accept, address, port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # `close` cancels; asyncio would log that
                connection = await self._inside.connect(*self._target())
                inner_reader, inner_writer = await asyncio.open_connection(sock=connection)
                try:
                    await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
                finally:
                    inner_writer.close()
        finally:
            writer.close()

    async def close(self) -> None:
        """Stop listening and end open connections."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
