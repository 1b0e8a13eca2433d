"""Asks the pod's name servers what the mesh does not know, byte for byte (row C12).

A query goes on by the protocol by which it came, so that a truncated answer makes the client come again by TCP. A
server that is not there, or does not answer in time, hands the query to the next one.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from agent.dns.resolvconf import PORT

SECONDS: Final = 2.0
"""How long one server may take."""
_MOST: Final = 1000
"""So many queries may wait at once; more fail at once."""
_ID: Final = 2  # bytes, at the start of a message
_HEAD: Final = 12
_RESPONSE: Final = 0x80


class UpstreamError(Exception):
    """No server has answered."""


class Upstream:
    """The name servers of a pod. ``parallel`` asks all at once and takes the first answer."""

    def __init__(self, servers: Sequence[str], *, parallel: bool = False, port: int = PORT) -> None:
        self._servers = tuple((server, port) for server in servers)
        self._parallel = parallel
        self._waiting = 0

    async def ask(self, query: bytes, *, stream: bool) -> bytes:
        """The answer to a query.

        Raises:
            UpstreamError: there is none.
        """
        if self._waiting >= _MOST:
            raise UpstreamError("too many queries are waiting for their answers")
        self._waiting += 1
        try:
            if self._parallel:
                return await self._first(query, stream=stream)
            return await self._in_turn(query, stream=stream)
        finally:
            self._waiting -= 1

    async def _in_turn(self, query: bytes, *, stream: bool) -> bytes:
        problem = "there is no name server"
        for server in self._servers:
            try:
                return await _one(server, query, stream=stream)
            except UpstreamError as error:
                problem = str(error)
        raise UpstreamError(problem)

    async def _first(self, query: bytes, *, stream: bool) -> bytes:
        asked = [asyncio.create_task(_one(server, query, stream=stream)) for server in self._servers]
        problem = "there is no name server"
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    return await answer
                except UpstreamError as error:
                    problem = str(error)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise UpstreamError(problem)


async def _one(server: tuple[str, int], query: bytes, *, stream: bool) -> bytes:
    ask: Coroutine[Any, Any, bytes] = _by_stream(server, query) if stream else _by_datagram(server, query)
    try:
        async with asyncio.timeout(SECONDS):
            return await ask
    except (OSError, EOFError) as error:  # TimeoutError is an OSError
        raise UpstreamError(f"{server[0]}: {error or type(error).__name__}") from error


class _Answer(asyncio.DatagramProtocol):
    """Waits for the answer to one message; others, and what nobody asked, are passed over."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self.data: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 (asyncio's signature; connected)
        if not self.data.done() and _answers(data, self._message):
            self.data.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.data.done():
            self.data.set_exception(exc)


async def _by_datagram(server: tuple[str, int], query: bytes) -> bytes:
    """A port and an id of its own for each query, so that nobody can guess them."""
    message = secrets.token_bytes(_ID) + query[_ID:]
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_datagram_endpoint(lambda: _Answer(message), remote_addr=server)
    try:
        transport.sendto(message)
        return query[:_ID] + (await answer.data)[_ID:]
    finally:
        answer.data.cancel()
        transport.close()


def _answers(data: bytes, message: bytes) -> bool:
    return len(data) >= _HEAD and data[:_ID] == message[:_ID] and bool(data[_ID] & _RESPONSE)


async def _by_stream(server: tuple[str, int], query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack("!H", len(query)) + query)
        await writer.drain()
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(size)
    finally:
        writer.close()
