"""Frames that steer the connection: SETTINGS, PING, WINDOW_UPDATE and what is passed over (RFC 9113 section 6)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, Protocol

from istiod.grpcserver import frames
from istiod.grpcserver.frames import MAX_FRAME, MAX_WINDOW, ErrorCode, ProtocolError
from istiod.grpcserver.outbox import Outbox
from istiod.grpcserver.request import Header
from istiod.grpcserver.stream import Stream

MAX_HEADER_LIST: Final = 16_384
"""Bytes of a header list as it is counted (RFC 9113 section 6.5.2); a service account's token has 1 to 2 KB."""
STRANGER: Final = 4
"""What a call counts for whose client no service knows yet, or that yields: mostly it is refused or given up."""
LONG: Final = 1_024
"""Bytes of headers that count for one more: each has to be decoded and checked."""
_SETTING: Final = 6
_PING: Final = 8
_PRIORITY: Final = 5
_WINDOW: Final = 4
_LARGEST_FRAME: Final = 2**24 - 1
_DEFAULT_TABLE: Final = 4_096


class Steered(Protocol):
    """The connection, as far as these frames touch it."""

    outbox: Outbox
    streams: dict[int, Stream]
    initial: int
    settled: bool
    yields: bool

    def spend(self, what: str) -> None:
        """See Http2Connection."""
        ...

    def stale(self, number: int) -> None:
        """See Http2Connection."""
        ...


def control(of: Steered, kind: int, flags: int, number: int, payload: bytes) -> None:
    """Take a frame that is neither data nor headers.

    Raises:
        ProtocolError: it is malformed, or one of too many.
    """
    if kind == frames.WINDOW_UPDATE:
        _window(of, number, payload)
    elif kind == frames.SETTINGS:
        _settings(of, flags, number, payload)
    elif kind == frames.PING:
        _ping(of, flags, number, payload)
    else:  # PRIORITY, GOAWAY, and kinds that are yet to come: passed over
        of.spend(f"frames of kind {kind}")
        if kind == frames.PRIORITY:
            expect(payload, _PRIORITY)
        if (kind == frames.PRIORITY and not number) or (kind == frames.GOAWAY and number):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a frame of kind {kind} on stream {number}")


def weight(of: Steered, headers: Iterable[Header]) -> int:
    """What headers count for before others have their turn; a message counts for 1."""
    size = sum(len(name) + len(value) for name, value in headers)
    return (1 if served(of) else STRANGER) + size // LONG


def served(of: Steered) -> bool:
    """Whether a service knows the client of one of its calls, and neither that nor the connection yields."""
    if not of.yields:
        for stream in of.streams.values():  # asked at each turn, where any() would cost twice as much
            if stream.accepted and not stream.yields:
                return True
    return False


def unpadded(payload: bytes) -> bytes:
    """A payload without its padding.

    Raises:
        ProtocolError: there is more padding than payload.
    """
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]


def expect(payload: bytes, size: int) -> None:
    """See that a payload has its one size.

    Raises:
        ProtocolError: it has not.
    """
    if len(payload) != size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"{len(payload)} bytes where {size} belong")


def _window(of: Steered, number: int, payload: bytes) -> None:
    expect(payload, _WINDOW)
    of.spend("window updates")
    count = int.from_bytes(payload, "big") & MAX_WINDOW
    if not count:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
    if not number:
        of.outbox.widen(count)
    elif (stream := of.streams.get(number)) is None:
        of.stale(number)
    else:
        _grow(of, stream, count)


def _grow(of: Steered, stream: Stream, count: int) -> None:
    stream.window += count
    if stream.window > MAX_WINDOW:
        raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
    of.outbox.queue(stream)


def _settings(of: Steered, flags: int, number: int, payload: bytes) -> None:
    if number:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "settings belong to no stream")
    of.spend("settings")
    if flags & frames.ACK:
        expect(payload, 0)
        return
    if len(payload) % _SETTING:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a setting is cut off")
    of.settled = True
    before = of.initial
    for key, value in struct.iter_unpack(">HI", payload):
        _set(of, key, value)
    if of.initial != before:  # once, whatever number of them the frame holds
        for stream in of.streams.values():
            _grow(of, stream, of.initial - before)
    of.outbox.answer(frames.frame(frames.SETTINGS, frames.ACK, 0))


def _set(of: Steered, key: int, value: int) -> None:
    if key == frames.SETTINGS_INITIAL_WINDOW_SIZE:
        if value > MAX_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the initial window is too large")
        of.initial = value
    elif key == frames.SETTINGS_MAX_FRAME_SIZE:
        if not MAX_FRAME <= value <= _LARGEST_FRAME:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"frames of {value} bytes")
        of.outbox.max_frame = min(value, MAX_FRAME)
    elif key == frames.SETTINGS_HEADER_TABLE_SIZE:
        of.outbox.no_table |= value < _DEFAULT_TABLE
    elif key == frames.SETTINGS_ENABLE_PUSH and value > 1:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "push is on or off")


def _ping(of: Steered, flags: int, number: int, payload: bytes) -> None:
    expect(payload, _PING)
    if number:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "pings belong to no stream")
    of.spend("pings")
    if not flags & frames.ACK:
        of.outbox.answer(frames.frame(frames.PING, frames.ACK, 0, payload))
