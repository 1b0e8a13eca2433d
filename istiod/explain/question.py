"""The request that the user asks about, as a command line or a form says it."""

from __future__ import annotations

import ipaddress
import json
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_PORTS: Final = {"http": 80, "https": 443, "grpc": 80, "tcp": 0, "tls": 443}
OUTSIDE: Final = "203.0.113.10"
"""Who calls a gateway where nobody is named, and where names lead that the mesh does not know (RFC 5737)."""


class QuestionError(Exception):
    """A part of the question means nothing; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request. ``scheme`` is http, https, grpc, tcp or tls; ``address`` is where the name leads, "" by the mesh."""

    workload: str
    namespace: str = ""
    scheme: str = "http"
    host: str = ""
    port: int = 80
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, object] | None = None
    address: str = ""
    source: str = ""
    sni: str = ""
    moment: float | None = None

    @property
    def http(self) -> bool:
        """Whether a proxy that sees the bytes sees a request."""
        return self.scheme in ("http", "https", "grpc")

    @property
    def authority(self) -> str:
        """The Host header: with the port, unless it is the scheme's own."""
        said = self.headers.get("host", "")
        default = self.port == _PORTS[self.scheme]
        name = f"[{self.host}]" if ":" in self.host else self.host
        return said or (name if default else f"{name}:{self.port}")

    @property
    def encrypted(self) -> bool:
        """Whether the client itself speaks TLS."""
        return self.scheme in ("https", "tls")

    def said(self) -> str:
        """The question on one line."""
        head = f"{self.method} " if self.http else ""
        path = self.path if self.http else ""
        headers = "".join(f"  {name}: {value}" for name, value in self.headers.items())
        return f"{self.workload} -> {head}{self.scheme}://{self.host}:{self.port}{path}{headers}"


def parsed(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path (with its query) of a URL; without a scheme it is HTTP.

    Raises:
        QuestionError: it is none.
    """
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise QuestionError(f"{url!r} is no URL: {error}") from error
    if port == 0:
        raise QuestionError(f"{url!r} is no URL: there is no port 0")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise QuestionError(f"{url!r} is no URL of {', '.join(_PORTS)}://HOST[:PORT][/PATH]")
    port = port or _PORTS[parts.scheme]
    if not port:
        raise QuestionError(f"{url!r} needs a port")
    query = f"?{parts.query}" if parts.query else ""
    return parts.scheme, parts.hostname, port, (parts.path or "/") + query


def headers(said: Iterable[str]) -> dict[str, str]:
    """Headers of ``NAME: VALUE``, names in lower case; several of a name are joined.

    Raises:
        QuestionError: one has no colon.
    """
    found: dict[str, str] = {}
    for each in said:
        name, colon, value = each.partition(":")
        if not colon or not name.strip():
            raise QuestionError(f"{each!r} is no header; write NAME: VALUE")
        name, value = name.strip().lower(), value.strip()
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def claims(text: str) -> Mapping[str, object] | None:
    """The claims of a token, as JSON; "" is none.

    Raises:
        QuestionError: it is no JSON object.
    """
    if not text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QuestionError(f"claims: {error}") from error
    if not isinstance(found, dict):
        raise QuestionError('claims are no JSON object such as {"iss": "https://issuer.example", "sub": "jason"}')
    return found


def is_address(text: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
