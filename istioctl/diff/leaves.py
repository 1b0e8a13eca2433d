"""Messages as lines, a leaf each, and what of them nobody need see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from istiod.explain import held

_SILENT: Final = frozenset(
    {
        "metadata",
        "name",
        "stat_prefix",
        "alt_stat_name",
        "decorator",
        "access_log",
        "tracing",
        "@type",
        "max_grpc_timeout",
    }
)
"""Names of things, where they come from, and how they are counted and logged."""
_LONGEST: Final = 160


def lines(message: Message, *silent: str) -> list[str]:
    """``a.b[0].c: value`` for each leaf of a message, without fields of these names at its top."""
    found = plain(message)
    return [f"{path}: {value}" for path, value in _leaves("", {k: v for k, v in found.items() if k not in silent})]


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON; of what is packed in it and not known here, the type only."""
    try:
        return json_format.MessageToDict(message, preserving_proto_field_name=True)
    except (KeyError, TypeError):
        return {name.name: _guarded(name, value) for name, value in message.ListFields()}


def _guarded(field: Any, value: Any) -> Any:
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return str(value)[:_LONGEST]
    several = value if field.is_repeated else (value,)
    found = [_one(each) for each in several]
    return found if field.is_repeated else found[0]


def _one(value: Any) -> Any:
    if value.DESCRIPTOR.full_name != "google.protobuf.Any":
        return plain(value)
    inside = held.unpacked(value)
    return plain(inside) if inside is not None else value.type_url


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in _SILENT:
                yield from _leaves(f"{path}.{key}" if path else key, each)
    elif isinstance(value, list) and all(not isinstance(each, dict | list) for each in value):
        yield path, _short(", ".join(map(str, value)))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(f"{path}[{index}]", each)
    else:
        yield path, _short(str(value))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters, {hash_of(text)})"


def hash_of(text: str) -> str:
    """A few characters that differ where long texts do."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
