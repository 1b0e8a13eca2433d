"""The two methods of xDS around AdsSession: who may have a stream, and what is known of all streams.

Bytes in, bytes out (DESIGN section 4): istiod.grpcserver carries them. No decisions about configuration are made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from istiod.ads import auth, quarantine, refusals
from istiod.ads.auth import Authenticator
from istiod.ads.connection import BURST, Connection, Decode, Settings, Wiring
from istiod.ads.deliveries import Deliveries
from istiod.ads.holders import Holders
from istiod.ads.quarantine import Rejection
from istiod.ads.quota import Quota, TooManyStreamsError
from istiod.ads.refusals import Refusals
from istiod.ads.request import MalformedRequestError, claims, decode_delta, decode_sotw
from istiod.ads.session import AdsSession, Shared
from istiod.ads.status import TypeStatus
from istiod.config.protocols import Configuration, TokenVerifier
from istiod.config.proxy import Peer, Proxy
from istiod.config.resource import Resource
from istiod.grpcserver import turns
from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Method
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client, Receiver, Stream
from istiod.grpcserver.turns import Turns

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""A reconnecting delta client sends every name and version it holds, about 110 bytes each (DESIGN section 7)."""
MAX_WAITING_BYTES: Final = 2 * MAX_REQUEST_BYTES
"""What a client may say while its configuration is being made: all types at once, as one that comes back does."""
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStatus:
    """One connected proxy: its types, and whether it has ACKed all of its target.

    ``target`` counts the targets that this stream was given; ``acked_at`` is the clock's time (seconds) of its newest
    ACK, None before the first.
    """

    proxy: Proxy
    types: tuple[TypeStatus, ...]
    target: int
    settled: bool
    acked_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """All connected proxies, how many of them lack something, and since when (the clock's seconds)."""

    proxies: tuple[Proxy, ...] = ()
    behind: int = 0
    since: float | None = None


class AdsService:
    """Every stream of xDS in this process, in the event loop's thread."""

    def __init__(
        self,
        configuration: Configuration,
        clock: Callable[[], float],
        *,
        authenticator: Authenticator | None = None,
        settings: Settings | None = None,
        shared: Shared | None = None,
        full: Callable[[], str] = str,
    ) -> None:
        """Take targets from ``configuration`` and monotonic seconds from ``clock``.

        ``full`` says why no further stream is served now, "" where one is.
        """
        self._configuration = configuration
        self._clock = clock
        self._authenticator = authenticator or Authenticator()
        self._full = full
        settings = settings or Settings()
        order = Turns(clock, turns.of_loop, settings.hurried)
        self._wiring = Wiring(settings=settings, clock=clock, shared=shared or Shared(), turns=order)
        self._connections: dict[int, Connection] = {}
        self._quota = Quota(self._wiring.settings.streams)
        self._refusals = Refusals(clock)
        self.deliveries = Deliveries(lambda: tuple(self._connections.values()), clock)
        self._holders = Holders(lambda: ((c.proxy, c.session) for c in self._connections.values()), configuration.knows)
        self._forgetting: asyncio.TimerHandle | None = None
        self._looked = -1
        self._sessions: tuple[AdsSession, ...] = ()
        self._wiring.shared.quarantine.listen(self._released)

    def methods(self, verifier: TokenVerifier | None = None) -> Mapping[str, Method]:
        """For a grpcserver.Server. ``verifier`` recognises clients without a certificate; None: there are none."""
        return {
            f"/{SERVICE}/StreamAggregatedResources": partial(self._open, verifier, delta=False),
            f"/{SERVICE}/DeltaAggregatedResources": partial(self._open, verifier, delta=True),
        }

    def end(self) -> None:
        """End every stream with a status that makes clients try elsewhere."""
        for connection in list(self._connections.values()):
            connection.end(Code.UNAVAILABLE, "this control plane is stopping")
        if self._forgetting is not None:
            self._forgetting.cancel()

    def status(self) -> tuple[ProxyStatus, ...]:
        """Every connected proxy, for debug pages and for those who wait for ACKs."""
        now = self._clock()
        return tuple(
            ProxyStatus(
                proxy=c.proxy,
                types=c.session.status(now),
                target=c.targets,
                settled=c.session.settled(),
                acked_at=c.acked_at,
            )
            for c in self._connections.values()
        )

    def holder(self, hosts: Collection[str], addresses: Iterable[str], first: str = "") -> str:
        """The node id of a proxy that may send to an address of these hosts, "" for none; see Holders.find."""
        return self._holders.find(hosts, addresses, self._clock(), first)

    def census(self) -> Census:
        """How all proxies stand, at little cost: for each scrape."""
        found = [connection.behind() for connection in self._connections.values()]
        behind = [since for since in found if since is not None]
        proxies = tuple(connection.proxy for connection in self._connections.values())
        return Census(proxies=proxies, behind=len(behind), since=min(behind, default=None))

    @property
    def places(self) -> int:
        """How many places of the limits on streams are held: none, when no stream is left."""
        return self._quota.taken

    def converged(self) -> bool:
        """Whether every connected proxy has ACKed all of its newest target."""
        return all(connection.session.settled() for connection in self._connections.values())

    def rejections(self, standing: Callable[[Resource], bool] = lambda _: False) -> tuple[Rejection, ...]:
        """What proxies refused of what they should have now, each resource once, with the proxies.

        ``standing`` says what else counts, though no proxy that is connected should have it.
        """
        own = [rejection for c in self._connections.values() for rejection in c.session.rejections()]
        kept = self._wiring.shared.quarantine.rejections()
        return quarantine.merged((*own, *(r for r in kept if self.wants(r.resource) or standing(r.resource))))

    def wants(self, resource: Resource) -> bool:
        """Whether a connected proxy should have this very resource."""
        return any(session.wants(resource) for session in self._different())

    def _different(self) -> tuple[AdsSession, ...]:
        """One session of each target: somebody may refuse a thousand resources, and then all are asked about each."""
        count = self._wiring.shared.retargets
        if self._looked != count:
            self._looked = count
            found = (connection.session for connection in self._connections.values())
            self._sessions = tuple({id(session.target): session for session in found}.values())
        return self._sessions

    def _open(self, verifier: TokenVerifier | None, stream: Stream, request: Request, *, delta: bool) -> Receiver:
        if not self._configuration.ready:
            raise RpcError(Code.UNAVAILABLE, "the control plane has not read its configuration yet")
        if reason := self._full():
            raise RpcError(Code.UNAVAILABLE, reason, elsewhere=True)
        client = stream.client
        by_token = client.secure and client.certificate is None
        try:
            peer = None if by_token else self._authenticator.peer(client)
            left = self._quota.enter(client.address, peer)
        except (auth.UnauthenticatedError, TooManyStreamsError) as refusal:
            raise self._refusals.told(stream, refusal) from refusal
        admit = partial(self._admit, stream, delta=delta)
        newcomer = _Newcomer(stream, admit, self._wiring.settings.first, self._refusals)
        newcomer.holds.callback(left)
        if peer is None:
            newcomer.identify(partial(self._proven, client, request, verifier, newcomer.holds))
        else:
            newcomer.known(peer)
        return newcomer

    async def _proven(
        self, client: Client, request: Request, verifier: TokenVerifier | None, holds: contextlib.ExitStack
    ) -> Peer:
        """Whose token it is; its stream counts among those of that identity from then on.

        Raises:
            UnauthenticatedError: see Authenticator.by_token.
            TooManyStreamsError: see Quota.enter.
            RpcError: nobody can say.
        """
        peer = await self._authenticator.by_token(client, request, verifier)
        left = self._quota.enter(client.address, peer)
        holds.close()
        holds.callback(left)
        return peer

    def _released(self) -> None:
        for connection in self._connections.values():
            connection.released()

    def _lost(self, connection: Connection) -> None:
        del self._connections[id(connection)]
        self._looked, self._sessions = -1, ()
        self._holders.lost(connection.proxy, connection.session, self._clock())
        if self._forgetting is None:
            self._forget()

    def _forget(self) -> None:
        """Let go of those that went away too long ago, also where nobody comes, goes or asks any more."""
        due = self._holders.forget(self._clock())
        later = asyncio.get_running_loop().call_later
        self._forgetting = None if due is None else later(max(0.0, due - self._clock()), self._forget)

    def _admit(
        self, stream: Stream, peer: Peer, raw: bytes, holds: contextlib.ExitStack, *, delta: bool
    ) -> Callable[[], Awaitable[object]] | None:
        """Serve a client that has said its first request, or give back what is to be awaited before it is said again.

        ``holds`` is closed when the client has a place of its own.

        Raises:
            RpcError: it may not be served.
        """
        decode: Decode = decode_delta if delta else decode_sotw
        try:
            decoded = decode(raw)
            if decoded.node is None:
                raise MalformedRequestError("the first request has no node")
            proxy = auth.admit(peer, claims(decoded.node))
            if (waiting := self._configuration.ahead(proxy)) is not None:
                return waiting
            holds.close()
            connection = Connection(stream, proxy, self._wiring, decode, delta=delta)
            with contextlib.ExitStack() as failed:
                failed.callback(connection.lost)
                connection.holds.callback(self._quota.admit(proxy, known=self._configuration.knows(proxy)))
                connection.subscribe(self._configuration)
                failed.pop_all()
            stream.receiver = connection
            self._connections[id(connection)] = connection
            connection.holds.callback(self._lost, connection)
            if stream.request.timeout is not None:
                end = partial(connection.end, Code.DEADLINE_EXCEEDED, "the client's time is over")
                timer = asyncio.get_running_loop().call_later(stream.request.timeout, end)
                connection.holds.callback(timer.cancel)
            connection.take(decoded.request)
        except tuple(refusals.CODES) as refusal:
            raise self._refusals.told(stream, refusal) from refusal
        return None


class _Newcomer:
    """A stream whose client is not known yet, or has said nothing: what it says waits, in its first small window.

    So does what it says while its configuration is being made, when no window holds it any more: as much as an honest
    client says. ``holds`` is what has to be given back when it is served, or over.
    """

    def __init__(
        self,
        stream: Stream,
        admit: Callable[[Peer, bytes, contextlib.ExitStack], Callable[[], Awaitable[object]] | None],
        patience: float,
        refused: Refusals,
    ) -> None:
        self.holds = contextlib.ExitStack()
        self._stream = stream
        self._admit = admit
        self._refusals = refused
        self._peer: Peer | None = None
        self._said: list[bytes] = []
        self._size = 0
        self._ended = self._waiting = False
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(patience, self._too_late)

    def identify(self, ask: Callable[[], Awaitable[Peer]]) -> None:
        """Find out who it is; ``ask`` is not called where the stream ends before."""
        self._task = asyncio.create_task(self._identify(ask))

    def known(self, peer: Peer) -> None:
        """It is this peer; what it has said by now is heard."""
        self._peer = peer
        self._stream.accept(MAX_REQUEST_BYTES)
        said, self._said = self._said, []
        for raw in said:
            self._stream.receiver.message(raw)
        if self._ended:
            self._stream.receiver.done()

    def message(self, raw: bytes) -> None:
        if self._peer is None or self._waiting:
            self._said.append(raw)
            self._size += len(raw)
            if len(self._said) > BURST or self._size > MAX_WAITING_BYTES:
                refusal = RpcError(Code.RESOURCE_EXHAUSTED, "too much was said before the first answer")
                raise self._refusals.told(self._stream, refusal)
            return
        self._timer.cancel()
        try:
            waiting = self._admit(self._peer, raw, self.holds)
        except Exception:
            self._over()
            raise
        if waiting is not None:
            self._said, self._size, self._waiting = [raw], len(raw), True
            self._task = asyncio.create_task(self._await(self._peer, waiting))

    def done(self) -> None:
        self._ended = True
        if self._peer is not None and not self._waiting:
            raise self._refusals.told(self._stream, MalformedRequestError("the stream ended before its first request"))

    def drained(self) -> None:
        """Nothing is sent yet."""

    def lost(self) -> None:
        self._over()
        self._give_up()

    async def _identify(self, ask: Callable[[], Awaitable[Peer]]) -> None:
        try:
            self.known(await self._proven(ask))
        except RpcError as refusal:
            self._refuse(refusal)
        except Exception:  # whatever keeps us from judging a token ends this stream, and only it
            _LOGGER.exception("the token of %s could not be judged", self._stream.client.address)
            self._refuse(RpcError(Code.UNAVAILABLE, "the token could not be judged"))

    async def _await(self, peer: Peer, ahead: Callable[[], Awaitable[object]]) -> None:
        try:
            made = await ahead()
            self._waiting = False
            self.known(peer)
            del made  # until here, so that it need not be made once more
        except RpcError as refusal:
            self._refuse(refusal)
        except Exception:  # a bug ends this stream, and only it; it is logged whole
            _LOGGER.exception("stream of %s ends", self._stream.client.address)
            self._refuse(RpcError(Code.INTERNAL, "a fault of the control plane"))

    async def _proven(self, ask: Callable[[], Awaitable[Peer]]) -> Peer:
        try:
            return await ask()
        except (auth.UnauthenticatedError, TooManyStreamsError, RpcError) as refusal:
            raise self._refusals.told(self._stream, refusal) from refusal

    def _over(self) -> None:
        self._timer.cancel()
        self.holds.close()

    def _refuse(self, refusal: RpcError) -> None:
        self._over()
        receiver = self._stream.receiver
        self._stream.finish(refusal.code, refusal.details)
        if receiver is not self:  # what was said first let it in, what came after did not
            receiver.lost()

    def _give_up(self) -> None:
        """What is cancelled keeps the error that ended it, and with it all that it knew: nobody may hold it here."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _too_late(self) -> None:
        self._give_up()
        self._over()
        self._stream.finish(Code.DEADLINE_EXCEEDED, "no first request")
