"""One connection's socket between the event loop and the protocol core."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from istiod.grpcserver import inbound
from istiod.grpcserver.channel import CHUNK, NO_DELIVERY, Channel, ChannelError
from istiod.grpcserver.cuts import Cuts
from istiod.grpcserver.deadlines import NOTHING, Deadlines, Do, Facts, Limits, Verdict
from istiod.grpcserver.frames import ErrorCode
from istiod.grpcserver.http2 import Http2Connection, Open
from istiod.grpcserver.poll import READ, WRITE, Poll
from istiod.grpcserver.stream import Client
from istiod.grpcserver.turns import Turns

TURNS: Final = 8
"""Chunks from one client before others have their turn."""
TURN: Final = TURNS * CHUNK
"""Bytes for one client before others have theirs: in one piece, where there are as many."""
LINGER: Final = 1.0
"""Seconds for which a client that is told to leave may still speak: closed at once, it might not read why."""
_CHANCE: Final = random.SystemRandom()
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What the connections of one server have in common."""

    limits: Limits
    turns: Turns
    cuts: Cuts
    poll: Poll


class Connection:
    """From the accepted socket to its end, all in the event loop's thread. ``gone`` is called once, at its end."""

    def __init__(
        self,
        channel: Channel,
        address: tuple[str, int],
        opener: Open,
        wiring: Wiring,
        gone: Callable[[Connection], None],
    ) -> None:
        self.host, port = address
        self.address = f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
        self._channel = channel
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        client = Client(address=self.address, secure=channel.secure)
        limits, self._turns, self._poll = wiring.limits, wiring.turns, wiring.poll
        self.http = Http2Connection(client, opener, self._flush, now, wiring.cuts)
        oldest = now + limits.age * (1 - _CHANCE.random() * limits.jitter)  # spreads reconnects
        self._deadlines = Deadlines(limits=limits, born=now, oldest=oldest)
        self._shaken = not channel.secure
        self._heard = now
        self._unsent: bytes | memoryview = b""
        self._more = self._busy = self._closed = self._queued = self._due = self._wrote = False
        self._leaving: float | None = None
        self._number = channel.fileno()
        self._watch()
        self._loop.call_soon(self._flush)  # not here: a client that has left again would end what is not admitted yet

    def tick(self, now: float) -> Verdict:
        """Do what is due, and tell what it was; called about once a second."""
        if self._leaving is not None:
            if now >= self._leaving + LINGER:
                self._end("")
            return NOTHING
        if self._queued:  # it has said something, and we have not come to it
            return NOTHING
        waiting = [stream for stream in self.http.streams.values() if stream.parts]
        delivery = self._channel.delivery() if waiting or self._wrote else NO_DELIVERY
        self._wrote = self._wrote and not delivery.whole
        facts = Facts(
            heard=self._heard,
            calls=len(self.http.streams),
            shaken=self.http.settled,
            midway=self.http.midway,
            known=self.http.client.certificate is not None,
            acked=delivery.acked,
            under_way=delivery.under_way,
            waiting=waiting,
        )
        verdict = self._deadlines.due(now, facts)
        if verdict is not NOTHING:
            self._do(verdict)
        return verdict

    def hasten(self, within: float) -> None:
        """Let it reach its age within so many seconds; said again, it changes nothing."""
        self._deadlines.hasten(self._loop.time(), within, _CHANCE.random())

    def drain(self) -> None:
        """Tell the client to make its next calls elsewhere."""
        self.http.drain()
        self._flush()

    def close(self, verdict: Verdict) -> None:
        """End its calls and the connection; the client is told why."""
        self.http.close(verdict.code, verdict.reason)
        self._flush()

    def cut(self, reason: str) -> None:
        """End it without a word."""
        self._end(reason)

    def _do(self, verdict: Verdict) -> None:
        if verdict.do is Do.CUT:
            self.cut(verdict.reason)
        elif verdict.do is Do.CLOSE:
            self.close(verdict)
        elif verdict.do is Do.DRAIN:
            self.drain()
        else:
            self.http.ping()
            self._flush()

    # What the poll sees

    def readable(self) -> None:
        """Take what has come, or wait until it is due."""
        began = self._turns.begin(served=self._served)
        if began is not None:
            self._read()
            self._turns.spend(began)
        else:
            self._queue()

    def writable(self) -> None:
        """Its socket takes more: as much as a turn is, when it is due."""
        began = self._turns.begin(served=self._served)
        if began is not None:
            self._flush()
            self._turns.spend(began)
        else:
            self._due = True
            self._watch()
            self._turns.wait(self._write_on, self, served=self._served)

    # Its own

    @property
    def _served(self) -> bool:
        return inbound.served(self.http)

    def _queue(self) -> None:
        """Wait to be read: with a call in its own name, before with all of its address."""
        if not self._queued and not self._closed:
            self._queued = True
            self._watch()
            self._turns.wait(self._turn, self if self.http.streams else self.host, served=self._served)

    def _turn(self) -> None:
        self._queued = False
        if not self._closed:
            self._read()
            self._watch()  # now: it may have to wait again

    def _read(self) -> None:
        try:
            heard = self._hear()
        except ChannelError as error:
            self._end(str(error))
            return
        if not heard:
            return
        if self.http.paused:
            self._queue()
        self._flush()

    def _hear(self) -> bool:
        """Take what has come, as far as it is this client's turn; False where there is nobody to answer."""
        if not self._shaken and not self._shake():
            return False
        if self.http.paused:
            self._take(b"")
        for _ in range(TURNS):
            data = None if self.http.paused else self._channel.read()
            if data is None:
                break
            if not data:
                self._end("")
                return False
            self._take(data)
            if len(data) < self._channel.most:  # asking once more costs as much as a turn of the loop
                break
        return True

    def _take(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._busy = True  # what is said in answer goes together, below
        try:
            self.http.receive(data, self._heard)
        except Exception:  # a bug in a service ends this connection, and only it; it is logged whole
            _LOGGER.exception("a call of %s failed", self.address)
            self.http.fail(ErrorCode.INTERNAL_ERROR, "a fault of the server")
        finally:
            self._busy = False

    def _shake(self) -> bool:
        self._shaken = self._channel.shake()
        if self._shaken and (certificate := self._channel.certificate()) is not None:
            self.http.client = Client(address=self.address, secure=True, certificate=certificate)
            self._deadlines.over = self._loop.time() + _left(certificate)
        return self._shaken

    def _flush(self) -> None:
        """Write what there is, as far as the socket takes it. Does nothing while it is at work already."""
        if self._busy or self._closed or not self._shaken:
            return
        self._busy = True
        try:
            more = self._write()
        except ChannelError as error:
            self._end(str(error))
            return
        finally:
            self._busy = False
        if more != self._more:
            self._more = more
            self._watch()
        if self.http.closed:
            self._leave(more=more)

    def _leave(self, *, more: bool) -> None:
        """Its calls are over: it goes when the client has read why, and after LINGER in any case."""
        if self._leaving is None:
            self._leaving = self._loop.time()
            if self.http.failure:
                _LOGGER.debug("connection of %s ends: %s", self.address, self.http.failure)
        if not more:
            self._channel.shut()

    def _write(self) -> bool:
        """Whether there is more to write than the socket takes, or than is this client's turn."""
        left = TURN
        while left >= CHUNK:  # a rest of less would be no whole records of TLS
            data = self._unsent or self.http.take(left)
            if not data:
                self.http.outbox.full = False
                return False
            count = self._channel.write(data)
            self._wrote = True
            self._unsent = data[count:] if count < len(data) else b""
            if self._unsent:
                self.http.outbox.full = True
                return True
            left -= count
        return True

    def _write_on(self) -> None:
        self._due = False
        self._flush()
        self._watch()

    def _watch(self) -> None:
        """Be told of what it waits for: not of what waits for its turn."""
        if not self._closed:
            write = WRITE if self._more and not self._due else 0
            self._poll.watch(self._number, self, write if self._queued else READ | write)

    def _end(self, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        if reason:
            _LOGGER.debug("connection of %s is cut: %s", self.address, reason)
        self._poll.watch(self._number, self, 0)
        self._channel.close()
        try:
            self.http.lose()
        except Exception:  # a bug in a service keeps nothing of its connection; it is logged whole
            _LOGGER.exception("a call of %s failed at its end", self.address)
        self._gone(self)


def _left(certificate: bytes) -> float:
    """Seconds until a certificate ends."""
    try:
        over = x509.load_der_x509_certificate(certificate).not_valid_after_utc
    except (ValueError, x509.InvalidVersion) as error:
        raise ChannelError(f"the client's certificate can't be read: {error}") from error
    return (over - dt.datetime.now(dt.UTC)).total_seconds()
