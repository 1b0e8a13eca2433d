"""One stream of one proxy, from its admission to its end: what the client says, what it is sent, and its timers."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from istiod.ads import request
from istiod.ads.quarantine import Client
from istiod.ads.quota import StreamLimits
from istiod.ads.request import Decoded, Request
from istiod.ads.send import Send
from istiod.ads.session import AdsSession, Shared
from istiod.config.protocols import Changed, Configuration
from istiod.config.proxy import Proxy
from istiod.config.resource import EMPTY, ResourceSet
from istiod.grpcserver.budget import Budget
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Stream
from istiod.grpcserver.turns import Turns
from wire import names

Decode = Callable[[bytes], Decoded]
_LOGGER = logging.getLogger(__name__)
_SERIALS: Final = itertools.count()

BURST: Final = 2_000
"""Messages that a client may send at once: a returning one asks for thousands of names, but in few messages."""
RATE: Final = 100
"""Messages per second in the long run, besides those that answer ours (hostile-input SEC23)."""
EARNED: Final = 4
"""Messages that may follow a response: its ACK, and what is asked for since."""
REFUSALS = {
    request.MalformedRequestError: Code.INVALID_ARGUMENT,
    request.OversizedRequestError: Code.RESOURCE_EXHAUSTED,
    request.ForeignTypeError: Code.PERMISSION_DENIED,
}
"""What a client is told whose request cannot be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``first`` is how many seconds a new stream may say nothing.

    ``on_refusal`` is told the type URL of what a client refused, which may be one of the many refusals by which the
    guilty resource is found: see AdsService.rejections.
    ``on_sent`` is told each response: type URL, bytes, seconds that making its bytes took, seconds until the socket had
    taken them. ``on_queued`` is told the seconds from a proxy's new target until its turn, ``on_converged`` those from
    the change until all that could be sent of it was. ``on_secretless`` is told each request for Secrets of which the
    proxy does not get all; ``on_fault`` each stream that ends by a bug.
    ``hurried``: whether a change is on its way to those that have a configuration; who has none takes its time then.
    ``since`` gives the clock's time of the oldest change that the present targets brought; None: they were there.
    """

    first: float = 20.0
    streams: StreamLimits = field(default_factory=StreamLimits)
    on_refusal: Callable[[str], None] | None = None
    on_sent: Callable[[str, int, float, float], None] | None = None
    on_queued: Callable[[float], None] | None = None
    on_converged: Callable[[float], None] | None = None
    on_secretless: Callable[[], None] | None = None
    on_fault: Callable[[], None] | None = None
    since: Callable[[], float | None] = lambda: None
    hurried: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What the streams of one service have in common; ``clock`` gives monotonic seconds.

    ``turns``: whose turn it is among those that do not have their first configuration yet.
    """

    settings: Settings
    clock: Callable[[], float]
    shared: Shared
    turns: Turns


class Connection:
    """Receives what an admitted client says; whenever something happened, asks the session what to send.

    Responses are encoded one by one, when the one before has left: a client that is slow holds no queue, and a target
    that is replaced in the meantime is never encoded. ``holds`` is what has to be given back when the stream is over.
    No other has its ``serial``. ``targets`` counts them; ``reached`` is the newest of them known to be ACKed whole,
    looked for while ``counted``.
    """

    def __init__(self, stream: Stream, proxy: Proxy, wiring: Wiring, decode: Decode, *, delta: bool) -> None:
        self.proxy = proxy
        self.serial = next(_SERIALS)
        self.targets = self.reached = 0
        self.counted = True
        self.began = wiring.clock()
        self.acked_at: float | None = None
        self.holds = contextlib.ExitStack()
        self.session = AdsSession(EMPTY, wiring.clock(), delta=delta, shared=wiring.shared, client=_client(proxy))
        self._stream = stream
        self._settings = wiring.settings
        self._clock = wiring.clock
        self._turns = wiring.turns
        self._decode = decode
        self._loop = asyncio.get_running_loop()
        self._budget = Budget(BURST, RATE, wiring.clock())
        self._sends: collections.deque[Send] = collections.deque()
        self._under_way: tuple[str, int, float, float] | None = None
        self._retargeted: float | None = None
        self._changed: float | None = None
        self._behind: float | None = None
        self._awake = self._over = self._sent = self._placed = self._unplanned = False
        self._timer: asyncio.TimerHandle | None = None

    def subscribe(self, configuration: Configuration) -> None:
        """Take targets; the first is there when this returns.

        Raises:
            RefusedError: the proxy is not what it claims to be.
        """
        self.holds.callback(configuration.subscribe(self.proxy, self._retarget).close)

    def end(self, code: Code, details: str) -> None:
        """End the stream with this status, after the response that is being written."""
        if not self._over:
            self._stream.finish(code, details)
            self.lost()

    # What the client does: see grpcserver.stream.Receiver

    def message(self, raw: bytes) -> None:
        """A request, an ACK or a NACK."""
        if not self._budget.spend(self._clock()):
            raise RpcError(Code.RESOURCE_EXHAUSTED, "too many requests")
        try:
            self.take(self._decode(raw).request)
        except tuple(REFUSALS) as refusal:
            raise RpcError(REFUSALS[type(refusal)], str(refusal)) from refusal
        except Exception:  # a bug ends this stream, and only it; it is logged whole
            _LOGGER.exception("stream of %s ends", self.proxy.node.id[:200])
            self._fail()

    def done(self) -> None:
        """The client leaves."""
        self.end(Code.OK, "")

    def drained(self) -> None:
        """There is room for the next response."""
        self._note_sent()
        self._ask_turn()

    def lost(self) -> None:
        """Give back what the stream holds."""
        _LOGGER.debug("the stream of %.200s is over", self.proxy.node.id)
        self._over = True
        self._set_timer(None)
        self._sends.clear()
        self.holds.close()

    def take(self, asked: Request) -> None:
        """Tell the session what the client said.

        Raises:
            OversizedRequestError: see AdsSession.request.
        """
        if not self._may_ask(asked):
            return
        self._note(asked)
        if not self.session.request(asked):
            return
        if asked.error is not None or self._stream.yields:
            self._stream.yields = self.session.refuses
        if self.counted and asked.nonce:
            self.look()
        if asked.nonce and asked.error is None:
            self.acked_at = self._clock()
        if asked.nonce and asked.type_url == names.LISTENER and self.acked_at is not None:
            self._placed = True
        if not self.session.quiet:
            self._wake()

    def _note(self, asked: Request) -> None:
        if asked.error is not None and self._settings.on_refusal is not None:
            self._settings.on_refusal(asked.type_url)
        if _LOGGER.isEnabledFor(logging.DEBUG):
            _LOGGER.debug("%.200s %s", self.proxy.node.id, said(asked))

    def _may_ask(self, asked: Request) -> bool:
        if asked.type_url != names.SECRET:
            return True
        if self._settings.on_secretless is not None and not self._serves(asked):
            self._settings.on_secretless()
        return self.proxy.peer.identity is not None  # no proof of identity, no secrets (SEC10)

    def _serves(self, asked: Request) -> bool:
        wanted = asked.subscribe if asked.names is None else asked.names
        return self.proxy.peer.identity is not None and self.session.knows(asked.type_url, wanted)

    def _retarget(self, target: ResourceSet, changed: Changed | None) -> None:
        self.targets += 1
        now = self._clock()
        since = (None if changed is None else self._settings.since()) or now
        if self._behind is None or self.session.caught_up:
            self._behind = since
        if self._changed is None:
            self._changed = since
        if self._retargeted is None:
            self._retargeted = now
        try:
            self.session.retarget(target, changed)
        except Exception:
            if changed is None:  # the first: whoever lets it in gives back what it holds
                raise
            # a bug ends this stream, and only it: the next target would be compared with half of this one
            _LOGGER.exception("stream of %s ends", self.proxy.node.id[:200])
            self._fail()
        self._wake()

    def look(self) -> None:
        """Note it if the client has ACKed all of its target."""
        if self.session.settled():
            self.reached, self.counted, self._placed = self.targets, False, True

    def released(self) -> None:
        """Something is kept back from nobody any more, which may be what this client waits for."""
        if not self.session.quiet:
            self._wake()

    def behind(self) -> float | None:
        """The clock's time of the oldest change that the client has not ACKed all of; None: it has all there is."""
        if self._behind is not None and self.session.caught_up:
            self._behind = None
        return self._behind

    def _wake(self) -> None:
        """Something happened: see what is to be sent."""
        self._unplanned = True
        self._ask_turn()

    def _ask_turn(self) -> None:
        """Write as soon as what happens now is over: several things at once are one.

        Who has not acknowledged a whole configuration, nor answered for listeners after it acknowledged something,
        takes turns with others of whom that is true, and everybody else goes before: a thousand that come at once, or
        that acknowledge nothing, keep nobody from a change. Whoever refuses one resource is a proxy as any other;
        who refuses one part after the other is not, until it takes one (hostile-input SEC23).
        """
        if not self._awake and not self._over:
            self._awake = True
            if self._placed and not self._stream.yields:
                self._loop.call_soon(self._write)
            else:
                self._turns.wait(self._write, self)

    def _write(self) -> None:
        self._awake = False
        if self._over or self._stream.pending:
            return
        try:
            if not self._sends:
                self._plan()
            while self._sends and not self._stream.pending:
                self._send(self._sends.popleft())
            if not self._stream.pending:
                self._note_convergence()
                if self._unplanned:  # something happened while the one before waited for room
                    self._ask_turn()
        except Exception:  # a bug ends this stream, and only it; it is logged whole
            _LOGGER.exception("stream of %s ends", self.proxy.node.id[:200])
            self._fail()

    def _fail(self) -> None:
        if self._settings.on_fault is not None:
            self._settings.on_fault()
        self.end(Code.INTERNAL, "a fault of the control plane")

    def _send(self, send: Send) -> None:
        began = self._clock()
        parts = send.encode()
        made = self._clock()
        self._sent = True
        self._budget.earn(EARNED)
        size = sum(map(len, parts))
        self._under_way = (send.type_url, size, made - began, made)
        _LOGGER.debug("%.200s is sent %s, %d bytes", self.proxy.node.id, send.type_url, size)
        self._stream.send(*parts)
        if not self._stream.pending:
            self._note_sent()

    def _note_sent(self) -> None:
        if self._under_way is not None and self._settings.on_sent is not None:
            type_url, size, making, since = self._under_way
            self._settings.on_sent(type_url, size, making, self._clock() - since)
        self._under_way = None

    def _note_convergence(self) -> None:
        if self._sent and self._changed is not None and self._settings.on_converged is not None:
            self._settings.on_converged(self._clock() - self._changed)
        self._changed, self._sent = None, False

    def _note_turn(self) -> None:
        if self._retargeted is not None and self._settings.on_queued is not None:
            self._settings.on_queued(self._clock() - self._retargeted)
        self._retargeted = None

    def _plan(self) -> None:
        self._unplanned = False
        self._note_turn()
        self._sends.extend(self.session.plan(self._clock()))
        wake = self.session.wake
        if wake is not None or self._timer is not None:
            self._set_timer(None if wake is None else max(0.0, wake - self._clock()))

    def _set_timer(self, delay: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay is None else self._loop.call_later(delay, self._wake)


def said(asked: Request) -> str:
    """What a client did, in words for the log."""
    if asked.error is not None:
        return f"refuses {asked.type_url}: {asked.error[:200]}"
    return f"{'acknowledges' if asked.nonce else 'asks for'} {asked.type_url}"


def _client(proxy: Proxy) -> Client:
    """Whose word a refusal is. Without proof all are one: the plaintext port is on loopback only."""
    identity = proxy.peer.identity
    return Client(identity=str(identity or ""), name=f"{proxy.node.name}.{proxy.node.namespace}")
