"""How a stream stands, as values for debug pages and proxy-status (features rows D16 and U4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from istiod.ads import wanted
from istiod.ads.stream import Stream
from istiod.ads.subscription import Subscription


class Sync(Enum):
    """What ``proxy-status`` prints. STALE: refused, or not answered for a minute; PENDING: about to be in sync."""

    SYNCED = "SYNCED"
    NOT_SENT = "NOT SENT"
    PENDING = "PENDING"
    STALE = "STALE"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeStatus:
    """One type on one stream.

    ``waiting`` is the age in seconds of the oldest response without ACK, None if none is under way. ``refused`` are
    names that the client will not take as they are; ``error`` is its last NACK.
    """

    type_url: str
    sync: Sync
    sent: str
    acked: str
    waiting: float | None
    refused: tuple[str, ...]
    error: str


def of(stream: Stream, now: float) -> tuple[TypeStatus, ...]:
    """Every type that the client asked for."""
    return tuple(_of(stream, sub, now) for sub in stream.subscriptions.values())


def _of(stream: Stream, sub: Subscription, now: float) -> TypeStatus:
    waiting = now - sub.flights[0].at if sub.flights else None
    return TypeStatus(
        type_url=sub.type_url,
        sync=_sync(stream, sub, waiting),
        sent=sub.sent,
        acked=sub.acked,
        waiting=waiting,
        refused=tuple(sorted(sub.refused)),
        error=sub.error,
    )


def _sync(stream: Stream, sub: Subscription, waiting: float | None) -> Sync:
    if sub.refused or (waiting is not None and waiting >= stream.timing.stale):
        return Sync.STALE
    if not sub.answered:
        return Sync.NOT_SENT
    return Sync.PENDING if sub.flights or wanted.pending(stream, sub) else Sync.SYNCED
