"""The status server on 15020: readiness, metrics, drain and quit (features row C8), and app probes (A10).

What the pages hold is others' part: scrape makes the metrics, probes ask the app, debug has the pages below /debug.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from agent import debug, httpwire, probes, scrape
from wire import names, telemetry

_LOG: Final = logging.getLogger("status")
_MERGED: Final = "/stats/prometheus"
_HEAD_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What the server may ask of the agent."""

    unready: Callable[[], Awaitable[str]]
    drain: Callable[[], Awaitable[None]]
    quit: Callable[[], None]
    released: Callable[[], Awaitable[bool | None]] | None = None
    """Waits until nobody sends to the pod any more, see agent.departure; None where that was not asked for."""
    names: Callable[[], bytes] = bytes
    """The DNS proxy's names as the control plane sent them; nothing where there are none."""


class StatusServer:
    """Answers on all addresses of the pod: probes of the kubelet and Prometheus come from outside."""

    def __init__(self, port: int, actions: Actions, metrics: scrape.Scrape, probers: probes.Probers) -> None:
        """Serve at this port (0 takes a free one)."""
        self.port = port
        self._metrics = metrics
        self._actions = actions
        self._probers = probers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, on both IP versions where there are two.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._connected, sock=_listening(self.port))
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.close()
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                line, fields = await httpwire.read_head(reader)
            method, target, *_ = (*line.split(" "), "", "")
            local = is_local(writer.get_extra_info("peername")[0])
            async with asyncio.timeout(_ANSWER_SECONDS):
                async for part in self._answer(method, target, fields, local=local):
                    writer.write(part)
                    await writer.drain()
        except (
            OSError,
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            httpwire.HttpError,
        ) as error:
            _LOG.debug("a client of the status port went away, or spoke no HTTP: %s", error)
        finally:
            writer.close()

    async def _answer(self, method: str, target: str, fields: dict[str, str], *, local: bool) -> AsyncIterator[bytes]:
        path = target.partition("?")[0]
        if path == "/healthz/ready":
            reason = await self._actions.unready()
            yield _text(503 if reason else 200, reason)
        elif path in (_MERGED, telemetry.STATS_PATH):
            page = self._metrics.answer if path == _MERGED else self._metrics.envoy_alone
            async for part in page(fields):
                yield part
        elif path.startswith(probes.PREFIXES):
            yield _text(await self._probers.probe(path, fields), "")
        elif path == names.RELEASED_PATH:
            yield _text(await self._released(), "")
        elif path in ("/quitquitquit", "/drain"):
            yield _text(await self._command(method, path, local=local), "")
        elif path.startswith(debug.PREFIX):
            found = await debug.page(method, target, self._actions.names, local=local)
            yield httpwire.response_head(found.status, found.type, len(found.body)) + found.body
        else:
            yield _text(404, "not found")

    async def _released(self) -> int:
        """Anybody may wait with us: the kubelet asks from outside of the pod."""
        if self._actions.released is None:
            return 404
        return 200 if await self._actions.released() else 503

    async def _command(self, method: str, path: str, *, local: bool) -> int:
        """Only from within the pod: anybody may reach the port, not everybody may end the proxy."""
        if not local:
            return 403
        if method != "POST":
            return 405
        if path == "/drain":
            await self._actions.drain()
        else:
            self._actions.quit()
        return 200


def is_local(address: str) -> bool:
    """Whether a peer's address is loopback, also where IPv4 arrives on a socket of IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def _listening(port: int) -> socket.socket:
    """A socket on all addresses, of IPv4 alone where the kernel has no IPv6."""
    both = socket.has_dualstack_ipv6()
    return socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)


def _text(status: int, text: str) -> bytes:
    body = f"{text}\n".encode() if text else b""
    return httpwire.response_head(status, length=len(body)) + body
