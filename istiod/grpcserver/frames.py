"""HTTP/2 frames as bytes (RFC 9113 sections 4 and 6), and the few header blocks that a gRPC server says (RFC 7541).

Header fields are written as literals that are never put into the table, so that nothing has to be remembered.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

from istiod.grpcserver.status import Code, percent_encoded

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD: Final = 9
"""Bytes before a frame's payload."""
MAX_FRAME: Final = 16_384
"""What we take, and the least that everybody takes."""
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535
MAX_STREAM_ID: Final = 2**31 - 1

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

SETTINGS_HEADER_TABLE_SIZE: Final = 1
SETTINGS_ENABLE_PUSH: Final = 2
SETTINGS_MAX_CONCURRENT_STREAMS: Final = 3
SETTINGS_INITIAL_WINDOW_SIZE: Final = 4
SETTINGS_MAX_FRAME_SIZE: Final = 5
SETTINGS_MAX_HEADER_LIST_SIZE: Final = 6

_HEAD: Final = struct.Struct(">HBBBI")
_NO_TABLE: Final = b"\x20"
"""A dynamic table of no bytes: said where the client wants one smaller than the default (RFC 7541 section 4.2)."""
_STATUS_200: Final = b"\x88"
_LITERAL: Final = b"\x00"
_SEVEN_BITS: Final = 0x7F


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ends (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


class ProtocolError(Exception):
    """The client breaks the protocol or a limit: its connection ends."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """A frame without its payload."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values.items()))


def window_update(stream: int, count: int) -> bytes:
    """Let the client send ``count`` more bytes; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, count.to_bytes(4, "big"))


def reset(stream: int, code: ErrorCode) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: ErrorCode, reason: str = "") -> bytes:
    """A GOAWAY frame: streams above ``last`` were not looked at."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode()[:200])


def response(stream: int, *, no_table: bool) -> bytes:
    """The head of an answer."""
    block = (_NO_TABLE if no_table else b"") + _RESPONSE
    return frame(HEADERS, END_HEADERS, stream, block)


def trailers(stream: int, code: Code, details: str) -> bytes:
    """The end of an answer."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, _status(code, details))


def trailers_only(stream: int, code: Code, details: str, *, no_table: bool) -> bytes:
    """An answer that is its end."""
    block = (_NO_TABLE if no_table else b"") + _RESPONSE + _status(code, details)
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block)


def _literal(name: bytes, value: bytes) -> bytes:
    return _LITERAL + _string(name) + _string(value)


def _string(value: bytes) -> bytes:
    """A string literal without Huffman's coding (RFC 7541 sections 5.1 and 5.2)."""
    if len(value) < _SEVEN_BITS:
        return bytes((len(value),)) + value
    left = len(value) - _SEVEN_BITS
    out = bytearray((_SEVEN_BITS,))
    while left > _SEVEN_BITS:
        out.append(left & _SEVEN_BITS | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out) + value


def _status(code: Code, details: str) -> bytes:
    block = _literal(b"grpc-status", str(int(code)).encode())
    return block + _literal(b"grpc-message", percent_encoded(details)) if details else block


_RESPONSE: Final = (
    _STATUS_200 + _literal(b"content-type", b"application/grpc") + _literal(b"grpc-accept-encoding", b"identity")
)
