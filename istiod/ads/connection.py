"""One stream of one proxy on grpc.aio: its reader, its writer and its timers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from istiod.ads import request
from istiod.ads.request import Decoded, Request
from istiod.ads.session import AdsSession, Shared
from istiod.ads.transport import Sockets
from istiod.config.protocols import Changed, Configuration
from istiod.config.proxy import Proxy
from istiod.config.resource import EMPTY, ResourceSet
from wire import names

Context = grpc.aio.ServicerContext[bytes, bytes]
Decode = Callable[[bytes], Decoded]
_LOG = logging.getLogger(__name__)

LEAST_BYTES: Final = 1_024
"""What a client must take in half of the write deadline, or it counts as one that does not read."""
REFUSALS = {
    request.MalformedRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    request.OversizedRequestError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    request.ForeignTypeError: grpc.StatusCode.PERMISSION_DENIED,
}
"""What a client is told whose request cannot be taken."""


async def read(context: Context) -> bytes | None:
    """The client's next message; None when it has said all."""
    raw: object = await context.read()
    return raw if isinstance(raw, bytes) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Seconds: ``first`` is how long a new stream may say nothing, ``write`` how long one response may wait.

    A client that takes less than ``LEAST_BYTES`` in half of that is cut; a slow one is not. ``on_ack`` is told each
    answer of a client that is no refusal: proxy, type URL, the clock's time; ``on_refusal`` that there was one, which
    may be one of the many by which the guilty resource is found: see AdsServer.rejections. ``on_sent`` is told each
    response: type URL, bytes, seconds that writing it took; ``on_converged`` the seconds from a proxy's new target
    until all that could be sent of it was.
    """

    first: float = 20.0
    write: float = 20.0
    on_ack: Callable[[Proxy, str, float], None] | None = None
    on_refusal: Callable[[], None] | None = None
    on_sent: Callable[[str, int, float], None] | None = None
    on_converged: Callable[[float], None] | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """How a stream ends."""

    code: grpc.StatusCode
    details: str


class Connection:
    """A stream from its admission to its end. Everything runs in the event loop's thread.

    ``holds`` is what has to be given back when it is over. The RPC's own coroutine writes: whenever something happened,
    it asks the session what to send.
    """

    def __init__(
        self, context: Context, proxy: Proxy, settings: Settings, clock: Callable[[], float], sockets: Sockets
    ) -> None:
        self.proxy = proxy
        self.targets = 0
        self.acked_at: float | None = None
        self._context = context
        self._settings = settings
        self._clock = clock
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._writing: float | None = None
        self._retargeted: float | None = None
        self._end: Status | None = None
        self.holds = contextlib.ExitStack()

    def subscribe(self, configuration: Configuration, shared: Shared, *, delta: bool) -> None:
        """Make the session; its first target is there when this returns."""
        self.session = AdsSession(EMPTY, self._clock(), delta=delta, shared=shared)
        self.holds.callback(configuration.subscribe(self.proxy, self._retarget).close)

    async def run(self, first: Request, decode: Decode) -> Status:
        """Serve until the client leaves or the stream is ended; gives the status that the client must be told."""
        self._take(first)
        reader = self._loop.create_task(self._read(decode))
        try:
            while self._end is None:
                await self._write()
                await self._awake.wait()
        finally:
            reader.cancel()
            self.close()
        return self._end

    def close(self) -> None:
        """Give back what the stream holds, at its end or when it is cut."""
        self._set_timer(None)
        if self._watch is not None:
            self._watch.cancel()
        self.holds.close()

    def end(self, code: grpc.StatusCode, details: str) -> None:
        """End the stream with this status, after the response that is being written."""
        self._end = self._end or Status(code, details)
        self._awake.set()

    def _retarget(self, target: ResourceSet, changed: Changed | None) -> None:
        self.targets += 1
        if self._retargeted is None:
            self._retargeted = self._loop.time()
        self.session.retarget(target, changed)
        self._awake.set()

    async def _write(self) -> None:
        self._awake.clear()
        now = self._clock()
        sends = self.session.plan(now)
        wake = self.session.wake
        for send in sends:
            if self._end is not None:
                return
            self._writing = self._loop.time()
            if self._watch is None:
                self._look_after(self._writing)
            encoded = send.encode()
            try:
                await self._context.write(encoded)
            except grpc.aio.InternalError as gone:  # the client left or was cut; gRPC is about to cancel this task
                raise asyncio.CancelledError from gone
            else:
                if self._settings.on_sent is not None:
                    self._settings.on_sent(send.type_url, len(encoded), self._loop.time() - self._writing)
            finally:
                self._writing = None
        self._note_convergence(sent=bool(sends))
        self._set_timer(None if wake is None else max(0.0, wake - self._clock()))

    def _note_convergence(self, *, sent: bool) -> None:
        if sent and self._retargeted is not None and self._settings.on_converged is not None:
            self._settings.on_converged(self._loop.time() - self._retargeted)
        self._retargeted = None

    async def _read(self, decode: Decode) -> None:
        try:
            while (raw := await read(self._context)) is not None:
                self._take(decode(raw).request)
        except tuple(REFUSALS) as refusal:
            self.end(REFUSALS[type(refusal)], str(refusal))
        except grpc.aio.BaseError:
            self.end(grpc.StatusCode.UNAVAILABLE, "the server has stopped")
        except Exception:
            _LOG.exception("stream of %s ends", self.proxy.node.id[:200])
            self.end(grpc.StatusCode.INTERNAL, "a fault of the control plane")
            raise
        self.end(grpc.StatusCode.OK, "")

    def _take(self, asked: Request) -> None:
        if asked.type_url == names.SECRET and self.proxy.peer.identity is None:
            return  # no proof of identity, no secrets (SEC10)
        self.session.request(asked)
        if asked.nonce and asked.error is None:
            self.acked_at = self._clock()
            if self._settings.on_ack is not None:
                self._settings.on_ack(self.proxy, asked.type_url, self.acked_at)
        elif asked.error is not None and self._settings.on_refusal is not None:
            self._settings.on_refusal()
        if not self.session.quiet:
            self._awake.set()

    def _set_timer(self, delay: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay is None else self._loop.call_later(delay, self._awake.set)

    def _look_after(self, since: float) -> None:
        """Look when a response that is being written since then (the loop's time) has waited for half of its time.

        One timer looks after all responses of that time: one for each would cost more than most responses do.
        """
        self._watch = self._loop.call_at(since + self._settings.write / 2, self._look, since)

    def _look(self, since: float) -> None:
        """If it still waits, the client must take some of it from here on."""
        if self._writing == since:
            before = self._sockets.acked(self.proxy.peer.address)
            self._watch = self._loop.call_later(self._settings.write / 2, self._judge, since, before)
        else:
            self._look_on()

    def _look_on(self) -> None:
        """Look after the response that is being written now, if any."""
        self._watch = None
        if self._writing is not None:
            self._look_after(self._writing)

    def _judge(self, since: float, before: int | None) -> None:
        if self._writing != since:
            self._look_on()
            return
        after = self._sockets.acked(self.proxy.peer.address)
        if before is not None and after is not None and after >= before + LEAST_BYTES:
            self._look(since)
        else:
            self._cut()

    def _cut(self) -> None:
        """Forget a client that does not read, and end its connection: it has no other stream of a proxy.

        Where the connection is not found it is told so should it ever read again; a dead one is found by keep-alive.
        """
        _LOG.warning("%s has not read for %g s: cut", self.proxy.node.id[:200], self._settings.write)
        self.end(grpc.StatusCode.UNAVAILABLE, f"nothing was read for {self._settings.write:g} s")
        self.close()
        self._sockets.cut(self.proxy.peer.address)
