"""The rig's client: one connection for each request, so that what a proxy says last is what counts."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import time
from collections.abc import Mapping

import h2.config
import h2.connection
import h2.events
import h2.exceptions

_PATIENCE = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back after so many seconds. ``status`` is 0 where the connection was refused or broken off."""

    status: int
    headers: Mapping[str, str]
    body: str
    seconds: float
    certificate: tuple[str, ...] = ()
    """Names in the certificate of the server, over TLS."""
    version: str = ""
    cipher: str = ""
    alpn: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request to an address. ``before`` goes ahead of it (or of TLS, where a proxy's line belongs)."""

    port: int
    address: str = "127.0.0.1"
    host: str = "web"
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    sni: str = ""
    source: str = ""
    before: bytes = b""
    body: bytes = b""
    """Whose length the headers say."""


async def ask(said: Ask) -> Reply:
    """Send it and read the answer to its end."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE):
            return await _exchange(said, started)
    except (OSError, EOFError, TimeoutError, ValueError, IndexError):
        return Reply(status=0, headers={}, body="", seconds=time.monotonic() - started)


async def _exchange(said: Ask, started: float) -> Reply:
    reader, writer = await connected(said)
    try:
        headers = {"host": said.host, "connection": "close", **said.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(said.before + f"{said.method} {said.path} HTTP/1.1\r\n{lines}\r\n".encode() + said.body)
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        found = _headers(rest)
        body = await _body(reader, found)
        return Reply(
            status=int(first.split(" ")[1]),
            headers=found,
            body=body.decode(),
            seconds=time.monotonic() - started,
            **_seen(writer),  # type: ignore[arg-type]  # by name
        )
    finally:
        writer.close()


async def ask2(said: Ask) -> Reply:
    """The same over HTTP/2, which nobody is asked for first."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE):
            return await _exchange2(said, started)
    except (OSError, EOFError, TimeoutError, h2.exceptions.ProtocolError):
        return Reply(status=0, headers={}, body="", seconds=time.monotonic() - started)


async def _exchange2(said: Ask, started: float) -> Reply:
    reader, writer = await connected(said)
    wire = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    wire.initiate_connection()
    _send2(wire, said)
    headers: dict[str, str] = {}
    body = b""
    try:
        while True:
            writer.write(wire.data_to_send())
            data = await reader.read(65_536)
            if not data:
                raise EOFError
            for event in wire.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    headers |= {str(name): str(value) for name, value in event.headers or ()}
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data or b""
                elif isinstance(event, h2.events.StreamEnded):
                    status, seconds = int(headers.pop(":status")), time.monotonic() - started
                    return Reply(status=status, headers=headers, body=body.decode(), seconds=seconds)
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionResetError(f"the stream was reset: {event.error_code}")
    finally:
        writer.close()


def _send2(wire: h2.connection.H2Connection, said: Ask) -> None:
    first = {":method": said.method, ":scheme": "http", ":authority": said.host, ":path": said.path}
    wire.send_headers(1, [*first.items(), *said.headers.items()], end_stream=not said.body)
    if said.body:
        wire.send_data(1, said.body, end_stream=True)


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """By its length: a proxy may leave the connection open for a second after an answer of its own."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        length = headers.get("content-length")
        return await (reader.read(-1) if length is None else reader.readexactly(int(length)))
    found = b""
    while size := int(await reader.readline(), 16):
        found += (await reader.readexactly(size + 2))[:-2]
    return found


def _headers(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        key = name.lower()
        found[key] = f"{found[key]},{value}" if key in found else value
    return found


async def connected(said: Ask) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of one's own."""
    return await asyncio.open_connection(
        said.address,
        said.port,
        ssl=said.tls,
        server_hostname=(said.sni or said.host) if said.tls else None,
        local_addr=(said.source, 0) if said.source else None,
    )


def _seen(writer: asyncio.StreamWriter) -> Mapping[str, object]:
    own = writer.get_extra_info("ssl_object")
    if own is None:
        return {}
    said = own.getpeercert() or {}
    return {
        "certificate": tuple(value for _, value in said.get("subjectAltName", ())),
        "version": own.version() or "",
        "cipher": (own.cipher() or ("",))[0],
        "alpn": own.selected_alpn_protocol(),
    }


def trusting(roots: str = "", certificate: str = "", key: str = "") -> ssl.SSLContext:
    """What a client speaks that trusts these roots (none: everybody) and shows this certificate."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    if roots:
        found.load_verify_locations(roots)
    else:
        found.verify_mode = ssl.CERT_NONE
    if certificate:
        found.load_cert_chain(certificate, key)
    return found
