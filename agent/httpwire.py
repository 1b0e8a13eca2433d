"""As much HTTP/1.1 as the agent needs: asking Envoy's admin interface and the app, and answering on 15020.

A client library would cost more memory than the rest of the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from wire import decimal

OK: Final = http.HTTPStatus.OK
TIMEOUT_SECONDS: Final = 5.0
MAX_BODY_BYTES: Final = 10 * 1024 * 1024
_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}
_READ_BYTES: Final = 65_536
_CODES: Final = range(100, 1000)
_DIGITS: Final = 3
_FORBIDDEN: Final = frozenset("\r\n\0")


class HttpError(Exception):
    """The other side could not be reached, or does not speak HTTP."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask. ``source`` is the own address to come from; ``tls`` means TLS without verification (probes)."""

    host: str
    port: int
    source: str = ""
    tls: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer begins with; names of ``fields`` are in lower case."""

    status: int
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. ``location`` is where a redirect leads."""

    status: int
    body: bytes
    location: str = ""


async def request(
    target: Target,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> Response:
    """Ask once, on a connection of its own.

    Raises:
        HttpError: no answer within ``seconds`` (TIMEOUT_SECONDS if not given), or a body longer than MAX_BODY_BYTES.
    """
    body = bytearray()
    limit = TIMEOUT_SECONDS if seconds is None else seconds
    try:
        async with asyncio.timeout(limit), exchange(target, method, path, headers) as (head, chunks):
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise HttpError(f"{path}: the answer is longer than {MAX_BODY_BYTES} bytes")
    except TimeoutError as error:
        raise HttpError(f"{target} did not answer within {limit:g} s") from error
    return Response(head.status, bytes(body), head.fields.get("location", ""))


@contextlib.asynccontextmanager
async def exchange(
    target: Target, method: str, path: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Head, AsyncIterator[bytes]]]:
    """Ask, and give the head and the body as it comes. No time limit of its own.

    A header that is given replaces ours of the same name, whatever its case.

    Raises:
        HttpError: the other side could not be reached, or does not speak HTTP.
    """
    given = {name.lower() for name in headers or {}}
    ours = {"Host": str(target), "Connection": "close", "Content-Length": "0"}
    lines = {name: value for name, value in ours.items() if name.lower() not in given} | dict(headers or {})
    if not _FORBIDDEN.isdisjoint("".join((method, path, *lines, *lines.values()))) or " " in path:
        raise HttpError(f"{method} {path!r}: a control character or a space cannot be sent")
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    try:
        reader, writer = await _connect(target)
    except OSError as error:
        raise HttpError(f"cannot reach {target}: {error}") from error
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        await writer.drain()
        status, fields = await read_head(reader)
        yield Head(_status(status), fields), _body(reader, fields)
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise HttpError(f"{target}: the connection broke, or spoke no HTTP: {error}") from error
    finally:
        writer.close()


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    source = (target.source, 0) if target.source else None
    return await asyncio.open_connection(
        target.host, target.port, local_addr=source, ssl=_unverified() if target.tls else None
    )


def _unverified() -> ssl.SSLContext:
    """As the kubelet does for HTTPS probes: the app's certificate is its own affair."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """First line and header fields (names in lower case) of a request or response.

    Raises:
        HttpError: a line ends otherwise than in HTTP: a field that is passed on could carry others with it.
        asyncio.IncompleteReadError: the stream ended before.
        asyncio.LimitOverrunError: the head is longer than the reader's limit.
    """
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    if not _FORBIDDEN.isdisjoint(text.replace("\r\n", "")):
        raise HttpError("a line of the head holds a control character")
    first, *rest = text.split("\r\n")
    pairs = (line.partition(":") for line in rest if line)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}


def response_head(status: int, content_type: str = "text/plain", length: int | None = None) -> bytes:
    """The head of an answer that ends with the connection."""
    reason = _PHRASES.get(status, "")
    size = "" if length is None else f"Content-Length: {length}\r\n"
    return f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n{size}Connection: close\r\n\r\n".encode()


def absolute(path: str) -> str:
    """A path as a request has it, also where somebody wrote it without its first slash."""
    return path if path.startswith("/") else f"/{path}"


def _status(line: str) -> int:
    """Three digits, the first of them none of 0 (RFC 9110 section 15)."""
    version, _, rest = line.partition(" ")
    code = rest.partition(" ")[0]
    if not version.startswith("HTTP/1.") or decimal.number(code) not in _CODES or len(code) != _DIGITS:
        raise HttpError(f"{line[:40]!r} is no HTTP status line")
    return int(code)


async def _body(reader: asyncio.StreamReader, fields: Mapping[str, str]) -> AsyncIterator[bytes]:
    if fields.get("transfer-encoding", "").lower() == "chunked":
        while size := await _chunk_size(reader):
            async for piece in _exactly(reader, size):
                yield piece
            await reader.readexactly(2)
    elif "content-length" in fields:
        async for piece in _exactly(reader, int(fields["content-length"])):
            yield piece
    else:
        while piece := await reader.read(_READ_BYTES):
            yield piece


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    """0 is the end that was announced; extensions are passed over (RFC 9112 section 7.1)."""
    size = int((await reader.readuntil(b"\n")).partition(b";")[0], 16)
    if size < 0:
        raise HttpError("this is no HTTP: a chunk cannot have a negative length")
    return size


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    """So many bytes in pieces: who announces a gigabyte must not make us keep one."""
    while size > 0:
        piece = await reader.read(min(_READ_BYTES, size))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(piece)
        yield piece
