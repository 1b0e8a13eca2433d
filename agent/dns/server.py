"""The DNS proxy's sockets: UDP and TCP on 127.0.0.1:15053 (rows B9, C12).

Answers are answers.py's and upstream.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Sequence
from typing import Final, cast

from agent.dns import answers
from agent.dns.table import Table
from agent.dns.upstream import Upstream, UpstreamError

_LOG: Final = logging.getLogger("dns")
_IDLE: Final = 10.0
_MOST_STREAMS: Final = 256
_MOST_TASKS: Final = 2000

Address = tuple[str, int]


class DnsServer:
    """Answers the app's queries. ``table`` may be replaced at any time; until there is one, every query fails."""

    def __init__(self, addresses: Sequence[Address], upstream: Upstream) -> None:
        self.table: Table | None = None
        self._addresses = tuple(addresses)
        self._upstream = upstream
        self._datagrams: list[asyncio.BaseTransport] = []
        self._streams: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: an address is taken.
        """
        loop = asyncio.get_running_loop()
        for address in self._addresses:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=address)
            self._datagrams.append(transport)
            self._streams.append(await asyncio.start_server(self._converse, *address))

    async def stop(self) -> None:
        """Close all sockets; queries that wait are dropped."""
        for server in self._streams:
            server.close()
        for transport in self._datagrams:
            transport.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def answer(self, data: bytes, *, stream: bool) -> bytes | None:
        """The answer to a query; None where there is nothing to answer."""
        try:
            query = answers.read(data)
        except answers.MalformedQueryError:
            return None
        table = self.table
        if table is None or not query.question:
            return answers.write(answers.failure(query), query, stream=stream)
        if (response := answers.known(query, table)) is not None:
            return answers.write(response, query, stream=stream)
        try:
            return await self._upstream.ask(data, stream=stream)
        except UpstreamError as error:
            _LOG.info("no answer for %s: %s", query.question[0].name, error)
            return answers.write(answers.failure(query), query, stream=stream)

    def take(self, data: bytes, address: Address, transport: asyncio.DatagramTransport) -> None:
        """A datagram came."""
        if len(self._tasks) < _MOST_TASKS:  # more are lost, as datagrams are
            task = asyncio.create_task(self._reply(data, address, transport))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reply(self, data: bytes, address: Address, transport: asyncio.DatagramTransport) -> None:
        response = await self.answer(data, stream=False)
        if response is not None and not transport.is_closing():
            transport.sendto(response, address)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The queries of one connection, until it ends or idles."""
        self._connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):  # TimeoutError is an OSError
                while self._connections <= _MOST_STREAMS:
                    async with asyncio.timeout(_IDLE):
                        (size,) = struct.unpack("!H", await reader.readexactly(2))
                        query = await reader.readexactly(size)
                    response = await self.answer(query, stream=True)
                    if response is None:
                        return
                    writer.write(struct.pack("!H", len(response)) + response)
                    await writer.drain()
        finally:
            self._connections -= 1
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    """Hands datagrams over."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # what asyncio gives to datagram protocols

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if self._transport is not None:
            self._server.take(data, addr, self._transport)
