"""gRPC messages in a stream of bytes: each has a flag and a length before it (Length-Prefixed-Message)."""

from __future__ import annotations

from typing import Final

from istiod.grpcserver.status import Code, RpcError

PREFIX: Final = 5
"""Bytes before a message."""


def prefix(length: int) -> bytes:
    """What stands before an uncompressed message of this length."""
    return b"\0" + length.to_bytes(4, "big")


class Assembler:
    """Puts one stream's messages together; holds at most one, of ``limit`` bytes, and what came after it."""

    __slots__ = ("_rest", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes in; gives the messages that are whole now.

        Raises:
            RpcError: a message is compressed, or longer than the limit.
        """
        if not self._rest and len(data) >= PREFIX and self._length(data) == len(data) - PREFIX:  # as nearly always
            return [data[PREFIX:]]
        self._rest += data
        found, at = [], 0
        while len(self._rest) - at >= PREFIX:
            end = at + PREFIX + self._length(self._rest[at : at + PREFIX])
            if end > len(self._rest):
                break
            found.append(bytes(self._rest[at + PREFIX : end]))
            at = end
        del self._rest[:at]
        return found

    def end(self) -> None:
        """Nothing more comes.

        Raises:
            RpcError: a message has begun and not ended.
        """
        if self._rest:
            raise RpcError(Code.INTERNAL, "the call ended in the middle of a message")

    def _length(self, data: bytes | bytearray) -> int:
        if data[0]:
            raise RpcError(Code.UNIMPLEMENTED, "compressed messages are not taken")
        length = int.from_bytes(data[1:PREFIX], "big")
        if length > self.limit:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"a message of {length} bytes; the limit is {self.limit}")
        return length
