"""A server that speaks what its client speaks on every port: HTTP/1.1, HTTP/2, gRPC, or lines that come back over TCP.

`python -m examples.echo PORTS [NAME]`, such as ``7001,7002 v1``. It lets the declared protocol of a port be changed
without changing the app. The first bytes decide: HTTP/2's preface, a request line, or anything else, which is echoed.
Over gRPC (any method) each message of a call comes back; a call with metadata ``x-count: N`` gets N of it, ``x-every``
seconds apart. Paths of HTTP play no part. HTTP/1.1 bodies of requests are not read: clients send none.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

_PREFACE = b"PRI * HTTP/2.0\r\n"
_METHODS = (b"GET ", b"HEAD ", b"POST ")
_READ = 65_536


async def serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection until the client ends it."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        first = await reader.readline()
        if first == _PREFACE:
            await Http2(name, reader, writer).serve(first)
        elif first.startswith(_METHODS):
            await _http1(name, first, reader, writer)
        else:
            await _lines(first, reader, writer)
    writer.close()


async def _lines(line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """TCP: every line comes back."""
    while line:
        writer.write(line)
        await writer.drain()
        line = await reader.readline()


async def _http1(name: str, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1: every request is answered with the server's name."""
    while line:
        head = await reader.readuntil(b"\r\n\r\n") if line.strip() else b""
        last = b"connection: close" in head.lower()
        body = b"" if line.startswith(b"HEAD ") else f"{name}\n".encode()
        more = "connection: close\r\n" if last else ""
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(name) + 1}\r\n{more}\r\n".encode() + body)
        await writer.drain()
        line = b"" if last else await reader.readline()


class Http2:
    """One connection of HTTP/2, with gRPC among its requests."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._name = name
        self._reader = reader
        self._writer = writer
        self._wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._calls: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytes] = {}
        self._answers: set[asyncio.Task[None]] = set()

    async def serve(self, data: bytes) -> None:
        """Answer until the client is gone."""
        self._wire.initiate_connection()
        try:
            while data:
                for event in self._wire.receive_data(data):
                    self._take(event)
                await self._flush()
                data = await self._reader.read(_READ)
        except h2.exceptions.ProtocolError:
            await self._flush()  # says what was wrong
        finally:
            for task in self._answers:
                task.cancel()

    async def _flush(self) -> None:
        self._writer.write(self._wire.data_to_send())
        await self._writer.drain()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived) and event.headers and event.stream_id:
            self._calls[event.stream_id] = {str(name): str(value) for name, value in event.headers}
            self._bodies[event.stream_id] = b""
        elif isinstance(event, h2.events.DataReceived) and event.stream_id:
            self._bodies[event.stream_id] += event.data or b""
            self._wire.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id:
            task = asyncio.create_task(self._answer(event.stream_id))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)
        elif isinstance(event, h2.events.StreamReset) and event.stream_id:
            self._calls.pop(event.stream_id, None)

    async def _answer(self, stream: int) -> None:
        headers, body = self._calls[stream], self._bodies.pop(stream)
        with contextlib.suppress(h2.exceptions.ProtocolError, ConnectionError):  # the client is gone
            if headers.get("content-type", "").startswith("application/grpc"):
                await self._grpc(stream, headers, body)
            else:
                answer = f"{self._name}\n".encode()
                self._wire.send_headers(stream, [(":status", "200"), ("content-length", str(len(answer)))])
                self._wire.send_data(stream, answer, end_stream=True)
            await self._flush()
        self._calls.pop(stream, None)

    async def _grpc(self, stream: int, headers: dict[str, str], body: bytes) -> None:
        """Messages come back as they are framed; small ones, which fit any window."""
        self._wire.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        for number in range(int(headers.get("x-count", "1"))):
            if number:
                await self._flush()
                await asyncio.sleep(float(headers.get("x-every", "0")))
            if stream not in self._calls:
                return
            self._wire.send_data(stream, body)
        self._wire.send_headers(stream, [("grpc-status", "0")], end_stream=True)


async def listen(ports: Iterable[int], name: str, host: str = "") -> list[asyncio.Server]:
    """Listen on all ports; port 0 is a free one. The caller closes.

    Raises:
        OSError: a port is taken.
    """

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(name, reader, writer)

    return [await asyncio.start_server(accept, host or None, port) for port in ports]


async def main(ports: str, name: str = "echo") -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = await listen((int(port) for port in ports.split(",")), name)
    await stop.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
