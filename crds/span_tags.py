"""Tags of spans that users ask for, in ProxyConfig and in Telemetry (features rows Q5, Q9).

A tag that Envoy would refuse is left out and reported: it would take a whole listener with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from crds.tracing_provider import CustomTag, CustomTags


class Source(Enum):
    """Where a value comes from."""

    LITERAL = "literal"
    ENVIRONMENT = "environment"
    HEADER = "header"
    FORMATTER = "formatter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag: ``value`` is the text, the format, or the name of what holds it; ``default`` stands where it is absent."""

    name: str
    source: Source
    value: str
    default: str = ""


HEADER: Final = re.compile(r":?[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""The name of a header, or a pseudo header."""
_COMMAND: Final = re.compile(r"%(%|[A-Z0-9_]+(\([^()]*\))?(:[0-9]+)?%)")
_ALONE: Final = """
ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_SENT CONNECTION_ID DOWNSTREAM_DIRECT_REMOTE_ADDRESS
DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_LOCAL_ADDRESS DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT
DOWNSTREAM_LOCAL_PORT DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_ISSUER
DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_REMOTE_ADDRESS DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT
DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_SESSION_ID DOWNSTREAM_TLS_VERSION DURATION
FILTER_CHAIN_NAME GRPC_STATUS_NUMBER HOSTNAME PROTOCOL REQUESTED_SERVER_NAME REQUEST_DURATION RESPONSE_CODE
RESPONSE_CODE_DETAILS RESPONSE_DURATION RESPONSE_FLAGS RESPONSE_FLAGS_LONG ROUTE_NAME START_TIME STREAM_ID TRACE_ID
UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_HOST UPSTREAM_HOST_NAME UPSTREAM_LOCAL_ADDRESS
UPSTREAM_LOCAL_URI_SAN UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_URI_SAN UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS
UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_TLS_CIPHER UPSTREAM_TLS_VERSION
UPSTREAM_TRANSPORT_FAILURE_REASON VIRTUAL_CLUSTER_NAME
"""
_TOLD: Final = """
CEL CLUSTER_METADATA DYNAMIC_METADATA ENVIRONMENT FILTER_STATE METADATA PATH QUERY_PARAM REQ RESP START_TIME TRAILER
UPSTREAM_METADATA
"""
ALONE: Final = frozenset(_ALONE.split())
"""Operators that may stand alone."""
TOLD: Final = frozenset(_TOLD.split())
"""Operators that are told of what, in brackets."""


def read(said: CustomTags) -> tuple[Tag, ...]:
    """The tags that can be made, by name."""
    found = (_read(name, said[name]) for name in sorted(said))
    return tuple(tag for tag in found if not _problem(tag))


def problems(said: CustomTags) -> Iterator[tuple[str, str]]:
    """What is wrong with tags: name and reason."""
    for name in sorted(said):
        if problem := _problem(_read(name, said[name])):
            yield name, problem


def _read(name: str, said: CustomTag) -> Tag:
    """One tag; a source that says nothing has an empty value."""
    if said.literal is not None:
        return Tag(name=name, source=Source.LITERAL, value=said.literal.value)
    if said.formatter is not None:
        return Tag(name=name, source=Source.FORMATTER, value=said.formatter.value)
    for source, lookup in ((Source.ENVIRONMENT, said.environment), (Source.HEADER, said.header)):
        if lookup is not None:
            return Tag(name=name, source=source, value=lookup.name, default=lookup.default_value)
    return Tag(name=name, source=Source.LITERAL, value="")


def _problem(tag: Tag) -> str:
    if not tag.name:
        return "a tag has no name"
    if not tag.value:
        return "says neither a value nor where to find one"
    if tag.source is Source.HEADER and not HEADER.fullmatch(tag.value):
        return f"{tag.value!r} is no name of a header"
    if tag.source is Source.FORMATTER:
        return _wrong_format(tag.value)
    return ""


def _wrong_format(text: str) -> str:
    if "%" in _COMMAND.sub("", text):
        return "has a % that begins no operator (%% is one)"
    for found in _COMMAND.finditer(text):
        said, about = found.group(1).rstrip("%"), found.group(2)
        name = re.split(r"[(:]", said)[0]
        if said and name not in (TOLD if about else ALONE):
            return f"Envoy knows no operator {found.group(0)}"
    return ""
