"""Servers that the rig's proxies reach: HTTP/1.1 and HTTP/2 by what the client begins with, TCP, and TLS around them.

Each request and connection is noted; what is answered is the test's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CONNECTIONS = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What a TLS server saw: the name asked for, ALPN offered and chosen, version, cipher, the client's certificate."""

    sni: str | None
    alpn: str | None
    version: str
    cipher: str
    peer: tuple[str, ...]
    """Subject alternative names of the client's certificate."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that came in; ``at`` in seconds of the monotonic clock. Header names are in lower case."""

    name: str
    protocol: str
    method: str
    path: str
    headers: Mapping[str, str]
    connection: int
    at: float
    port: int
    body: bytes = b""
    tls: Handshake | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered, after ``delay`` seconds or once ``held`` is set; ``abort``: the connection is reset instead."""

    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: str = ""
    delay: float = 0.0
    abort: bool = False
    held: asyncio.Event | None = None


def by_name(seen: Seen) -> Answer:
    """The name of the server that was asked."""
    return Answer(body=seen.name)


def saying(**more: Any) -> Callable[[Seen], Answer]:
    """An answer with the server's name, and more."""
    return lambda seen: Answer(**{"body": seen.name, **more})


class Servers:
    """Everything that came in anywhere, in order, and what is answered."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.opened: list[str] = []
        """Names of the servers that connections came to."""
        self.ended: set[int] = set()
        """Numbers of the HTTP connections that ended."""
        self.greetings: list[tuple[str, bytes]] = []
        """The first bytes of TCP connections, by server."""
        self.answer: Callable[[Seen], Answer] = by_name
        self.pings: list[float] = []
        self.deaf = False
        """Pings are not answered."""
        self.connected: dict[str, set[asyncio.StreamWriter]] = {}
        """Connections of HTTP that are open, by server."""

    def forget(self) -> None:
        """Begin anew."""
        self.answer, self.deaf = by_name, False
        for each in (self.seen, self.opened, self.ended, self.greetings, self.pings):
            each.clear()

    def hang_up(self, name: str) -> None:
        """A server is gone: its connections are reset."""
        for writer in self.connected.pop(name, ()):
            writer.transport.abort()

    async def http(self, name: str, address: str, port: int, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        """Serve HTTP of both versions."""
        return await asyncio.start_server(_Http(self, name).serve, address, port, ssl=tls)

    async def unix(self, name: str, path: str) -> asyncio.Server:
        """Serve HTTP at a Unix domain socket."""
        return await asyncio.start_unix_server(_Http(self, name).serve, path)

    async def tcp(self, name: str, address: str, port: int) -> asyncio.Server:
        """Serve lines: each comes back with the server's name before it."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.opened.append(name)
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                first = True
                while line := await reader.readline():
                    if first:
                        self.greetings.append((name, line))
                    first = False
                    writer.write(f"{name}:".encode() + line)
            writer.close()

        return await asyncio.start_server(serve, address, port)

    async def proxy(self, name: str, address: str, port: int) -> asyncio.Server:
        """Serve tunnels, by CONNECT or POST: each line comes back with the proxy's name before it."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.opened.append(name)
            with contextlib.suppress(EOFError, ConnectionError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                self.greetings.append((name, head))
                posted = head.startswith(b"POST ")
                writer.write(b"HTTP/1.1 200 OK\r\n" + (b"transfer-encoding: chunked\r\n" if posted else b"") + b"\r\n")
                while line := await (_chunk(reader) if posted else reader.readline()):
                    said = f"{name}:".encode() + line
                    writer.write(b"%x\r\n%s\r\n" % (len(said), said) if posted else said)
            writer.close()

        return await asyncio.start_server(serve, address, port)


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:-2]


@dataclasses.dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    tls: Handshake | None


class _Http:
    def __init__(self, servers: Servers, name: str) -> None:
        self._servers = servers
        self._name = name

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._servers.opened.append(self._name)
        self._servers.connected.setdefault(self._name, set()).add(writer)
        own = _Connection(reader, writer, next(_CONNECTIONS), _handshake(writer))
        with contextlib.suppress(EOFError, ConnectionError, asyncio.CancelledError, h2.exceptions.ProtocolError):
            head = await reader.readuntil(b"\r\n\r\n")
            await (self._http2(own, head) if head.startswith(_PREFACE[:16]) else self._http1(own, head))
        self._servers.ended.add(own.number)
        self._servers.connected.get(self._name, set()).discard(writer)
        writer.close()

    async def _http1(self, own: _Connection, head: bytes) -> None:
        while True:
            first, *lines = head.decode().split("\r\n")
            method, path, _ = first.split(" ")
            headers = _folded(line.partition(": ")[::2] for line in lines if line)
            body = await _body(own.reader, headers)
            answer = self._took("1.1", method, path, headers, own, body)
            if not await self._wait(answer, own):
                return
            if method == "CONNECT" or headers.get("upgrade", "") == "websocket":
                own.writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
                )
                own.writer.write(await own.reader.read(100))
                return
            said = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
            text = "" if method == "HEAD" else answer.body
            own.writer.write(
                f"HTTP/1.1 {answer.status} X\r\n{said}content-length: {len(answer.body)}\r\n\r\n{text}".encode()
            )
            head = await own.reader.readuntil(b"\r\n\r\n")

    async def _http2(self, own: _Connection, head: bytes) -> None:
        wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        wire.initiate_connection()
        data: bytes = head
        async with asyncio.TaskGroup() as tasks:
            while data:
                for event in wire.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        tasks.create_task(self._answer2(own, wire, event))
                    elif isinstance(event, h2.events.PingReceived):
                        self._servers.pings.append(time.monotonic())
                        if self._servers.deaf:
                            wire.clear_outbound_data_buffer()
                own.writer.write(wire.data_to_send())
                data = await own.reader.read(65_536)

    async def _answer2(
        self, own: _Connection, wire: h2.connection.H2Connection, event: h2.events.RequestReceived
    ) -> None:
        headers = _folded((str(name), str(value)) for name, value in event.headers or ())
        answer = self._took("2", headers.pop(":method"), headers.pop(":path", ""), headers, own)
        if not await self._wait(answer, own):
            return
        with contextlib.suppress(h2.exceptions.ProtocolError):
            stream = event.stream_id or 0
            wire.send_headers(stream, [(":status", str(answer.status)), *answer.headers.items()])
            wire.send_data(stream, answer.body.encode(), end_stream=True)
            own.writer.write(wire.data_to_send())

    def _took(
        self, protocol: str, method: str, path: str, headers: dict[str, str], own: _Connection, body: bytes = b""
    ) -> Answer:
        seen = Seen(
            name=self._name,
            protocol=protocol,
            method=method,
            path=path,
            headers=headers,
            connection=own.number,
            at=time.monotonic(),
            port=place[1] if isinstance(place := own.writer.get_extra_info("sockname"), tuple) else 0,
            body=body,
            tls=own.tls,
        )
        self._servers.seen.append(seen)
        return self._servers.answer(seen)

    async def _wait(self, answer: Answer, own: _Connection) -> bool:
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.held is not None:
            await answer.held.wait()
        if answer.abort:
            own.writer.transport.abort()
        return not answer.abort


def _folded(pairs: object) -> dict[str, str]:
    """Header lines by lower-case name; several of one name are joined by commas."""
    found: dict[str, str] = {}
    for name, value in pairs:  # type: ignore[attr-defined]  # pairs of texts
        key = "host" if name == ":authority" else name.lower()
        found[key] = f"{found[key]},{value}" if key in found else value
    return found


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length", 0)))
    found = b""
    while size := int(await reader.readline(), 16):
        found += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return found


def _handshake(writer: asyncio.StreamWriter) -> Handshake | None:
    own = writer.get_extra_info("ssl_object")
    if own is None:
        return None
    said = own.getpeercert() or {}
    return Handshake(
        sni=getattr(own, "asked_for", None) or own.context.asked_for.pop(id(own), None),
        alpn=own.selected_alpn_protocol(),
        version=own.version() or "",
        cipher=(own.cipher() or ("",))[0],
        peer=tuple(value for _, value in said.get("subjectAltName", ())),
    )


class Listening(ssl.SSLContext):
    """A server's context that remembers which names clients asked for."""

    asked_for: dict[int, str | None]

    @classmethod
    def of(cls, certificate: str, key: str, roots: str, *, alpn: tuple[str, ...] = ("h2", "http/1.1")) -> Listening:
        """Ask clients for a certificate; those who have none may come too."""
        found = cls(ssl.PROTOCOL_TLS_SERVER)
        found.asked_for = {}
        found.load_cert_chain(certificate, key)
        found.load_verify_locations(roots)
        found.verify_mode = ssl.CERT_OPTIONAL
        found.set_alpn_protocols(alpn)
        found.sni_callback = lambda own, name, _: found.asked_for.__setitem__(id(own), name)
        return found
