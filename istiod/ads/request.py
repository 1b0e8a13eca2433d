"""What a client says on a stream, decoded: a request, an ACK or a NACK, in either protocol, as one value.

The bytes are the client's, so the limits stand here (features rows SEC20 and SEC22). Who the client is stays with
istiod.ads.auth, what follows from a request with istiod.ads.session.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from istiod.config.resource import delimited
from wire import names, node

WILDCARD: Final = "*"
"""Asks for all of a type."""
MAX_NAMES: Final = 20_000
MAX_NAME_CHARS: Final = 4_096
"""Far beyond any name of ours: a host has 253 characters."""
_SMALL: Final = 65_536
"""Bytes of a message whose names need no look: so much of them does no harm, and most messages are smaller."""
MAX_METADATA_BYTES: Final = 65_536
MAX_ID_BYTES: Final = 1_024
MAX_ERROR_CHARS: Final = 4_096


_TYPE_URL: Final = b"\x12"
"""Tag of DeltaDiscoveryRequest.type_url, field 2."""
_NONCE: Final = b"\x32"
"""Tag of its response_nonce, field 6."""
_ACK_HEAD: Final = 3
"""Bytes of an ACK before its nonce's length, besides the type URL: two tags and a length."""
_MOST_NONCE: Final = 127
"""Longer ones have a length of two bytes."""
_TYPES: Final = (names.CLUSTER, names.ENDPOINT, names.EXTENSION, names.LISTENER, names.ROUTE, names.SECRET)
_ACKS: Final = {delimited(_TYPE_URL, type_url.encode()) + _NONCE: type_url for type_url in _TYPES}
"""How ACKs begin."""


_LIST: Final = range(4_096, 262_144)
"""Bytes of a message that may be a list of names which thousands of proxies say: each in the same order, as Envoy sorts
it. Shorter ones are read as fast as they are found again."""
_MOST_LISTS: Final = 16


class MalformedRequestError(ValueError):
    """The client's bytes are no request: INVALID_ARGUMENT."""


class OversizedRequestError(ValueError):
    """The request names more resources than any mesh has, or longer ones: RESOURCE_EXHAUSTED."""


class ForeignTypeError(ValueError):
    """The request is for something that is no xDS resource, such as a debug generator: PERMISSION_DENIED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One message of a client.

    State of the world: ``names`` is everything asked for (delta: None). Delta: ``subscribe``, ``unsubscribe`` and, on
    the first request of a type, ``initial``: name -> version that the client holds from an earlier stream.
    ``nonce`` is that of the response which is answered, "" if none; ``error`` is why it was refused, None for an ACK.
    ``version`` is the last accepted version (state of the world only). ``asked`` and ``wildcard`` are what
    ``subscribe`` asks for: names, and whether "*" is among them; of equal messages that is worked out once.
    """

    type_url: str
    names: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    version: str = ""
    error: str | None = None
    asked: frozenset[str] = field(default=frozenset(), init=False, compare=False)
    wildcard: bool = field(default=False, init=False, compare=False)

    def __post_init__(self) -> None:
        """Work out what ``subscribe`` asks for."""
        if self.subscribe:
            asked = frozenset(self.subscribe)
            object.__setattr__(self, "wildcard", WILDCARD in asked)
            object.__setattr__(self, "asked", asked - {WILDCARD} if self.wildcard else asked)


Message = discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest


@dataclass(frozen=True, slots=True)
class Decoded:
    """A request and, where the client sent it (Envoy: in the first only), its node."""

    request: Request
    node: base_pb2.Node | None


def decode_sotw(raw: bytes) -> Decoded:
    """A DiscoveryRequest.

    Raises:
        MalformedRequestError: the bytes are none.
        OversizedRequestError: it names too many resources.
        ForeignTypeError: its type URL is none of xDS.
    """
    message = discovery_pb2.DiscoveryRequest()
    _parse(message, raw)
    _limit(raw, message.resource_names)
    request = Request(
        type_url=_type(message.type_url),
        names=tuple(message.resource_names),
        nonce=message.response_nonce,
        version=message.version_info,
        error=_error(message),
    )
    return Decoded(request, _node(message))


def decode_delta(raw: bytes) -> Decoded:
    """A DeltaDiscoveryRequest.

    Raises:
        MalformedRequestError: the bytes are none.
        OversizedRequestError: it names too many resources.
        ForeignTypeError: its type URL is none of xDS.
    """
    if (plain := _plain_ack(raw)) is not None:
        return plain
    if len(raw) in _LIST and raw.startswith(_TYPE_URL):  # no node, which comes first and is each proxy's own
        return _said_again(raw)
    return _decode_delta(raw)


@lru_cache(maxsize=_MOST_LISTS)
def _said_again(raw: bytes) -> Decoded:
    """The one value of equal messages, and so the same names as objects, which are found faster for it."""
    return _decode_delta(raw)


def _decode_delta(raw: bytes) -> Decoded:
    message = discovery_pb2.DeltaDiscoveryRequest()
    _parse(message, raw)
    for each in (message.resource_names_subscribe, message.resource_names_unsubscribe):
        _limit(raw, each)
    _limit(raw, message.initial_resource_versions)
    request = Request(
        type_url=_type(message.type_url),
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=_error(message),
    )
    return Decoded(request, _node(message))


def claims(message: base_pb2.Node) -> node.Node:
    """What a proxy says of itself, from the node of its first request.

    Raises:
        MalformedRequestError: the id is not Istio's, or the metadata is too large or no JSON.
    """
    if len(message.id) > MAX_ID_BYTES or message.metadata.ByteSize() > MAX_METADATA_BYTES:
        raise MalformedRequestError("the node's id or metadata is too large")
    locality = node.Locality(
        region=message.locality.region, zone=message.locality.zone, subzone=message.locality.sub_zone
    )
    try:
        metadata = {key: _plain(value) for key, value in message.metadata.fields.items()}
        return node.parse(message.id, metadata, locality, _envoy(message))
    except ValueError as error:
        raise MalformedRequestError(str(error)) from error


def _envoy(message: base_pb2.Node) -> tuple[int, ...]:
    """Its Envoy's version; () where it says none."""
    said = message.user_agent_build_version.version
    return (said.major_number, said.minor_number, said.patch) if message.HasField("user_agent_build_version") else ()


def _plain(value: struct_pb2.Value) -> object:
    """A value as JSON's, in a quarter of json_format's time.

    Whole numbers are such: a Struct knows only numbers, and models of settings tell them apart.

    Raises:
        ValueError: it holds a number that JSON has not.
    """
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "struct_value":
            return {key: _plain(each) for key, each in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(each) for each in value.list_value.values]
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise ValueError("the metadata holds a number that is none")
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
    return None


def _plain_ack(raw: bytes) -> Decoded | None:
    """A delta ACK that says nothing else, as nearly all messages of a stream are: type URL, then nonce.

    None: anything else, even if it means the same. Worth its lines: each endpoint change brings one from every proxy.
    """
    type_url = _ACKS.get(raw[: raw[1] + _ACK_HEAD]) if len(raw) > 1 else None
    if type_url is None:
        return None
    rest = raw[raw[1] + _ACK_HEAD :]
    if not rest[1:].isalnum() or rest[0] != len(rest) - 1 or len(rest) > _MOST_NONCE:
        return None
    return Decoded(Request(type_url=type_url, nonce=rest[1:].decode("ascii")), None)


def _parse(message: Message, raw: bytes) -> None:
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise MalformedRequestError("the message is no discovery request") from error


def _type(type_url: str) -> str:
    if not type_url.startswith(names.TYPE_PREFIX):
        raise ForeignTypeError(f"{type_url[:100]!r} is no type of xDS resource")
    return type_url


def _limit(raw: bytes, asked: Collection[str]) -> None:
    if len(asked) > MAX_NAMES:
        raise OversizedRequestError(f"{len(asked)} names in one request; the limit is {MAX_NAMES}")
    if len(raw) > _SMALL and max(map(len, asked), default=0) > MAX_NAME_CHARS:
        raise OversizedRequestError(f"a name of more than {MAX_NAME_CHARS} characters")


def _error(message: Message) -> str | None:
    return message.error_detail.message[:MAX_ERROR_CHARS] if message.HasField("error_detail") else None


def _node(message: Message) -> base_pb2.Node | None:
    return message.node if message.HasField("node") else None
