"""What waits to be sent on one connection, and how much of it may go: HTTP/2's windows (RFC 9113 section 5.2).

Control frames go at once. A small message that fits is framed at once, too; all others wait in their streams, and
frames are cut from them, in turn, only when the socket takes more: a large response is never copied as a whole. What
many streams send is in frames already: see cuts.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Final

from istiod.grpcserver import cuts, frames, messages
from istiod.grpcserver.cuts import PAYLOAD, UNIT, Cuts
from istiod.grpcserver.frames import DEFAULT_WINDOW, MAX_FRAME, MAX_WINDOW, ErrorCode, ProtocolError
from istiod.grpcserver.stream import Stream

MAX_CONTROL: Final = 65_536
"""Bytes of answers to pings and settings that may wait for a client that does not read them."""
HONEST: Final = 256
"""Bytes from which on a frame of ours may be the reason for frames of the client's."""


def _nobody(_: Stream) -> None:
    """Hears of no stream."""


class Outbox:
    """``ended`` is told each stream whose end has been framed; ``shared`` has frames that many connections send."""

    __slots__ = (
        "_control",
        "_cuts",
        "_ended",
        "_queue",
        "drained",
        "earned",
        "full",
        "max_frame",
        "no_table",
        "window",
    )

    def __init__(self, ended: Callable[[Stream], None], shared: Cuts | None = None) -> None:
        self.window = DEFAULT_WINDOW
        self.max_frame = MAX_FRAME
        self.no_table = False
        self.full = False
        self.drained: list[Stream] = []
        self.earned = 0
        self._ended = ended
        self._cuts = shared or Cuts()
        self._control = bytearray()
        self._queue: collections.deque[Stream] = collections.deque()

    @property
    def empty(self) -> bool:
        """Whether nothing waits, not even for a window: mostly so, and asked after each thing that a client says."""
        return not (self._control or self._queue)

    def control(self, frame: bytes) -> None:
        """Send a frame that windows do not hold."""
        self._control += frame

    def answer(self, frame: bytes) -> None:
        """Send one that the client asked for.

        Raises:
            ProtocolError: too many wait already.
        """
        if len(self._control) > MAX_CONTROL:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "answers are not read")
        self._control += frame

    def message(self, stream: Stream, parts: tuple[bytes, ...]) -> None:
        """Send a message of a stream, as soon as its window allows it."""
        length = sum(map(len, parts))
        size = length + messages.PREFIX
        fits = size <= self.max_frame and size <= self.window and size <= stream.window
        if not fits or stream.parts or self.full:
            self._append(stream, length, parts)
            self.queue(stream)
            return
        self._start(stream)
        self._control += frames.head(size, frames.DATA, 0, stream.id) + messages.prefix(length)
        for part in parts:
            self._control += part
        self._count(stream, size)
        self.earned += 1
        stream.turn += 1

    def _append(self, stream: Stream, length: int, parts: tuple[bytes, ...]) -> None:
        """Have a message wait. What there are frames of already stands before all else that the stream has pending."""
        whole = self._cuts.of(parts[0], length, stream.id) if parts and not stream.parts else None
        if whole is None:
            stream.parts.append(memoryview(messages.prefix(length)))
        else:
            stream.whole = whole
            stream.parts.append(memoryview(parts[0])[cuts.taken(parts[0]) :])
            parts = parts[1:]
        stream.parts.extend(memoryview(part) for part in parts if part)

    def end(self, stream: Stream, ending: bytes) -> None:
        """End a stream with this frame, after what it has pending."""
        stream.ending = ending
        if not stream.parts:
            self._end(stream)

    def queue(self, stream: Stream) -> None:
        """A stream may have something to send, or more of a window."""
        if stream.parts and not stream.queued and stream.window > 0:
            stream.queued = True
            self._queue.append(stream)

    def forget(self, stream: Stream) -> None:
        """A stream is over: what it has pending is dropped."""
        stream.parts.clear()
        stream.whole = None
        if stream.queued:
            stream.queued = False
            self._queue.remove(stream)

    def close(self) -> None:
        """The connection is gone: nothing is sent any more, and nobody is told of it."""
        self._control.clear()
        self.drained.clear()
        self._ended = _nobody

    def widen(self, count: int) -> None:
        """The client takes so many more bytes on this connection.

        Raises:
            ProtocolError: more than there may be.
        """
        self.window += count
        if self.window > MAX_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    def take(self, limit: int) -> bytes | memoryview:
        """Up to ``limit`` bytes to send now, of which control frames are not part; a stream's first head may add some.

        A few bytes more would be a record of TLS, and a call of the kernel, for themselves. ``drained`` gets the
        streams that have nothing pending since.
        """
        control, self._control = self._control, bytearray()
        if not self._queue:
            return bytes(control)
        out: list[bytes | bytearray | memoryview] = [control]
        room = limit - len(control) - frames.HEAD
        while room > 0 and self._queue and self.window > 0:
            stream = self._queue.popleft()
            stream.queued = False
            if stream.whole is None:
                room -= self._cut(stream, room, out) + frames.HEAD
            else:
                room -= self._slice(stream, stream.whole, room, out) + frames.HEAD
            self.queue(stream)
        match out:
            case [b"", memoryview() as shared]:
                return shared
        return b"".join(out)

    def _slice(self, stream: Stream, whole: memoryview, room: int, out: list[bytes | bytearray | memoryview]) -> int:
        """Take as many of its frames as fit, or else a part of the first; gives its bytes, without one head.

        Where a frame is begun, it is finished first, so that all after it are whole again.
        """
        begun = len(whole) % UNIT
        window = min(self.window, stream.window)
        count = 0 if begun else min((room + frames.HEAD) // UNIT, window // PAYLOAD, len(whole) // UNIT)
        if not count and not begun and window >= PAYLOAD and (len(out) > 1 or out[0]):
            return room  # the next chunk has room for whole frames
        if window <= 0:  # it shrank while the stream waited for its turn
            return 0
        if not stream.started:
            stream.started = True
            out.append(self.response(stream))
        if count:
            size, end = count * UNIT - frames.HEAD, count * UNIT
            out.append(whole[:end])
            self._count(stream, count * PAYLOAD)
            self.earned += count - 1
        else:
            at = 0 if begun else frames.HEAD
            size = min(room, window, begun or PAYLOAD)
            end = at + size
            out += (frames.head(size, frames.DATA, 0, stream.id), whole[at:end])
            self._count(stream, size)
        stream.whole = whole[end:] if end < len(whole) else None
        return size

    def _cut(self, stream: Stream, room: int, out: list[bytes | bytearray | memoryview]) -> int:
        """Cut one frame from what the stream has pending; gives its bytes."""
        most = size = min(room, self.window, stream.window, self.max_frame)
        if most <= 0:  # its window shrank while it waited for its turn
            return 0
        if not stream.started:
            stream.started = True
            out.append(self.response(stream))
        at = len(out)
        while size and stream.parts:
            part = stream.parts[0]
            if len(part) <= size:
                out.append(stream.parts.popleft())
                size -= len(part)
            else:
                out.append(part[:size])
                stream.parts[0] = part[size:]
                size = 0
        out.insert(at, frames.head(most - size, frames.DATA, 0, stream.id))
        self._count(stream, most - size)
        if not stream.parts:
            self._drain(stream, out)
        return most - size

    def _drain(self, stream: Stream, out: list[bytes | bytearray | memoryview]) -> None:
        stream.turn += 1
        self.earned += 1
        if stream.ending is None:
            self.drained.append(stream)
        else:
            out.append(stream.ending)
            self._ended(stream)

    def response(self, stream: Stream) -> bytes:
        """The head of a stream's answer, said once."""
        no_table, self.no_table = self.no_table, False
        return frames.response(stream.id, no_table=no_table)

    def _start(self, stream: Stream) -> None:
        if not stream.started:
            stream.started = True
            self._control += self.response(stream)

    def _end(self, stream: Stream) -> None:
        self._control += stream.ending or b""
        self._ended(stream)

    def _count(self, stream: Stream, size: int) -> None:
        self.window -= size
        stream.window -= size
        stream.taken += size
        self.earned += size >= HONEST
