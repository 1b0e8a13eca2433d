"""How a message is merged into another (features row K4): patches of istiod's messages, and of an agent's bootstrap.

Protobuf's own merge with one difference: a duration replaces a duration whole (else 1.5s merged with 2s would stay 1.5s
in its fractions).
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_DURATION: Final = "google.protobuf.Duration"


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
