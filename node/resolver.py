"""DNS as bytes: answers to queries for the mesh's names. Pure; node.dns has the sockets.

RFC 1035, as much as a stub resolver in a pod asks for: A and AAAA (which do not exist) of Services, CNAME of
ExternalName Services. There is no recursion: a name outside of the mesh does not exist.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

Zone = Mapping[str, tuple[str, ...]]
_A, _CNAME, _ANY, _IN = 1, 5, 255, 1
_NOERROR, _FORMERR, _NXDOMAIN, _NOTIMP = 0, 1, 3, 4
_TTL = 5
_HEADER = struct.Struct("!6H")
_MAX_UDP = 512
_POINTER = 0xC0
_MAX_LABEL = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. ``end`` is where the question ends in the query."""

    name: str
    kind: int
    end: int


def _question(query: bytes) -> Question:
    """The one question of a query.

    Raises:
        ValueError: the bytes are no question, or use compression, which questions do not.
    """
    labels, at = [], _HEADER.size
    while True:
        if at >= len(query):
            raise ValueError("cut off")
        size = query[at]
        if size == 0:
            break
        if size > _MAX_LABEL:
            raise ValueError("compressed")
        labels.append(query[at + 1 : at + 1 + size].decode("ascii", "replace").lower())
        at += 1 + size
    if at + 5 > len(query):
        raise ValueError("cut off")
    kind, _ = struct.unpack_from("!2H", query, at + 1)
    return Question(name=".".join(labels), kind=kind, end=at + 5)


def encode_name(name: str) -> bytes:
    """A name as length-prefixed labels."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def _record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!2HIH", kind, _IN, _TTL, len(data)) + data


def _is_address(text: str) -> bool:
    return text.replace(".", "").isdigit()


def _records(question: Question, zone: Zone) -> list[bytes]:
    """The answer's records; an alias is followed inside the mesh."""
    owner = struct.pack("!H", _POINTER << 8 | _HEADER.size)
    values = zone[question.name]
    records = []
    if values and not _is_address(values[0]):
        records.append(_record(owner, _CNAME, encode_name(values[0])))
        owner, values = encode_name(values[0]), zone.get(values[0], ())
    if question.kind in {_A, _ANY}:
        found = [value for value in values if _is_address(value)]
        records += [_record(owner, _A, bytes(int(part) for part in value.split("."))) for value in found]
    return records


def answer(query: bytes, zone: Zone, limit: int = _MAX_UDP) -> bytes | None:
    """The response to a query, cut (TC) above ``limit`` bytes; None for what is no query and deserves no answer."""
    if len(query) < _HEADER.size:
        return None
    identity, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & 0x8000:
        return None
    wanted = flags & 0x0100
    if flags & 0x7800 or questions != 1:
        return _HEADER.pack(identity, 0x8400 | wanted | (_NOTIMP if flags & 0x7800 else _FORMERR), 0, 0, 0, 0)
    try:
        question = _question(query)
    except ValueError:
        return _HEADER.pack(identity, 0x8400 | wanted | _FORMERR, 0, 0, 0, 0)
    known = question.name in zone
    records = _records(question, zone) if known else []
    code = _NOERROR if known else _NXDOMAIN
    asked = query[_HEADER.size : question.end]
    whole = _HEADER.pack(identity, 0x8480 | wanted | code, 1, len(records), 0, 0) + asked + b"".join(records)
    if len(whole) <= limit:
        return whole
    return _HEADER.pack(identity, 0x8680 | wanted | code, 1, 0, 0, 0) + asked


def resolv_conf(namespace: str, server: str, domain: str) -> str:
    """A pod's /etc/resolv.conf, as kubelet writes it."""
    return f"search {namespace}.svc.{domain} svc.{domain} {domain}\nnameserver {server}\noptions ndots:5\n"


def hosts(name: str, address: str) -> str:
    """A pod's /etc/hosts, as kubelet writes it."""
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{name}\n"
