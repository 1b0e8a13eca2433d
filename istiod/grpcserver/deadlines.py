"""What time does to a connection: handshakes, silence, age, certificates, and clients that do not read. Pure.

One look at each connection about once a second, instead of a handful of timers for each.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from istiod.grpcserver.status import Code
from istiod.grpcserver.stream import Stream

LEAST_BYTES: Final = 1_024
"""What a client must take within the write deadline, or it counts as one that does not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds."""

    handshake: float = 10.0
    """From the connection's start to the client's first SETTINGS, and for each header block (hostile-input SEC24)."""
    unknown: float = 20.0
    """How long a client without a certificate may be connected without a call."""
    idle: float = 300.0
    """How long one with a certificate may."""
    write: float = 20.0
    """How long something may wait for a client that takes less than LEAST_BYTES (faults FT14, FT15)."""
    keepalive: float = 30.0
    """After how much silence it is asked whether it is there."""
    answer: float = 10.0
    """How long that may stay without an answer (fault FT48: within 40 s)."""
    unacked: float = 15.0
    """How long the client's machine may acknowledge nothing of what is under way to it, though its window is open: a
    client that does not hear us may still be heard (fault FT48), and an Envoy that does not asks within 23 s."""
    age: float = 30 * 60.0
    """When it has to connect anew: a new call on an old connection keeps the identity of an old certificate."""
    jitter: float = 0.1
    """Which part of the age is left to chance, so that not all come back at once (fault FT9)."""
    grace: float = 10.0
    """How long its calls run on after that."""


class Do(enum.Enum):
    """What is to be done."""

    NOTHING = enum.auto()
    PING = enum.auto()
    DRAIN = enum.auto()
    CLOSE = enum.auto()
    CUT = enum.auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and for CLOSE and CUT why."""

    do: Do
    reason: str = ""
    code: Code = Code.UNAVAILABLE


NOTHING: Final = Verdict(Do.NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A connection at one moment. Times are monotonic seconds.

    ``heard``: when something came last. ``calls``: how many run. ``shaken``: its handshakes are over. ``midway``: a
    header block is not whole. ``known``: it has a certificate. ``acked``: bytes that the client's machine has
    acknowledged. ``under_way``: whether it should acknowledge more. ``waiting``: calls that have something to send.
    """

    heard: float
    calls: int
    shaken: bool
    midway: bool
    known: bool
    acked: int = 0
    under_way: bool = False
    waiting: Iterable[Stream] = ()


@dataclass(slots=True)
class _Wait:
    """Since when a call's message waits, and how far it had come."""

    turn: int
    since: float
    progress: int


@dataclass(slots=True, kw_only=True)
class Deadlines:
    """Those of one connection. ``oldest``: when it must connect anew; ``over``: when its certificate ends."""

    limits: Limits
    born: float
    oldest: float
    over: float | None = None
    _busy: float = field(init=False)
    _midway: float | None = field(init=False, default=None)
    _asked: float | None = field(init=False, default=None)
    _draining: float | None = field(init=False, default=None)
    _waits: dict[int, _Wait] = field(init=False, default_factory=dict)
    _unacked: tuple[int, float] | None = field(init=False, default=None)
    """How many bytes were acknowledged, and since when it is no more."""

    def __post_init__(self) -> None:
        self._busy = self.born

    def hasten(self, now: float, within: float, chance: float) -> None:
        """Bring the age forward, to ``chance`` (0 to 1) of so many seconds from now, unless it is as near already."""
        if self.oldest > now + within:
            self.oldest = now + within * chance

    def due(self, now: float, facts: Facts) -> Verdict:
        """What is due now."""
        self._note(now, facts)
        for look in (self._shake, self._age, self._write, self._delivery, self._idle, self._silence):
            verdict = look(now, facts)
            if verdict is not NOTHING:
                return verdict
        return NOTHING

    def _note(self, now: float, facts: Facts) -> None:
        if facts.calls:
            self._busy = now
        if not facts.midway:
            self._midway = None
        elif self._midway is None:
            self._midway = now

    def _shake(self, now: float, facts: Facts) -> Verdict:
        if not facts.shaken and now >= self.born + self.limits.handshake:
            return Verdict(Do.CUT, f"no handshake within {self.limits.handshake:g} s")
        if self._midway is not None and now >= self._midway + self.limits.handshake:
            return Verdict(Do.CUT, f"headers are not whole after {self.limits.handshake:g} s")
        return NOTHING

    def _age(self, now: float, facts: Facts) -> Verdict:
        if self.over is not None and now >= self.over:
            return Verdict(Do.CLOSE, "the client's certificate has expired", Code.UNAUTHENTICATED)
        if self._draining is None:
            if now < self.oldest:
                return NOTHING
            self._draining = now
            return Verdict(Do.DRAIN)
        if not facts.calls or now >= self._draining + self.limits.grace:
            return Verdict(Do.CLOSE, "the connection has reached its age")
        return NOTHING

    def _idle(self, now: float, facts: Facts) -> Verdict:
        patience = self.limits.idle if facts.known else self.limits.unknown
        return Verdict(Do.CLOSE, "no call") if now >= self._busy + patience else NOTHING

    def _silence(self, now: float, facts: Facts) -> Verdict:
        if self._asked is not None and facts.heard >= self._asked:
            self._asked = None
        if self._asked is None:
            if now < facts.heard + self.limits.keepalive:
                return NOTHING
            self._asked = now
            return Verdict(Do.PING)
        return Verdict(Do.CUT, "no answer to a ping") if now >= self._asked + self.limits.answer else NOTHING

    def _delivery(self, now: float, facts: Facts) -> Verdict:
        if not facts.under_way:
            self._unacked = None
            return NOTHING
        if self._unacked is None or self._unacked[0] != facts.acked:
            self._unacked = facts.acked, now
        if now < self._unacked[1] + self.limits.unacked:
            return NOTHING
        return Verdict(Do.CUT, f"its machine acknowledged nothing for {self.limits.unacked:g} s")

    def _write(self, now: float, facts: Facts) -> Verdict:
        waits, stuck = {}, False
        for stream in facts.waiting:
            # Where its own window holds a call back, what others of the connection take is no progress of it
            progress = stream.taken + (facts.acked if stream.window > 0 else 0)
            wait = self._waits.get(stream.id)
            if wait is None or wait.turn != stream.turn or not 0 <= progress - wait.progress < LEAST_BYTES:
                wait = _Wait(stream.turn, now, progress)
            waits[stream.id] = wait
            stuck |= now >= wait.since + self.limits.write
        self._waits = waits
        if not stuck:
            return NOTHING
        return Verdict(Do.CUT, f"nothing was read for {self.limits.write:g} s", Code.DEADLINE_EXCEEDED)
