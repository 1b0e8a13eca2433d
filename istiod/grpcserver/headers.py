"""Header blocks of one connection, put together and decoded (RFC 9113 section 4.3, RFC 7541).

Blocks of all streams share one table, so that each has to be decoded, also those of streams that are refused. But the
first of a connection meets an empty table, and is the same for a thousand Envoys; mostly there is no second.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import hpack

from istiod.grpcserver import frames, inbound
from istiod.grpcserver.frames import ErrorCode, ProtocolError
from istiod.grpcserver.request import Header

MAX_BLOCK: Final = 16_384
"""Bytes of one encoded block."""
MAX_CONTINUATIONS: Final = 8
_SHORT: Final = 512
"""Bytes of a first block that is remembered: one with a token is longer, and nobody else's."""
_PRIORITY: Final = 5
"""Bytes of an old-style priority."""


class Heads:
    """``stream`` and ``ends_stream`` are of the newest block; ``open`` while it is not whole."""

    __slots__ = ("_block", "_count", "_decoder", "_first", "ends_stream", "open", "stream")

    def __init__(self) -> None:
        self._decoder: hpack.Decoder | None = None
        self._first: bytes | None = None
        self._block = bytearray()
        self._count = 0
        self.open = False
        self.stream = 0
        self.ends_stream = False

    def frame(self, kind: int, flags: int, number: int, payload: bytes) -> list[Header] | None:
        """Take a HEADERS or CONTINUATION frame; gives the header list when it is whole.

        Raises:
            ProtocolError: the block is malformed or too large.
        """
        if kind == frames.HEADERS:
            self._begin(flags, number, payload)
        else:
            self._go_on(payload)
        if len(self._block) > MAX_BLOCK:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large")
        self.open = not flags & frames.END_HEADERS
        if self.open:
            return None
        block, self._block = bytes(self._block), bytearray()
        return self._decode(block)

    def _begin(self, flags: int, number: int, payload: bytes) -> None:
        if number == 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "headers belong to a stream")
        if flags & frames.PADDED:
            payload = inbound.unpadded(payload)
        if flags & frames.PRIORITIZED:
            if len(payload) < _PRIORITY:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a priority is cut off")
            payload = payload[_PRIORITY:]
        self.stream = number
        self.ends_stream = bool(flags & frames.END_STREAM)
        self._count = 0
        self._block += payload

    def _go_on(self, payload: bytes) -> None:
        if not self.open:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
        self._count += 1
        if self._count > MAX_CONTINUATIONS:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a header block is in too many pieces")
        self._block += payload

    def _decode(self, block: bytes) -> list[Header]:
        try:
            if self._decoder is None and self._first is None and len(block) <= _SHORT:
                self._first = block
                return list(_first(block))
            return _headers(self._decoder or self._begun(), block)
        except hpack.OversizedHeaderListError as error:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a header list is too large") from error
        except hpack.HPACKError as error:
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, "a header block can't be decoded") from error

    def _begun(self) -> hpack.Decoder:
        """A decoder with the table that the first block left."""
        self._decoder = _decoder()
        if self._first is not None:
            self._decoder.decode(self._first, raw=True)
        return self._decoder


def _decoder() -> hpack.Decoder:
    return hpack.Decoder(max_header_list_size=inbound.MAX_HEADER_LIST)


def _headers(decoder: hpack.Decoder, block: bytes) -> list[Header]:
    return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]


@lru_cache(maxsize=64)
def _first(block: bytes) -> tuple[Header, ...]:
    """The first block of a connection."""
    return tuple(_headers(_decoder(), block))
