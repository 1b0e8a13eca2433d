"""The question: one connection, and on it the first request where it is HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class UndecidedError(Exception):
    """The configuration holds something whose effect cannot be told; the message says what."""


class Direction(Enum):
    """How the connection comes to the proxy: captured on its way out or in, or made to the proxy itself."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"
    GATEWAY = "gateway"


class Tls(Enum):
    """What the client speaks: nothing around the bytes, TLS without a certificate, or TLS with one."""

    NONE = "plain text"
    SIMPLE = "TLS"
    MUTUAL = "mTLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a proxy sees of a call.

    ``headers`` have names in lower case; several values are joined with commas. ``unknown`` are headers that a proxy
    before this one has set to what only it knows. ``principal`` is the URI in the client's certificate. ``claims`` are
    those of a token that is good, whatever stands in the headers; None: tokens are looked for in the request.
    ``moment`` is the time in seconds since 1970, for the validity of tokens; None: it is not looked at.
    """

    direction: Direction = Direction.OUTBOUND
    source: str = "192.0.2.1"
    source_port: int = 40000
    destination: str
    port: int
    http: bool = True
    http2: bool = False
    tls: Tls = Tls.NONE
    sni: str = ""
    alpn: tuple[str, ...] = ()
    principal: str = ""
    unnamed: bool = False
    """It has a certificate that was accepted, and nobody knows of whom."""
    authority: str = ""
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    claims: Mapping[str, object] | None = None
    moment: float | None = None
    remote: str = ""
    """The address that the connection manager takes for the client's; "" is ``source``."""

    def header(self, name: str) -> str | None:
        """A header or pseudo header as Envoy's matchers see it; None where there is none.

        Raises:
            UndecidedError: its value is not known.
        """
        name = name.lower()
        if name in self.unknown:
            raise UndecidedError(f"the value of header {name} is made by a proxy while the request passes")
        pseudo = {":authority": self.authority, "host": self.authority, ":path": self.path, ":method": self.method}
        if name in pseudo:
            return pseudo[name]
        if name == ":scheme":
            return "http" if self.tls is Tls.NONE else "https"
        return self.headers.get(name)

    @property
    def plain_path(self) -> str:
        """The path without query and fragment."""
        return self.path.partition("?")[0].partition("#")[0]

    @property
    def client(self) -> str:
        """The client's address as far as the connection manager trusts what it is told."""
        return self.remote or self.source
