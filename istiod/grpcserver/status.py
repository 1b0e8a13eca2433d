"""How calls end: gRPC's status codes, and what they look like on the wire (gRPC over HTTP/2, Responses)."""

from __future__ import annotations

import enum
from typing import Final

MAX_DETAILS_CHARS: Final = 2_000
"""Clients limit trailers to 8 KB, and each character may take up to twelve of them."""
_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}


class Code(enum.IntEnum):
    """Status codes (grpc/grpc, doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call that ends with another status than OK; the details are for the client to read.

    ``elsewhere``: the client is told to make its next calls over another connection, which may lead to another replica.
    """

    def __init__(self, code: Code, details: str, *, elsewhere: bool = False) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details
        self.elsewhere = elsewhere


def percent_encoded(details: str) -> bytes:
    """``grpc-message``: printable ASCII as it is, all else as UTF-8 in percent signs."""
    raw = details[:MAX_DETAILS_CHARS].encode("utf-8", "replace")
    if raw.isascii() and details.isprintable() and b"%" not in raw:  # as nearly all are, and refusals come in floods
        return raw
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in raw)
