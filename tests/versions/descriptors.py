"""The messages and fields that an Envoy knows, read off its binary: it carries the descriptors of its whole API."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

Fields: TypeAlias = Mapping[str, frozenset[int]]
"""Message -> numbers of its fields."""

_FILE: Final = re.compile(rb"\x0a[\x01-\x7f]envoy/[\w/.-]+?\.proto")
_TAGS: Final = frozenset(number << 3 | 2 for number in range(1, 13)) | {10 << 3, 11 << 3, 14 << 3}
"""Of the fields of a FileDescriptorProto: the first other byte ends it."""
_MORE: Final = 0x80


def of(binary: Path) -> Fields:
    """Every message of ``envoy.*``."""
    found: dict[str, frozenset[int]] = {}
    with binary.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for hit in _FILE.finditer(data):
            file = descriptor_pb2.FileDescriptorProto()
            try:
                file.ParseFromString(data[hit.start() : _end(data, hit.start())])
            except DecodeError:
                continue
            for message in file.message_type:
                found.update(_messages(file.package, message))
    return found


def _messages(package: str, message: descriptor_pb2.DescriptorProto) -> Iterator[tuple[str, frozenset[int]]]:
    name = f"{package}.{message.name}"
    yield name, frozenset(field.number for field in message.field)
    for inner in message.nested_type:
        yield from _messages(name, inner)


def _end(data: mmap.mmap, start: int) -> int:
    """Where the message that begins there ends: before the first byte that is no field of it, or its next name."""
    at = start
    while at < len(data) and data[at] in _TAGS and (at == start or data[at] != data[start]):
        body, value = _varint(data, at + 1)
        at = body + value if data[at] & 7 else body
    return min(at, len(data))


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while data[at] & _MORE:
        value |= (data[at] & ~_MORE) << shift
        at, shift = at + 1, shift + 7
    return at + 1, value | data[at] << shift
