"""Protobuf's well-known types and Istio's metadata, built the same way everywhere.

Encoding is deterministic: equal values give equal bytes, since the version of a resource is the hash of its bytes.
What goes into which message is left to the modules of each xDS type.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

from envoy.config.core.v3 import base_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import any_pb2, duration_pb2, struct_pb2, wrappers_pb2
from google.protobuf.message import Message

from crds.key import ConfigKey
from istiod.config.origin import Origin
from istiod.config.resource import delimited
from wire import names

ISTIO = "istio"
"""Namespace of Istio's own metadata in ``filter_metadata``."""

JWT_AUTHN = "envoy.filters.http.jwt_authn"
"""The filter that verifies tokens, and the namespace of dynamic metadata where it leaves their claims."""

_MILLION = 10_000  # parts of a million in one percent
_FIRST = b"\x0a"
"""Field 1: filter_metadata of Metadata, fields of Struct, and the key of a map's entry."""
_SECOND = b"\x12"
"""Field 2: the value of a map's entry."""
_STRING = b"\x1a"
"""Field 3 of Value: string_value."""


def encode(message: Message) -> bytes:
    """The message's bytes, map entries in a fixed order."""
    return message.SerializeToString(deterministic=True)


def packed(message: Message) -> any_pb2.Any:
    """The message as an Any, with the type URL that Envoy expects."""
    return any_pb2.Any(type_url=names.TYPE_PREFIX + message.DESCRIPTOR.full_name, value=encode(message))


def duration(value: timedelta) -> duration_pb2.Duration:
    """A time span; negative ones do not occur in configuration."""
    return duration_pb2.Duration(seconds=value.days * 86_400 + value.seconds, nanos=value.microseconds * 1_000)


def span(field: duration_pb2.Duration, value: timedelta) -> None:
    """Write a time span into a field that is there already, which costs less than a message to copy."""
    field.seconds, field.nanos = value.days * 86_400 + value.seconds, value.microseconds * 1_000


def optional_duration(value: timedelta | None) -> duration_pb2.Duration | None:
    """A time span, or None to leave the field unset."""
    return None if value is None else duration(value)


def uint32(value: int | None) -> wrappers_pb2.UInt32Value | None:
    """A number that may be unset."""
    return None if value is None else wrappers_pb2.UInt32Value(value=value)


def boolean(value: bool | None) -> wrappers_pb2.BoolValue | None:  # noqa: FBT001 (the wrapped value itself)
    """A truth value that may be unset."""
    return None if value is None else wrappers_pb2.BoolValue(value=value)


def fraction(percent: float) -> percent_pb2.FractionalPercent:
    """Percent (0-100) in millionths, as Istio writes it."""
    return percent_pb2.FractionalPercent(
        numerator=round(percent * _MILLION), denominator=percent_pb2.FractionalPercent.MILLION
    )


def struct(**fields: str) -> struct_pb2.Struct:
    """A Struct of strings."""
    found = struct_pb2.Struct()
    for name, value in fields.items():
        found.fields[name].string_value = value
    return found


def filter_metadata(namespace: str, **fields: str) -> bytes:
    """A namespace of strings as bytes of a Metadata message; of several, the bytes stand one after the other.

    By hand, since a Struct made field by field costs ten times as much, and there are as many as endpoints.
    """
    entries = [
        delimited(_FIRST, delimited(_FIRST, name.encode()) + delimited(_SECOND, delimited(_STRING, value.encode())))
        for name, value in fields.items()
    ]
    body = delimited(_FIRST, namespace.encode()) + delimited(_SECOND, b"".join(entries))
    return delimited(_FIRST, body)


def origin_metadata(origin: Origin | None) -> base_pb2.Metadata | None:
    """``istio.config`` and, where the origin names a field, ``istio.field`` (features rows D15, Z3)."""
    if origin is None:
        return None
    fields = struct(config=config_path(origin.key))
    if origin.field:
        fields.fields["field"].string_value = origin.field
    return base_pb2.Metadata(filter_metadata={ISTIO: fields})


@lru_cache(maxsize=4096)
def config_path(key: ConfigKey) -> str:
    """An object as Istio's tools parse it: ``/apis/networking.istio.io/v1/namespaces/NS/virtual-service/NAME``."""
    root = f"/apis/{key.group}" if key.group else "/api"
    kind = "".join(f"-{c.lower()}" if c.isupper() else c for c in key.kind).lstrip("-")
    return f"{root}/v1/namespaces/{key.namespace}/{kind}/{key.name}"
