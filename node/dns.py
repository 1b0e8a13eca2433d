"""The name server of the node: the sockets around node.resolver, in the node's network namespace."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import cast

from node import resolver
from node.network import Inside
from node.services import DNS_ADDRESS

_PORT = 53
_TCP_LIMIT = 65535
_IDLE = 10.0


class _Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram from the server's current zone."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # what asyncio gives to datagram protocols

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = resolver.answer(data, self._server.zone)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


class Server:
    """A DNS server on 10.96.0.10:53, UDP and TCP. ``zone`` may be replaced at any time."""

    def __init__(self) -> None:
        """Know no name yet."""
        self.zone: resolver.Zone = {}
        self._datagrams: asyncio.BaseTransport | None = None
        self._streams: asyncio.Server | None = None

    async def start(self, inside: Inside) -> None:
        """Listen in the node's namespace.

        Raises:
            OSError: the address is taken, which cannot be in a namespace of our own.
        """
        loop = asyncio.get_running_loop()
        udp = await inside.new_socket(socket.SOCK_DGRAM)
        udp.bind((DNS_ADDRESS, _PORT))
        self._datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        tcp = await inside.new_socket(socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((DNS_ADDRESS, _PORT))
        self._streams = await asyncio.start_server(self._converse, sock=tcp)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the queries of one TCP connection until it ends or idles."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
                while True:
                    async with asyncio.timeout(_IDLE):
                        (size,) = struct.unpack("!H", await reader.readexactly(2))
                        query = await reader.readexactly(size)
                        answer = resolver.answer(query, self.zone, _TCP_LIMIT)
                        if answer is None:
                            return
                        writer.write(struct.pack("!H", len(answer)) + answer)
                        await writer.drain()
        finally:
            writer.close()

    def close(self) -> None:
        """Stop listening."""
        if self._datagrams is not None:
            self._datagrams.close()
        if self._streams is not None:
            self._streams.close()
