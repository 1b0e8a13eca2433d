"""How a patch's value is merged into a message (features row K4; as Istio's EnvoyFilters merge).

Protobuf's own merge, with two differences: a duration replaces a duration whole (else 1.5s merged with 2s would stay
1.5s in its fractions), and what is packed as Any is merged field by field where a filter's configuration is meant.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from istiod.envoy import wellknown

_DURATION: Final = "google.protobuf.Duration"
_TYPED_STRUCT: Final = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")


def merge(into: Message, said: Message, *, replaces_lists: bool = False) -> None:
    """Merge ``said`` into a message of the same type: lists grow (or are replaced), map entries are replaced."""
    for field, value in said.ListFields():
        if field.is_repeated:
            _merge_many(into, field, value, replaces_lists=replaces_lists)
        elif field.message_type is None:
            setattr(into, field.name, value)
        else:
            mine = getattr(into, field.name)
            mine.SetInParent()
            if field.message_type.full_name == _DURATION:
                mine.CopyFrom(value)
            else:
                merge(mine, value, replaces_lists=replaces_lists)


def _merge_many(into: Message, field: FieldDescriptor, value: Any, *, replaces_lists: bool) -> None:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if replaces_lists and not is_map:
        into.ClearField(field.name)
    getattr(into, field.name).MergeFrom(value)


def merge_packed(into: any_pb2.Any, said: any_pb2.Any, *, replaces_lists: bool = False) -> None:
    """Merge what two Anys hold, as the type of the first; one that cannot be read so changes nothing."""
    mine = _new(into)
    into.Unpack(mine)
    try:
        other = _as_type_of(mine, said)
    except (DecodeError, json_format.ParseError):
        return
    merge(mine, other, replaces_lists=replaces_lists)
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
