"""The gRPC shell around AdsSession: sockets, tasks and time, and no decisions about configuration.

grpc.aio with identity serializers: bytes in, bytes out (DESIGN section 4). A stream is one reader, the RPC's own
coroutine, and one writer, which asks the session what to send whenever something happened and nothing is being
written: so there is no queue, and a target that is replaced while a client is slow was never encoded.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import grpc
import grpc.aio

from istiod.ads import auth
from istiod.ads.auth import Authenticator
from istiod.ads.connection import REFUSALS, Connection, Context, Decode, Settings, read
from istiod.ads.quarantine import Rejection
from istiod.ads.request import MalformedRequestError, Request, claims, decode_delta, decode_sotw
from istiod.ads.session import Shared
from istiod.ads.status import TypeStatus
from istiod.ads.transport import Sockets
from istiod.config.protocols import Configuration, RefusedError
from istiod.config.proxy import Proxy

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""A reconnecting delta client sends every name and version it holds, about 110 bytes each (DESIGN section 7)."""
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_connection_age_ms", 30 * 60 * 1000),
    ("grpc.max_connection_age_grace_ms", 10 * 1000),
    ("grpc.keepalive_time_ms", 30 * 1000),
    ("grpc.keepalive_timeout_ms", 10 * 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5 * 1000),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 256 * 1024),
)
"""Without probes of the bandwidth towards us: each ACK would have its PING and answer, a sixth of an endpoint change's
CPU. A fixed window takes their place, large enough for what a returning client says.

Connections end, not streams: a new stream on an old connection keeps the identity of an old certificate."""
_REFUSALS: Final = REFUSALS | {
    auth.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    auth.ClaimError: grpc.StatusCode.PERMISSION_DENIED,
}
_LOG = logging.getLogger(__name__)


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


class AdsServer:
    """Serves xDS over any number of addresses. Made, started and stopped in the event loop's thread."""

    def __init__(
        self,
        configuration: Configuration,
        clock: Callable[[], float],
        *,
        authenticator: Authenticator | None = None,
        settings: Settings | None = None,
        shared: Shared | None = None,
    ) -> None:
        """Take targets from ``configuration`` and monotonic seconds from ``clock``."""
        self._configuration = configuration
        self._clock = clock
        self._authenticator = authenticator or Authenticator()
        self._settings = settings or Settings()
        self._shared = shared or Shared()
        self._sockets = Sockets()
        self._connections: dict[int, Connection] = {}
        self._server = grpc.aio.server(options=OPTIONS)
        self.add_handler(self._handler())

    def add_handler(self, handler: grpc.GenericRpcHandler) -> None:
        """Serve another service on the same addresses, such as certificate renewals on 15011. Before ``start``."""
        self._server.add_generic_rpc_handlers((handler,))

    def add_plaintext(self, address: str) -> int:
        """Serve without proof of identity on HOST:PORT; gives the port, which matters for port 0.

        Raises:
            ValueError: the address is not on loopback.
            RuntimeError: it cannot be bound.
        """
        auth.require_loopback(address)
        return self._server.add_insecure_port(address)

    def add_mtls(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Serve over mTLS on HOST:PORT; gives the port.

        The credentials must require client certificates; ``grpc.dynamic_ssl_server_credentials`` lets them change.

        Raises:
            RuntimeError: it cannot be bound.
        """
        return self._server.add_secure_port(address, credentials)

    async def start(self) -> None:
        """Begin to answer."""
        await self._server.start()

    async def stop(self, grace: float = 1.0) -> None:
        """End every stream, with a status that makes clients try elsewhere, and close within ``grace`` seconds."""
        for connection in list(self._connections.values()):
            connection.end(grpc.StatusCode.UNAVAILABLE, "this control plane is stopping")
        await self._server.stop(grace)

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

    def converged(self) -> bool:
        """Whether every connected proxy has ACKed all of its newest target."""
        return all(connection.session.settled() for connection in self._connections.values())

    def rejections(self) -> tuple[Rejection, ...]:
        """What proxies refused of what they should have now, each resource once."""
        sessions = [connection.session for connection in self._connections.values()]
        own = (rejection for session in sessions for rejection in session.rejections())
        kept = (r for r in self._shared.quarantine.rejections() if any(s.wants(r.resource) for s in sessions))
        found = {(r.resource.type_url, r.resource.name, r.resource.version): r for r in (*own, *kept)}
        return tuple(found.values())

    def _handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._sotw),
                "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._delta),
            },
        )

    async def _sotw(self, _: object, context: Context) -> None:
        await self._serve(context, decode_sotw, delta=False)

    async def _delta(self, _: object, context: Context) -> None:
        await self._serve(context, decode_delta, delta=True)

    async def _serve(self, context: Context, decode: Decode, *, delta: bool) -> None:
        if not self._configuration.ready:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane has not read its configuration yet")
        proxy, first = await self._admit(context, decode)
        connection = Connection(context, proxy, self._settings, self._clock, self._sockets)
        try:
            connection.subscribe(self._configuration, self._shared, delta=delta)
        except RefusedError as refusal:
            _LOG.warning("refused a stream of %s: %s", context.peer(), refusal)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(refusal))
        self._connections[id(connection)] = connection
        connection.holds.callback(self._connections.pop, id(connection))
        self._end_with_certificate(context, connection)
        status = await connection.run(first, decode)
        if status.code is not grpc.StatusCode.OK:  # grpc takes an abort with OK for a bug
            await context.abort(status.code, status.details)

    async def _admit(self, context: Context, decode: Decode) -> tuple[Proxy, Request]:
        """The proxy of a new stream, and its first request; aborts what may not be served."""
        try:
            peer = self._authenticator.peer(context.peer(), context.auth_context())
            async with asyncio.timeout(self._settings.first):
                raw = await read(context)
            if raw is None:
                raise MalformedRequestError("the stream ended before its first request")
            decoded = decode(raw)
            if decoded.node is None:
                raise MalformedRequestError("the first request has no node")
            return auth.admit(peer, claims(decoded.node)), decoded.request
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no first request")
        except tuple(_REFUSALS) as refusal:
            _LOG.warning("refused a stream of %s: %s", context.peer(), str(refusal)[:500])
            await context.abort(_REFUSALS[type(refusal)], str(refusal)[:500])

    def _end_with_certificate(self, context: Context, connection: Connection) -> None:
        """End the stream when its certificate does. Its connection ends by age, far within a certificate's life."""
        over = auth.expires(context.auth_context())
        if over is None:
            return
        left = (over - dt.datetime.now(dt.UTC)).total_seconds()
        end = partial(connection.end, grpc.StatusCode.UNAUTHENTICATED, f"the client's certificate ended at {over}")
        timer = asyncio.get_running_loop().call_later(max(0.0, left), end)
        connection.holds.callback(timer.cancel)
