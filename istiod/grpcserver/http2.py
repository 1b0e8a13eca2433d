"""The server's side of one HTTP/2 connection that carries gRPC, without I/O (RFC 9113; style as the h2 library's).

Bytes and the time in; calls told to their receivers, bytes out. Faces the network before it is known who is there: each
thing that a client may make it keep or do has a limit, and one that is exceeded ends the connection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from istiod.grpcserver import frames, inbound
from istiod.grpcserver.budget import Allowances
from istiod.grpcserver.cuts import Cuts
from istiod.grpcserver.frames import DEFAULT_WINDOW, MAX_FRAME, MAX_STREAM_ID, ErrorCode, ProtocolError
from istiod.grpcserver.headers import Heads
from istiod.grpcserver.outbox import Outbox
from istiod.grpcserver.request import Header, MalformedHeadersError, Request, read
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import DEAF, Client, Receiver, Stream

MAX_STREAMS: Final = 32
CONNECTION_WINDOW: Final = 256 * 1024
"""What unknown clients may have sent that no service has taken; known ones get it back at once."""
STREAM_WINDOW: Final = 256 * 1024
"""What a known client may have under way."""
EFFORT: Final = 16
"""Calls begun and messages heard before other clients have their turn: a frame of a few bytes can be a new call."""
_TINY: Final = 32
"""What a frame of fewer bytes counts for."""
EARNED: Final = 4
"""Frames that a client may answer a frame of ours with: windows, a ping that measures the bandwidth."""

Open = Callable[[Stream, Request], Receiver]
"""Starts a call. Raises RpcError where there is nothing to call."""


def _nobody() -> None:
    """Whom a lost connection wakes."""


class Http2Connection:
    """One connection, from the client's preface to GOAWAY. Times are monotonic seconds.

    ``wake`` is called when there is something to ``take`` that no ``receive`` or ``take`` under way will give.
    """

    __slots__ = (
        "_allowed",
        "_buffer",
        "_credit",
        "_effort",
        "_heads",
        "_last",
        "_late",
        "_now",
        "_open",
        "_room",
        "_wake",
        "client",
        "closed",
        "draining",
        "failure",
        "initial",
        "outbox",
        "settled",
        "started",
        "streams",
        "yields",
    )

    def __init__(
        self, client: Client, opener: Open, wake: Callable[[], None], now: float, cuts: Cuts | None = None
    ) -> None:
        self.client = client
        self.outbox = Outbox(self._ended, cuts)
        self.streams: dict[int, Stream] = {}
        self.initial = DEFAULT_WINDOW
        self.closed = self.draining = self.started = self.settled = self.yields = False
        self.failure = ""
        self._open = opener
        self._wake = wake
        self._now = now
        self._buffer = b""
        self._heads = Heads()
        self._last = self._late = 0
        self._room = CONNECTION_WINDOW
        self._credit = self._effort = 0
        self._allowed = Allowances(now)
        limits = {
            frames.SETTINGS_MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            frames.SETTINGS_MAX_HEADER_LIST_SIZE: inbound.MAX_HEADER_LIST,
        }
        self.outbox.control(frames.settings(limits) + frames.window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    # What the shell drives

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes in. Whatever is wrong with them ends the connection: see ``closed``.

        What would keep others waiting is left for the next call, which may bring nothing more: see ``paused``.
        """
        if self.closed:
            return
        self._now = now
        self._effort = 0
        if self.outbox.earned:
            self._allowed.frames.earn(self.outbox.earned * EARNED)
            self.outbox.earned = 0
        try:
            self._buffer = self._parse(self._buffer + data if self._buffer else data)
        except ProtocolError as error:
            self.fail(error.code, str(error))

    def take(self, limit: int) -> bytes | memoryview:
        """Up to about ``limit`` bytes to send; b"" for nothing."""
        if self.outbox.empty:
            return b""
        taken = self.outbox.take(limit)
        if self.outbox.drained:
            drained, self.outbox.drained = self.outbox.drained, []
            for stream in drained:
                stream.receiver.drained()
        return taken

    def ping(self) -> None:
        """Ask whether the client is there: whatever it sends is an answer."""
        self.outbox.control(frames.frame(frames.PING, 0, 0, b"istiod\0\0"))

    def drain(self) -> None:
        """Tell the client to make its next calls elsewhere; those that run, and those under way, are served."""
        if not self.draining and not self.closed:
            self.draining = True
            self.outbox.control(frames.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR))

    def close(self, code: Code, details: str) -> None:
        """End the connection, and its calls with this status; where a message has left in part it can't be said."""
        for stream in [s for s in self.streams.values() if not s.parts]:
            self._refuse(stream, RpcError(code, details))
        self._leave(ErrorCode.NO_ERROR, "")

    def fail(self, code: ErrorCode, reason: str) -> None:
        """End the connection for the client's fault, or for its silence."""
        self.failure = reason
        self._leave(code, reason)

    def lose(self) -> None:
        """The connection is gone: from here on it holds nothing of those that it told.

        They hold it, and a circle stays, with the client's whole configuration, until the collector looks.
        """
        self.closed = True
        try:
            self._drop_all()
        finally:
            self._wake = _nobody
            self.outbox.close()

    @property
    def paused(self) -> bool:
        """Whether something that came has not been looked at yet: ``receive`` should be called when it is due."""
        return self._effort >= EFFORT and bool(self._buffer) and not self.closed

    @property
    def midway(self) -> bool:
        """Whether a header block has begun and not ended."""
        return self._heads.open

    # What streams ask: see stream.Peer

    def send(self, stream: Stream, parts: tuple[bytes, ...]) -> None:
        """Send a message of a call that is not over."""
        if self.streams.get(stream.id) is stream and stream.ending is None:
            self.outbox.message(stream, parts)
            self._wake()

    def finish(self, stream: Stream, code: Code, details: str) -> None:
        """End a call that is not over."""
        if self.streams.get(stream.id) is not stream or stream.ending is not None:
            return
        if stream.started or stream.parts:
            ending = frames.trailers(stream.id, code, details)
        else:
            ending = frames.trailers_only(stream.id, code, details, no_table=self.outbox.no_table)
            self.outbox.no_table = False
        if not stream.half_closed:  # what it has sent by now is under way, as far as its window allowed
            ending += frames.reset(stream.id, ErrorCode.NO_ERROR)
            self._late += stream.room
        self.outbox.end(stream, ending)
        self._wake()

    def accept(self, stream: Stream) -> None:
        """Give a known client more room."""
        held, stream.held = stream.held, 0
        self._give_back(held)
        self.outbox.control(frames.window_update(stream.id, STREAM_WINDOW - stream.room))
        stream.room = STREAM_WINDOW
        self._wake()

    # What comes in

    def _parse(self, data: bytes) -> bytes:
        """Every whole frame of the data; gives what is left over."""
        at = 0
        if not self.started:
            if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
            if len(data) < len(frames.PREFACE):
                return data
            self.started = True
            at = len(frames.PREFACE)
        end = len(data)
        while end - at >= frames.HEAD and not self.closed and self._effort < EFFORT:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > MAX_FRAME:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            body = at + frames.HEAD
            if body + length > end:
                break
            number = int.from_bytes(data[at + 5 : body], "big") & MAX_STREAM_ID
            self._frame(data[at + 3], data[at + 4], number, data[body : body + length])
            at = body + length
        return data[at:]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if not self.settled and kind != frames.SETTINGS:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS")
        if self._heads.open and (kind != frames.CONTINUATION or number != self._heads.stream):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block is not finished")
        if kind == frames.DATA:
            self._data(flags, number, payload)
        elif kind in {frames.HEADERS, frames.CONTINUATION}:
            headers = self._heads.frame(kind, flags, number, payload)
            if headers is not None:
                self._headers(number, headers, ended=self._heads.ends_stream)
        elif kind == frames.RST_STREAM:
            self._reset(number, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "clients push nothing")
        else:
            inbound.control(self, kind, flags, number, payload)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        stream = self.streams.get(number)
        size = len(payload)
        self._room -= size
        if self._room < 0:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "more than the connection's window")
        if flags & frames.PADDED:
            payload = inbound.unpadded(payload)
        if not payload and not flags & frames.END_STREAM:
            self.spend("frames without data")
        if stream is None or stream.half_closed:
            self._late -= max(size, _TINY)
            self.stale(number, free=self._late >= 0)
            self._give_back(size)
            return
        stream.room -= size
        if stream.room < 0:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "more than the stream's window")
        self._count(stream, size)
        self._hear(stream, payload, ended=bool(flags & frames.END_STREAM))

    def _hear(self, stream: Stream, payload: bytes, *, ended: bool) -> None:
        """Tell a call's receiver what came."""
        try:
            for message in stream.assembler.feed(payload):
                self._effort += 1
                stream.receiver.message(message)
            if ended:
                stream.half_closed = True
                stream.assembler.end()
                stream.receiver.done()
        except RpcError as refusal:
            self._refuse(stream, refusal)

    def _count(self, stream: Stream, size: int) -> None:
        """Give room back for what came: at once to known clients, when the call is over to others."""
        if not stream.accepted:
            stream.held += size
            return
        self._give_back(size)
        stream.credit += size
        if stream.credit >= STREAM_WINDOW // 2:
            stream.room += stream.credit
            self.outbox.control(frames.window_update(stream.id, stream.credit))
            stream.credit = 0

    def _give_back(self, size: int) -> None:
        self._credit += size
        if self._credit >= CONNECTION_WINDOW // 2:
            self._room += self._credit
            self.outbox.control(frames.window_update(0, self._credit))
            self._credit = 0

    def _headers(self, number: int, headers: list[Header], *, ended: bool) -> None:
        self._effort += inbound.weight(self, headers)
        stream = self.streams.get(number)
        if stream is not None:
            if not ended or stream.half_closed:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "headers in the middle of a call")
            self._hear(stream, b"", ended=True)
        elif number <= self._last:
            self.stale(number)
        elif number % 2 == 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        else:
            self._last = number
            self._begin(number, headers, ended=ended)

    def _begin(self, number: int, headers: list[Header], *, ended: bool) -> None:
        """A new call."""
        if not self._allowed.calls.spend(self._now):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many calls")
        if len(self.streams) >= MAX_STREAMS:
            self.outbox.answer(frames.reset(number, ErrorCode.REFUSED_STREAM))
            return
        stream = Stream(number, self, Request(path="", metadata=()), self.initial)
        stream.room = DEFAULT_WINDOW
        self.streams[number] = stream
        try:
            stream.request = read(headers)
            stream.receiver = self._open(stream, stream.request)
        except MalformedHeadersError:
            self.outbox.answer(frames.reset(number, ErrorCode.PROTOCOL_ERROR))
            self._drop(stream)
        except RpcError as refusal:
            stream.half_closed = ended
            self._refuse(stream, refusal)
        else:
            if ended:
                self._hear(stream, b"", ended=True)

    def _refuse(self, stream: Stream, refusal: RpcError) -> None:
        self.yields |= not self._allowed.vain.spend(self._now)
        receiver = stream.receiver
        stream.finish(refusal.code, refusal.details)
        receiver.lost()
        if refusal.elsewhere:
            self.drain()

    def _reset(self, number: int, payload: bytes) -> None:
        inbound.expect(payload, 4)
        stream = self.streams.get(number)
        if stream is None:
            self.stale(number)
            return
        self.yields |= not self._allowed.vain.spend(self._now)
        if not self._allowed.resets.spend(self._now):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many calls are given up")
        self._drop(stream)

    # Its own

    def spend(self, what: str) -> None:
        """Take one frame that costs the client nothing from its budget.

        Raises:
            ProtocolError: there were too many.
        """
        if not self._allowed.frames.spend(self._now):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")

    def stale(self, number: int, *, free: bool = False) -> None:
        """A frame of a stream that is over: it may have been under way, and is ``free`` where that is likely.

        Raises:
            ProtocolError: there never was such a stream, or there were too many.
        """
        if number > self._last or number % 2 == 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"stream {number} was never opened")
        if not free:
            self.spend("frames of calls that are over")

    def _ended(self, stream: Stream) -> None:
        """The end of a stream has been framed."""
        self._give_back(stream.held)
        self.streams.pop(stream.id, None)

    def _drop(self, stream: Stream) -> None:
        """A stream ends without an answer."""
        receiver, stream.receiver = stream.receiver, DEAF
        self.outbox.forget(stream)
        self._ended(stream)
        receiver.lost()

    def _drop_all(self) -> None:
        """A bug in what one of them gives back keeps none of the others."""
        with contextlib.ExitStack() as dropping:
            for stream in self.streams.values():
                dropping.callback(self._drop, stream)

    def _leave(self, code: ErrorCode, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._drop_all()
        self.outbox.control(frames.goaway(self._last, code, reason))
        self._wake()
