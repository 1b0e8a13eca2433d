"""What a rule of an AuthorizationPolicy can look at, and how a condition's ``key`` names it (features rows N5-N7).

Source: Istio's conditions reference and pkg/config/security. What Envoy compares with is istiod.envoy's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Attribute(Enum):
    """One attribute of a connection or a request. Those of operations are fields of the API and have no key."""

    SOURCE_IP = "source.ip"
    REMOTE_IP = "remote.ip"
    SOURCE_NAMESPACE = "source.namespace"
    SOURCE_PRINCIPAL = "source.principal"
    SERVICE_ACCOUNT = "source.serviceAccount"
    TRUST_DOMAIN = "source.trustDomain"
    REQUEST_PRINCIPAL = "request.auth.principal"
    AUDIENCES = "request.auth.audiences"
    PRESENTER = "request.auth.presenter"
    CLAIM = "request.auth.claims"
    HEADER = "request.headers"
    INLINE_HEADER = "request.experimental.inline.headers"
    DESTINATION_IP = "destination.ip"
    DESTINATION_PORT = "destination.port"
    SNI = "connection.sni"
    METADATA = "experimental.envoy.filters"
    HOST = "host"
    METHOD = "method"
    PATH = "path"

    @property
    def of_requests(self) -> bool:
        """Whether only HTTP has it (N9)."""
        return self in _OF_REQUESTS

    @property
    def is_address(self) -> bool:
        """Whether its values are IP addresses and CIDR blocks."""
        return self in _ADDRESSES


_OF_REQUESTS: Final = frozenset(
    {
        Attribute.REQUEST_PRINCIPAL,
        Attribute.AUDIENCES,
        Attribute.PRESENTER,
        Attribute.CLAIM,
        Attribute.HEADER,
        Attribute.INLINE_HEADER,
        Attribute.HOST,
        Attribute.METHOD,
        Attribute.PATH,
    }
)
_ADDRESSES: Final = frozenset({Attribute.SOURCE_IP, Attribute.REMOTE_IP, Attribute.DESTINATION_IP})
_PLAIN: Final = {
    each.value: each
    for each in Attribute
    if each
    not in {
        Attribute.HOST,
        Attribute.METHOD,
        Attribute.PATH,
        Attribute.CLAIM,
        Attribute.HEADER,
        Attribute.INLINE_HEADER,
        Attribute.METADATA,
    }
}
_HEADER_NAME: Final = re.compile(r":?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+\Z")
"""Envoy's rule for names of headers (HTTP_HEADER_NAME)."""
_BRACKETS: Final = re.compile(r"(?:\[[^\[\]]+\])+\Z")
_FILTER: Final = re.compile(r"experimental\.(envoy\.filters\.[^\[\]]+)\[(.+)\]\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A condition's key, read. ``path`` holds the header's name, the claims from outer to inner, or filter and key."""

    attribute: Attribute
    path: tuple[str, ...] = ()


def read(key: str) -> Key | None:
    """What a condition's key names; None where there is no such attribute, or its brackets are wrong."""
    if key in _PLAIN:
        return Key(attribute=_PLAIN[key])
    for attribute in (Attribute.INLINE_HEADER, Attribute.HEADER):
        if key.startswith(attribute.value):
            name = _one_name(key.removeprefix(attribute.value))
            return Key(attribute=attribute, path=(name,)) if name else None
    if key.startswith(Attribute.CLAIM.value):
        names = key.removeprefix(Attribute.CLAIM.value)
        return Key(attribute=Attribute.CLAIM, path=tuple(names[1:-1].split("]["))) if _BRACKETS.match(names) else None
    if found := _FILTER.match(key):
        return Key(attribute=Attribute.METADATA, path=(found[1], found[2]))
    return None


def _one_name(brackets: str) -> str:
    """The header in brackets; "" where that is none."""
    name = brackets[1:-1] if brackets.startswith("[") and brackets.endswith("]") else ""
    return name if _HEADER_NAME.match(name) else ""


_OPERATORS: Final = {"{*}": "*", "{**}": "**"}
_LITERAL: Final = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+\Z")
"""Envoy's rule for the fixed parts of a template (uri_template)."""


def is_template(path: str) -> bool:
    """Whether a path has ``{*}`` (one segment) or ``{**}`` (any number of them) in it."""
    return any(operator in path for operator in _OPERATORS)


def template(path: str) -> str | None:
    """A path template as Envoy writes it; None where Envoy would refuse it.

    A segment is fixed or an operator as a whole; after ``{**}`` there is no other operator.
    """
    first, *segments = path.split("/")
    if first or not segments:
        return None
    operators = [segment for segment in segments if segment in _OPERATORS]
    fixed = [segment for segment in segments if segment not in _OPERATORS]
    if segments[-1] == "":
        fixed.pop()
    if not all(_LITERAL.match(segment) for segment in fixed) or "{**}" in operators[:-1]:
        return None
    return "/".join(("", *(_OPERATORS.get(segment, segment) for segment in segments)))
