"""Base-128 varints, as protobuf writes lengths: for the few places that frame bytes without a message object."""

from __future__ import annotations

from typing import Final

_MORE: Final = 0x80
_SEVEN_BITS: Final = 0x7F
_TWO_BYTES: Final = 0x4000


def varint(value: int) -> bytes:
    """A base-128 varint (protobuf encoding document) of a number that is not negative."""
    if value < _TWO_BYTES:  # nearly all lengths
        return bytes((value & _SEVEN_BITS | _MORE, value >> 7)) if value > _SEVEN_BITS else bytes((value,))
    out = bytearray()
    while value > _SEVEN_BITS:
        out.append(value & _SEVEN_BITS | _MORE)
        value >>= 7
    out.append(value)
    return bytes(out)
