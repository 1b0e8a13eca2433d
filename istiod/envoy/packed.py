"""How what is packed as Any is merged where a filter's configuration is meant (features row K4; as on Istio).

Field by field, as the type of the first; all other messages are wire.merging's.
"""

from __future__ import annotations

from typing import Final

from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message

from istiod.envoy import wellknown
from wire import merging

_TYPED_STRUCT: Final = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")


def merge_packed(into: any_pb2.Any, said: any_pb2.Any, *, replaces_lists: bool = False) -> None:
    """Merge what two Anys hold, as the type of the first; one that cannot be read so changes nothing."""
    mine = _new(into)
    into.Unpack(mine)
    try:
        other = _as_type_of(mine, said)
    except (DecodeError, json_format.ParseError):
        return
    merging.merge(mine, other, replaces_lists=replaces_lists)
    into.CopyFrom(wellknown.packed(mine))


def _new(packed: any_pb2.Any) -> Message:
    """An empty message of the type that an Any of ours holds: what we packed we know."""
    descriptor = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
    return message_factory.GetMessageClass(descriptor)()


def _as_type_of(mine: Message, said: any_pb2.Any) -> Message:
    """What an Any holds, as the type of a message, whatever type it claims to be (as on Istio).

    Raises:
        DecodeError: these bytes are no such message.
        ParseError: it is a TypedStruct whose fields are no such message's.
    """
    found = type(mine)()
    if said.TypeName() in _TYPED_STRUCT:
        typed = _new(said)
        said.Unpack(typed)
        fields = json_format.MessageToDict(typed).get("value", {})
        json_format.ParseDict(fields, found, ignore_unknown_fields=True)
    else:
        found.ParseFromString(said.value)
    return found
