"""Listening sockets, the connections that came of them, and the methods that can be called.

Limits before anybody is known: connections in all, and of one address those without a call (hostile-input SEC24). Above
them a connection is closed at once, which costs less than to leave it in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import logging
import math
import resource
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final

from istiod.grpcserver import turns
from istiod.grpcserver.channel import Channel, SecureChannel
from istiod.grpcserver.connection import Connection, Wiring
from istiod.grpcserver.cuts import Cuts
from istiod.grpcserver.deadlines import Do, Limits, Verdict
from istiod.grpcserver.poll import Poll
from istiod.grpcserver.request import Request
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client, Receiver, Stream
from istiod.grpcserver.turns import Turns

Method = Callable[[Stream, Request], Receiver]
"""Starts a call of one method. May raise RpcError."""
MAX_CONNECTIONS: Final = 20_000
RESERVED_FILES: Final = 256
"""File descriptors that are for other things."""
MAX_UNKNOWN: Final = 512
"""Connections of one address that have no call: not yet, or no more."""
RECOUNT: Final = 0.1
"""Seconds between two looks at how many these are, once they seem too many: a gateway or a NAT may stand before a
thousand proxies that all come at once."""
AT_ONCE: Final = 32
"""Connections that are accepted before others have their turn."""
TICK: Final = 1.0
_PAUSE: Final = 1.0
_STEP: Final = 0.01
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LOGGER = logging.getLogger(__name__)


class Server:
    """Serves methods, by path such as ``/package.Service/Method``, over any number of addresses, in one event loop."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        limits: Limits | None = None,
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        """``hurried``: whether clients that are served wait for something, so that others have to wait."""
        self._methods = dict(methods)
        self._limits = limits or Limits()
        self._connections: set[Connection] = set()
        self._listeners: list[socket.socket] = []
        self._most = min(MAX_CONNECTIONS, _file_limit() - RESERVED_FILES)
        self._tick: asyncio.TimerHandle | None = None
        self._stopping = False
        self._unknown: collections.Counter[str] = collections.Counter()
        self._counted = 0.0
        self.unread = 0
        """Connections that were cut since their clients did not read."""
        order = Turns(time.monotonic, turns.of_loop, hurried)
        self._wiring = Wiring(limits=self._limits, turns=order, cuts=Cuts(), poll=Poll())

    def listen(self, address: str, context: Callable[[], ssl.SSLContext] | None = None) -> int:
        """Serve on HOST:PORT from now on; gives the port, which matters for port 0.

        ``context`` is asked at each connection, so that certificates can change; None is plaintext HTTP/2.

        Raises:
            OSError: the address cannot be bound.
        """
        made = bound(address)
        self._listeners.append(made)
        loop = asyncio.get_running_loop()
        loop.add_reader(made.fileno(), self._accept, made, context)
        if self._tick is None:
            self._tick = loop.call_later(self._period, self._look)
        return int(made.getsockname()[1])

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def clients(self) -> tuple[Client, ...]:
        """Those that have a call open."""
        return tuple(c.http.client for c in self._connections if c.http.streams)

    def hasten(self, stale: Callable[[Client], bool], within: float) -> None:
        """Make clients connect anew within so many seconds, each at its own moment, of whom ``stale`` is true."""
        for connection in self._connections:
            if connection.http.streams and stale(connection.http.client):
                connection.hasten(within)

    async def stop(self, grace: float = 1.0) -> None:
        """Take no more connections, tell clients to go elsewhere, let calls end within ``grace`` seconds."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        while self._listeners:
            listener = self._listeners.pop()
            loop.remove_reader(listener.fileno())
            listener.close()
        for connection in list(self._connections):
            connection.drain()
        await self._left(grace, lambda: not any(c.http.streams for c in self._connections))
        for connection in list(self._connections):
            connection.close(Verdict(Do.CLOSE, "this control plane is stopping"))
        await self._left(min(grace, 1.0), lambda: not self._connections)
        for connection in list(self._connections):
            connection.cut("")
        if self._tick is not None:
            self._tick.cancel()
        self._wiring.poll.close()

    async def _left(self, patience: float, over: Callable[[], bool]) -> None:
        for _ in range(math.ceil(patience / _STEP)):
            if over():
                return
            await asyncio.sleep(_STEP)

    @property
    def _period(self) -> float:
        limits = self._limits
        return min(TICK, limits.write / 8, limits.grace / 8)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._tick = loop.call_later(self._period, self._look)
        now = loop.time()
        for connection in list(self._connections):
            self.unread += connection.tick(now).code is Code.DEADLINE_EXCEEDED
        self._count(now)
        self._wiring.cuts.age()

    def _count(self, now: float) -> None:
        self._counted = now
        self._unknown = collections.Counter(c.host for c in self._connections if not c.http.streams)

    def _crowded(self, host: str) -> bool:
        """Whether so many connections of an address have no call, however many have come since the last look."""
        if self._unknown[host] < MAX_UNKNOWN:
            return False
        now = asyncio.get_running_loop().time()
        if now >= self._counted + RECOUNT:
            self._count(now)
        return self._unknown[host] >= MAX_UNKNOWN

    def _accept(self, listener: socket.socket, context: Callable[[], ssl.SSLContext] | None) -> None:
        for _ in range(AT_ONCE):
            try:
                plain, (host, port, *_) = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause(listener, context)
                return
            self._admit(plain, (host.removeprefix("::ffff:"), port), context)

    def _pause(self, listener: socket.socket, context: Callable[[], ssl.SSLContext] | None) -> None:
        """Accept nothing for a while: there are no file descriptors."""
        _LOGGER.error("out of file descriptors; no new connection for %g s", _PAUSE)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener.fileno())

        def resume() -> None:
            if not self._stopping:
                loop.add_reader(listener.fileno(), self._accept, listener, context)

        loop.call_later(_PAUSE, resume)

    def _admit(
        self, plain: socket.socket, address: tuple[str, int], context: Callable[[], ssl.SSLContext] | None
    ) -> None:
        host, _ = address
        if len(self._connections) >= self._most or self._crowded(host):
            plain.close()
            return
        self._unknown[host] += 1
        try:
            channel = Channel(plain) if context is None else SecureChannel(plain, context())
        except OSError:  # it left already
            plain.close()
            return
        self._connections.add(Connection(channel, address, self._open, self._wiring, self._connections.discard))

    def _open(self, stream: Stream, request: Request) -> Receiver:
        method = self._methods.get(request.path)
        if method is None:
            raise RpcError(Code.UNIMPLEMENTED, f"there is no method {request.path[:200]}")
        return method(stream, request)


def _file_limit() -> int:
    """How many file descriptors this process may have, after its soft limit was raised to its hard one.

    The usual soft limit of 1,024 is for programs that call select(2), and would end at 768 connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # a hard limit above the kernel's own
            _LOGGER.debug("the limit of file descriptors stays at %d: %s", soft, error)
            return soft
        _LOGGER.debug("raised the limit of file descriptors from %d to %d", soft, hard)
    return hard


def bound(address: str) -> socket.socket:
    """A listening socket for HOST:PORT; no host, or [::], is everywhere, over both versions of IP."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    everywhere = host in {"", "::"}
    both = everywhere and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, int(port)), family=family, backlog=1_024, dualstack_ipv6=both)
    except OSError as error:
        raise OSError(error.errno, f"{address}: {error.strerror}") from error
    made.settimeout(0)
    return made
