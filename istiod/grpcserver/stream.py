"""One call as its service sees it: what it can say, and who is told what the client says."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Final, Protocol

from istiod.grpcserver import messages
from istiod.grpcserver.request import Request
from istiod.grpcserver.status import Code

UNCHECKED_LIMIT: Final = 65_536
"""Bytes that a message may have before the service knows who sends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What the transport knows of a client.

    ``address`` is HOST:PORT. ``secure``: over TLS; then ``certificate`` is what it proved to hold, as DER, signed by
    one of our roots; None for none.
    """

    address: str
    secure: bool = False
    certificate: bytes | None = None


class Receiver(Protocol):
    """A service's side of one call. Called in the order of what happened, never after ``lost``."""

    def message(self, raw: bytes) -> None:
        """The client's next message."""
        ...

    def done(self) -> None:
        """The client has said all."""
        ...

    def drained(self) -> None:
        """All that was sent has left: ``pending`` is False again."""
        ...

    def lost(self) -> None:
        """The call is over: the client left, or it was ended by the server. Not told after ``finish``."""
        ...


class Deaf:
    """The receiver of a call that is over."""

    def message(self, raw: bytes) -> None:
        """Nobody hears it."""

    def done(self) -> None:
        """Nobody hears it."""

    def drained(self) -> None:
        """Nobody hears it."""

    def lost(self) -> None:
        """Nobody hears it."""


DEAF: Final = Deaf()


class Peer(Protocol):
    """The connection, as far as a call needs it."""

    client: Client

    def send(self, stream: Stream, parts: tuple[bytes, ...]) -> None:
        """See ``Stream.send``."""
        ...

    def finish(self, stream: Stream, code: Code, details: str) -> None:
        """See ``Stream.finish``."""
        ...

    def accept(self, stream: Stream) -> None:
        """See ``Stream.accept``."""
        ...


class Stream:
    """A call. Bytes wait here in ``parts`` for the client's windows; ``ending`` is the frame that comes after them.

    Before all ``parts`` comes what is left of ``whole``: frames that a message begins with, which others send as well.
    ``yields``: its service has others served before it, known or not.
    ``taken`` counts bytes and ``turn`` messages that have left, for those who look after clients that do not read.
    """

    __slots__ = (
        "_peer",
        "accepted",
        "assembler",
        "credit",
        "ending",
        "half_closed",
        "held",
        "id",
        "parts",
        "queued",
        "receiver",
        "request",
        "room",
        "started",
        "taken",
        "turn",
        "whole",
        "window",
        "yields",
    )

    def __init__(self, number: int, peer: Peer, request: Request, window: int) -> None:
        self.id = number
        self.request = request
        self.receiver: Receiver = DEAF
        self.assembler = messages.Assembler(UNCHECKED_LIMIT)
        self.window = window
        self.parts: collections.deque[memoryview] = collections.deque()
        self.whole: memoryview | None = None
        self.ending: bytes | None = None
        self.queued = self.started = self.half_closed = self.accepted = self.yields = False
        self.taken = self.turn = 0
        self.room = self.credit = self.held = 0
        self._peer = peer

    @property
    def client(self) -> Client:
        """Who calls."""
        return self._peer.client

    @property
    def pending(self) -> bool:
        """Whether something that was sent has not left yet: the service should wait for ``drained``."""
        return bool(self.parts)

    def send(self, *parts: bytes) -> None:
        """Send one message, which is these parts; it waits for as long as the client takes nothing.

        What waits is not copied: parts that many streams send are held once.
        """
        self._peer.send(self, parts)

    def finish(self, code: Code, details: str = "") -> None:
        """End the call with this status, after what is pending. Once is enough; the receiver hears nothing more."""
        self.receiver = DEAF
        self._peer.finish(self, code, details)

    def accept(self, limit: int) -> None:
        """The client is known: take messages of up to ``limit`` bytes. Until then its first window is all it has."""
        self.assembler.limit = limit
        if not self.accepted:
            self.accepted = True
            self._peer.accept(self)
