"""A connection under test without sockets: raw frames in, parsed frames out, and calls that are written down."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import hpack

from istiod.grpcserver import frames
from istiod.grpcserver.cuts import Cuts
from istiod.grpcserver.http2 import Http2Connection
from istiod.grpcserver.request import Request
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client, Receiver, Stream

PATH = "/test.Echo/Call"
HEAD = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PATH),
    (":authority", "istiod"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass
class Call:
    """A receiver that writes down what it hears, and echoes if ``echo``."""

    stream: Stream
    echo: bool = False
    heard: list[bytes] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def message(self, raw: bytes) -> None:
        self.heard.append(raw)
        if raw == b"refuse":
            raise RpcError(Code.INVALID_ARGUMENT, "not this")
        if self.echo:
            self.stream.send(raw)

    def done(self) -> None:
        self.events.append("done")
        if self.echo:
            self.stream.finish(Code.OK)

    def drained(self) -> None:
        self.events.append("drained")

    def lost(self) -> None:
        self.events.append("lost")


class Wire:
    """A client of raw frames. ``calls`` are those that were opened."""

    def __init__(
        self, *, echo: bool = False, accept: int | None = None, greet: bool = True, cuts: Cuts | None = None
    ) -> None:
        self.now = 100.0
        self.calls: list[Call] = []
        self.woken = 0
        self._echo = echo
        self._accept = accept
        self._encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self._out = b""
        self.http = Http2Connection(Client(address="10.0.0.1:4000"), self._open, self._wake, self.now, cuts)
        if greet:
            self.say(frames.PREFACE, frames.settings({}))
            self.hear()

    def _open(self, stream: Stream, request: Request) -> Receiver:
        if request.path != PATH:
            raise RpcError(Code.UNIMPLEMENTED, f"no {request.path}")
        if self._accept is not None:
            stream.accept(self._accept)
        call = Call(stream, self._echo)
        self.calls.append(call)
        return call

    def _wake(self) -> None:
        self.woken += 1

    def say(self, *parts: bytes) -> None:
        self.http.receive(b"".join(parts), self.now)

    def hear(self, limit: int = 1 << 20) -> list[Frame]:
        """Every frame that comes now."""
        self._out += b"".join(iter(lambda: self.http.take(limit), b""))
        found, self._out = parse(self._out)
        return found

    def block(self, headers: Iterable[tuple[str, str]]) -> bytes:
        return self._encoder.encode(list(headers))

    def headers(
        self, stream: int = 1, headers: Iterable[tuple[str, str]] = HEAD, *, end: bool = False, flags: int = 0
    ) -> bytes:
        flags |= frames.END_HEADERS | (frames.END_STREAM if end else 0)
        return frames.frame(frames.HEADERS, flags, stream, self.block(headers))

    def status(self, frame: Frame) -> tuple[str, str]:
        """grpc-status and grpc-message of an end."""
        assert frame.kind == frames.HEADERS
        assert frame.flags & frames.END_STREAM
        found = dict(self.decoder.decode(frame.payload))
        return found["grpc-status"], found.get("grpc-message", "")

    def failure(self) -> int:
        """The error code of the GOAWAY that ends what comes now."""
        last = self.hear()[-1]
        assert last.kind == frames.GOAWAY
        assert self.http.closed
        return int.from_bytes(last.payload[4:8], "big")


def parse(data: bytes) -> tuple[list[Frame], bytes]:
    """Whole frames, and what is left over."""
    found, at = [], 0
    while len(data) - at >= 9:
        length = int.from_bytes(data[at : at + 3], "big")
        if len(data) < at + 9 + length:
            break
        kind, flags, stream = struct.unpack(">BBI", data[at + 3 : at + 9])
        found.append(Frame(kind, flags, stream, data[at + 9 : at + 9 + length]))
        at += 9 + length
    return found, data[at:]


def message(body: bytes, *, compressed: bool = False) -> bytes:
    return bytes((compressed,)) + len(body).to_bytes(4, "big") + body


def data(body: bytes, stream: int = 1, *, end: bool = False) -> bytes:
    return frames.frame(frames.DATA, frames.END_STREAM if end else 0, stream, body)


def kinds(found: Iterable[Frame]) -> list[int]:
    return [frame.kind for frame in found]


def body(found: Iterable[Frame], stream: int = 1) -> bytes:
    return b"".join(f.payload for f in found if f.kind == frames.DATA and f.stream == stream)
