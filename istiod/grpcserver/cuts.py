"""Large messages that many streams send, cut into frames of HTTP/2 once for all of them.

A first configuration of megabytes is the same for a thousand proxies, and so are its frames: each carries as much as
any client takes, and their stream has the same number on every connection, whose first call it is. So its frames lie
one behind the other in one buffer, of which each connection writes slices: nothing is cut or copied for a single one.
What windows do not let through as a whole frame, and the end of a message, is cut as ever: see outbox.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from istiod.grpcserver import frames, messages

UNIT: Final = frames.MAX_FRAME
"""Bytes of a frame with its head: with it, a frame is a record of TLS, whatever comes before."""
PAYLOAD: Final = UNIT - frames.HEAD
LEAST: Final = 4 * UNIT
"""From how many bytes on a part is worth it."""
ROOM: Final = 32 * 1024 * 1024
"""Bytes of frames that are kept."""
MOST: Final = 64
"""Parts that are remembered, be it only as seen once."""
AGE: Final = 30
"""Seconds without use after which frames go."""

_Key = tuple[int, int, int]


@dataclass(slots=True, eq=False)
class _Kept:
    """``part`` is held, so that no other has its identity. ``whole`` is None until it was seen a second time."""

    part: bytes
    used: int
    whole: memoryview | None = None


class Cuts:
    """Those of one server, the newest few."""

    def __init__(self, room: int = ROOM) -> None:
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._room = room
        self._now = 0

    def of(self, part: bytes, length: int, stream: int) -> memoryview | None:
        """The frames of the message's beginning, of a message of this ``length`` that begins with ``part``.

        At least the last byte of the part is in none of them. None where nobody else has sent the same, or it is small.
        """
        if len(part) < LEAST:
            return None
        key = (id(part), length, stream)
        kept = self._kept.get(key)
        if kept is None:
            self._kept[key] = _Kept(part, self._now)
            self._limit()
            return None
        self._kept.move_to_end(key)
        kept.used = self._now
        if kept.whole is None:
            kept.whole = _cut(part, length, stream)
            self._limit()
        return kept.whole

    def age(self) -> None:
        """A second is over."""
        self._now += 1
        for key in [key for key, kept in self._kept.items() if kept.used + AGE < self._now]:
            del self._kept[key]

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(len(kept.whole) for kept in self._kept.values() if kept.whole is not None)

    def _limit(self) -> None:
        while len(self._kept) > MOST or self.size > self._room:
            self._kept.popitem(last=False)


def taken(part: bytes) -> int:
    """How many bytes of the part are in its frames."""
    return _count(part) * PAYLOAD - messages.PREFIX


def _count(part: bytes) -> int:
    return (messages.PREFIX + len(part) - 1) // PAYLOAD


def _cut(part: bytes, length: int, stream: int) -> memoryview:
    head, view = frames.head(PAYLOAD, frames.DATA, 0, stream), memoryview(part)
    first = PAYLOAD - messages.PREFIX
    found: list[bytes | memoryview] = [head, messages.prefix(length), view[:first]]
    for at in range(first, taken(part), PAYLOAD):
        found += (head, view[at : at + PAYLOAD])
    return memoryview(b"".join(found))
