"""The head of a call: a decoded header list, checked, as one value (RFC 9113 section 8.3, gRPC over HTTP/2, Requests).

Headers that break HTTP are the connection's fault and end its stream; headers that are no gRPC call are answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from istiod.grpcserver.status import Code, RpcError

Header = tuple[bytes, bytes]
_PSEUDO: Final = frozenset((b":method", b":path", b":scheme", b":authority"))
_OF_CONNECTIONS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+\-.^_`|~]+")
_VALUE: Final = re.compile(rb"[^\x00\r\n]*")
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_BEARER: Final = "Bearer "
_CONTENT_TYPE: Final = b"application/grpc"


class MalformedHeadersError(ValueError):
    """The headers are no HTTP request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks for. ``timeout`` in seconds, None for none; ``metadata`` without pseudo-headers."""

    path: str
    metadata: tuple[Header, ...]
    timeout: float | None = None

    def values(self, name: bytes) -> tuple[str, ...]:
        """Every value of a metadata key; what is not ASCII is replaced."""
        return tuple(value.decode("ascii", "replace") for key, value in self.metadata if key == name)

    def bearer(self) -> str:
        """The caller's one token; "" if there is none, or more than one."""
        values = self.values(b"authorization")
        if len(values) != 1 or not values[0].startswith(_BEARER):
            return ""
        return values[0].removeprefix(_BEARER).strip()


def read(headers: Iterable[Header]) -> Request:
    """A header list as a request.

    Raises:
        MalformedHeadersError: it is no HTTP request.
        RpcError: it is no gRPC call, or one that we can't take.
    """
    pseudo: dict[bytes, bytes] = {}
    metadata: list[Header] = []
    for name, value in headers:
        if name[:1] == b":":
            if metadata or name in pseudo or name not in _PSEUDO:
                raise MalformedHeadersError(f"pseudo-header {name[:40]!r} is unknown, late or said twice")
            pseudo[name] = value
        else:
            metadata.append((name, value))
            _check(name, value)
    if b":method" not in pseudo or b":scheme" not in pseudo or not pseudo.get(b":path", b"").startswith(b"/"):
        raise MalformedHeadersError("a pseudo-header is missing")
    known = dict(metadata)
    _refuse(pseudo[b":method"], known)
    return Request(
        path=pseudo[b":path"].decode("ascii", "replace"),
        metadata=tuple(metadata),
        timeout=_timeout(known.get(b"grpc-timeout")),
    )


def _check(name: bytes, value: bytes) -> None:
    of_connection = name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers")  # RFC 9113 section 8.2.2
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or of_connection:
        raise MalformedHeadersError(f"header {name[:40]!r} may not be in HTTP/2")


def _refuse(method: bytes, known: dict[bytes, bytes]) -> None:
    """Refuse what is HTTP, but no call that we take."""
    if method != b"POST" or not known.get(b"content-type", b"").startswith(_CONTENT_TYPE):
        raise RpcError(Code.INTERNAL, "only gRPC is served here: POST with content-type application/grpc")
    if b"te" not in known:
        raise RpcError(Code.INTERNAL, "te: trailers is missing: a proxy between us does not know gRPC")
    if known.get(b"grpc-encoding", b"identity") != b"identity":
        raise RpcError(Code.UNIMPLEMENTED, "compressed messages are not taken")


def _timeout(value: bytes | None) -> float | None:
    if value is None:
        return None
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise RpcError(Code.INTERNAL, "grpc-timeout is malformed")
    return int(found[1]) * _UNITS[found[2]]
