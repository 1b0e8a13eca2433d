"""The client: sends requests from within a pod and prints what came back. ``python -m ...probe JSON``.

The argument is a list of requests (see ``Asked``), the answer a list of lists of replies as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

_PATIENCE: Final = 30.0
_AT_ONCE: Final = 8
_GRPC: Final = {0: 200, 3: 400, 4: 504, 7: 403, 8: 429, 12: 404, 14: 503, 16: 401}
"""HTTP statuses of which Envoy makes these of gRPC (Grpc::Utility::httpToGrpcStatus)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, to be sent so many times. ``server`` and ``port`` are where to; ``scheme`` as in ``explain``."""

    server: str
    port: int
    scheme: str
    authority: str
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    sni: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. ``status`` 0: none; ``failure`` says why nothing did; ``echo`` is what the app got."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    echo: Mapping[str, Any] | None = None
    failure: str = ""
    seconds: float = 0.0


async def ask(one: Asked) -> list[Reply]:
    """Send a request as often as it wants."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def once() -> Reply:
        async with gate:
            started = time.monotonic()
            found = await _once(one)
            return replace(found, seconds=time.monotonic() - started)

    return list(await asyncio.gather(*(once() for _ in range(one.count))))


async def _once(one: Asked) -> Reply:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await (_grpc(one) if one.scheme == "grpc" else _exchange(one))
    except TimeoutError:
        return Reply(failure=f"no answer within {_PATIENCE:.0f} s")
    except (OSError, EOFError, ValueError, IndexError) as error:
        return Reply(failure=str(error) or type(error).__name__)


async def _exchange(one: Asked) -> Reply:
    tls = None
    if one.scheme in ("https", "tls"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE  # who serves is what the test is about; nobody's root is here
        if one.scheme == "https":
            tls.set_alpn_protocols(["http/1.1"])
    name = one.sni if tls is not None else None
    reader, writer = await asyncio.open_connection(one.server, one.port, ssl=tls, server_hostname=name)
    try:
        if one.scheme in ("tcp", "tls"):
            writer.write(b"hello\n")
            line = await reader.readline()
            return Reply(echo=json.loads(line)) if line else Reply(failure="the connection was closed")
        headers = {"host": one.authority, **one.headers, "connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"{one.method} {one.path} HTTP/1.1\r\n{lines}\r\n".encode())
        return await _answer(reader, head=one.method == "HEAD")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader, *, head: bool) -> Reply:
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers: dict[str, str] = {}
    for line in rest:
        name, _, value = line.partition(":")
        key = name.lower()
        headers[key] = f"{headers[key]},{value.strip()}" if key in headers else value.strip()
    body = b"" if head else await _body(reader, headers)
    workload = headers.get("x-istioctl-echo")
    echo = None if workload is None else json.loads(body) if body else {"workload": workload}
    return Reply(status=int(first.split(" ")[1]), headers=headers, body=body.decode(errors="replace"), echo=echo)


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """By its length: a proxy may leave the connection open for a while after an answer of its own."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        length = headers.get("content-length")
        return await (reader.read(-1) if length is None else reader.readexactly(int(length)))
    found = b""
    while size := int(await reader.readline(), 16):
        found += (await reader.readexactly(size + 2))[:-2]
    return found


async def _grpc(one: Asked) -> Reply:
    import grpc.aio  # noqa: PLC0415 (half a second that most clients need not pay)

    address = (await asyncio.get_running_loop().getaddrinfo(one.server, one.port, type=socket.SOCK_STREAM))[0][4]
    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    options = [
        ("grpc.default_authority", one.authority),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with grpc.aio.insecure_channel(f"{host}:{one.port}", options=options) as channel:
        metadata = tuple(one.headers.items())
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(one.path)
        call = method(b"", metadata=metadata)
        try:
            body = await call
        except grpc.aio.AioRpcError as error:
            number = int(error.code().value[0])
            headers = {str(name): str(value) for name, value in error.initial_metadata() or ()}
            return Reply(status=_GRPC.get(number, 500), headers=headers, body=error.details() or "")
        headers = {str(name): str(value) for name, value in await call.initial_metadata()}
        return Reply(status=200, headers=headers, echo=json.loads(body))


async def main(text: str) -> None:
    """Send all requests, one kind after the other, and print the replies."""
    found = [[asdict(reply) for reply in await ask(Asked(**one))] for one in json.loads(text)]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
