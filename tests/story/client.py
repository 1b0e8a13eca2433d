"""Load of four kinds on examples.echo, over connections that are kept and over fresh ones, told as lines of JSON.

`python -m tests.story.client` runs in a pod: ``{"ok": {KIND: COUNT}}`` twice a second, ``{"at", "kind", "what"}`` for
each failure. Nothing is tried again: a kept connection is left when the other side says so (``connection: close``,
GOAWAY). Where a port may be declared opaque a connection is left after SESSION seconds, which is less than a proxy's
drain time, since no proxy can say over TCP that its client should go.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import time
from collections.abc import Iterable

import grpc
import grpc.aio
import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.story import load

PAUSE = 0.35
"""Seconds between a worker's answer and its next request: with some twelve workers, 30 requests a second."""
SESSION = 20.0
"""Seconds for which a connection is kept that may be one of TCP to the proxy."""
STREAM = (16, 0.5)
"""Messages of a long call, and seconds between two."""
LIMIT = 15.0
_READ = 65_536
_FRAME, _GOAWAY = 9, 7
"""HTTP/2: size of a frame's header, and the type that says goodbye."""


class BrokenError(Exception):
    """The other side did not do what its protocol asks of it."""


@dataclasses.dataclass(slots=True)
class Kept:
    """A connection of bytes that may be kept."""

    host: str
    port: int
    limit: float = SESSION
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    since: float = 0.0

    async def opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection, made if there is none or it is old."""
        if self.since < time.monotonic() - self.limit:
            self.close()
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
            self.since = time.monotonic()
        return self.reader, self.writer

    def close(self) -> None:
        """Leave it."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


def http1(kept: Kept, *, keep: bool, headers: str = "") -> load.Ask:
    """GET over HTTP/1.1."""

    async def ask() -> str:
        reader, writer = await kept.opened()
        writer.write(f"GET /echo HTTP/1.1\r\nhost: {kept.host}:{kept.port}\r\n{headers}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status, _, rest = head.partition("\r\n")
        length = int(rest.partition("content-length:")[2].partition("\r\n")[0] or 0)
        body = await reader.readexactly(length)
        if not keep or "connection: close" in rest:
            kept.close()
        return "" if status.startswith("http/1.1 200") and length else f"{status} {body.decode()[:200]}"

    return _checked(ask, kept)


class Http2:
    """One request after the other over HTTP/2 with prior knowledge."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self._authority = f"{kept.host}:{kept.port}"
        self._wire = h2.connection.H2Connection()
        self._since = 0.0
        self._buffer = b""

    async def get(self) -> str:
        """The status and body of an answer; "" for what is expected."""
        reader, writer = await self.kept.opened()
        if self.kept.since != self._since:
            self._since, self._buffer = self.kept.since, b""
            self._wire = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            self._wire.initiate_connection()
        stream = self._wire.get_next_available_stream_id()
        headers = [(":method", "GET"), (":scheme", "http"), (":authority", self._authority), (":path", "/echo")]
        self._wire.send_headers(stream, headers, end_stream=True)
        found: dict[str, str] = {}
        while "over" not in found:
            writer.write(self._wire.data_to_send())
            if not (data := await reader.read(_READ)):
                raise BrokenError("connection closed before the answer")
            for event in self._events(data):
                self._take(event, found)
        writer.write(self._wire.data_to_send())
        if "last" in found:
            self.kept.close()
        return "" if found.get("status") == "200" and found.get("body") else str(found)

    def _events(self, data: bytes) -> list[h2.events.Event]:
        """Of bytes; GOAWAY apart, after which the library would take nothing more, though answers may come."""
        self._buffer += data
        found: list[h2.events.Event] = []
        while len(self._buffer) >= (size := _FRAME + int.from_bytes(self._buffer[:3], "big")) and self._buffer:
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            if frame[3] == _GOAWAY:
                found.append(h2.events.ConnectionTerminated())
            else:
                found += self._wire.receive_data(frame)
        return found

    def _take(self, event: h2.events.Event, found: dict[str, str]) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            found["status"] = next(str(value) for name, value in event.headers or () if str(name) == ":status")
        elif isinstance(event, h2.events.DataReceived):
            found["body"] = found.get("body", "") + (event.data or b"").decode()
            self._wire.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        elif isinstance(event, h2.events.StreamEnded):
            found["over"] = "ended"
        elif isinstance(event, h2.events.StreamReset):
            found |= {"over": "reset", "error": str(event.error_code), "last": "reset"}
        elif isinstance(event, h2.events.ConnectionTerminated):
            found["last"] = "goaway"


def http2(kept: Kept, *, keep: bool) -> load.Ask:
    """GET over HTTP/2."""
    client = Http2(kept)

    async def ask() -> str:
        answer = await client.get()
        if not keep:
            client.kept.close()
        return answer

    return _checked(ask, client.kept)


def tcp(kept: Kept, *, keep: bool) -> load.Ask:
    """A line that comes back."""

    async def ask() -> str:
        reader, writer = await kept.opened()
        line = f"line of {time.monotonic()}\n".encode()
        writer.write(line)
        back = await reader.readline()
        if not keep:
            kept.close()
        return "" if back == line else f"{back!r} in place of {line!r}"

    return _checked(ask, kept)


def _checked(ask: load.Ask, kept: Kept) -> load.Ask:
    """With a deadline, and a new connection after a failure."""

    async def checked() -> str:
        try:
            async with asyncio.timeout(LIMIT):
                wrong = await ask()
        except (OSError, EOFError, TimeoutError, ValueError, BrokenError, h2.exceptions.ProtocolError) as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            kept.close()
        return wrong

    return checked


@dataclasses.dataclass(slots=True)
class Channel:
    """A channel that is kept for a time."""

    host: str
    port: int
    limit: float = SESSION
    since: float = 0.0
    kept: grpc.aio.Channel | None = None

    async def opened(self) -> grpc.aio.Channel:
        """The channel, made if there is none or it is old."""
        if self.kept is None or self.since < time.monotonic() - self.limit:
            await self.close()
            self.kept, self.since = grpc_channel(self.host, self.port), time.monotonic()
        return self.kept

    async def close(self) -> None:
        """Leave it."""
        if self.kept is not None:
            await self.kept.close()
        self.kept = None


def unary(kept: Channel) -> load.Ask:
    """A message that comes back."""

    async def ask() -> str:
        channel = await kept.opened()
        try:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/echo.Echo/Say")
            back = await call(b"hello", timeout=LIMIT)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "" if back == b"hello" else f"{back!r}"

    return ask


def fresh(host: str, port: int) -> load.Ask:
    """A message that comes back, over a channel of its own."""

    async def ask() -> str:
        kept = Channel(host, port)
        answer = await unary(kept)()
        await kept.close()
        return answer

    return ask


def stream(kept: Channel) -> load.Ask:
    """A call with many answers over a time."""
    count, every = STREAM

    async def ask() -> str:
        seen, channel = 0, await kept.opened()
        try:
            metadata = (("x-count", str(count)), ("x-every", str(every)))
            call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/echo.Echo/Often")
            async for _ in call(b"hello", timeout=60, metadata=metadata):
                seen += 1
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()} after {seen} messages"
        return "" if seen == count else f"{seen} messages"

    return ask


def grpc_channel(host: str, port: int) -> grpc.aio.Channel:
    """A channel that shares no connection with others."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    return grpc.aio.insecure_channel(f"{host}:{port}", options=options)


def asks(host: str, headless: str) -> dict[str, load.Ask]:
    """All kinds: ports 7001 to 7004 of ``host`` are asked in HTTP/1.1, HTTP/2, gRPC, TCP, and 7006 of ``headless``.

    Ports 7002 and 7006 are always HTTP to the proxy.
    """
    return {
        "http1": http1(Kept(host, 7001), keep=True),
        "http1 fresh": http1(Kept(host, 7001), keep=False),
        "http2": http2(Kept(host, 7002, limit=math.inf), keep=True),
        "http2 fresh": http2(Kept(host, 7002), keep=False),
        "grpc": unary(Channel(host, 7003)),
        "grpc fresh": fresh(host, 7003),
        "grpc stream": stream(Channel(host, 7003)),
        "tcp": tcp(Kept(host, 7004), keep=True),
        "tcp fresh": tcp(Kept(host, 7004), keep=False),
        "delayed": http1(Kept(host, 7001), keep=True, headers="x-delay: yes\r\n"),
        "headless": http1(Kept(headless, 7006, limit=math.inf), keep=True),
        "headless fresh": http1(Kept(headless, 7006), keep=False),
    }


async def tell(running: load.Load) -> None:
    """Print counts and failures for ever."""
    told = 0
    while True:
        await asyncio.sleep(0.5)
        _print(json.dumps(_line(failure)) for failure in running.failures[told:])
        told = len(running.failures)
        _print([json.dumps({"ok": running.ok})])


def _line(failure: load.Failure) -> dict[str, object]:
    return {"at": load.clock(failure.moment), "kind": failure.name, "what": failure.what}


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)  # noqa: T201 (the log is this program's answer)


async def main() -> None:
    """Ask until the process is ended."""
    running = load.Load(asks("echo", "echo-pods"), each=1, pause=PAUSE)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tell(running))
        tasks.create_task(running.run())


if __name__ == "__main__":
    asyncio.run(main())
