"""The status server on 15020: readiness, metrics, drain and quit (features row C8), and app probes (A10).

Metrics of Envoy are passed on as they come; ``envoy_istio_...`` becomes ``istio_...``, the names that dashboards know.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from agent import httpwire, probes
from agent.envoy_admin import EnvoyAdmin

_LOG: Final = logging.getLogger("status")
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_HEAD_SECONDS: Final = 5.0
_RENAMED: Final = (
    (b"\nenvoy_istio_", b"\nistio_"),
    (b"\n# TYPE envoy_istio_", b"\n# TYPE istio_"),
    (b"\n# HELP envoy_istio_", b"\n# HELP istio_"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What the server may ask of the agent."""

    unready: Callable[[], Awaitable[str]]
    drain: Callable[[], Awaitable[None]]
    quit: Callable[[], None]


class StatusServer:
    """Answers on all addresses of the pod: probes of the kubelet and Prometheus come from outside."""

    def __init__(self, port: int, admin: EnvoyAdmin, actions: Actions, probers: probes.Probers) -> None:
        """Serve at this port (0 takes a free one)."""
        self.port = port
        self._admin = admin
        self._actions = actions
        self._probers = probers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._connected, "0.0.0.0", self.port)  # noqa: S104 (see the class)
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
            method, path, *_ = (*line.split(" "), "", "")
            local = ipaddress.ip_address(writer.get_extra_info("peername")[0]).is_loopback
            async for part in self._answer(method, path.partition("?")[0], fields, local=local):
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

    async def _answer(self, method: str, path: str, fields: dict[str, str], *, local: bool) -> AsyncIterator[bytes]:
        if path == "/healthz/ready":
            reason = await self._actions.unready()
            yield _text(503 if reason else 200, reason)
        elif path == "/stats/prometheus":
            async for part in self._metrics():
                yield part
        elif path.startswith("/app-health/"):
            yield _text(await self._probers.probe(path, fields), "")
        elif path in ("/quitquitquit", "/drain"):
            yield _text(await self._command(method, path, local=local), "")
        else:
            yield _text(404, "not found")

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

    async def _metrics(self) -> AsyncIterator[bytes]:
        begun = False
        try:
            async with httpwire.exchange(self._admin.target, "GET", "/stats/prometheus") as (status, chunks):
                begun = True
                yield httpwire.response_head(status, _METRICS_TYPE)
                async for part in renamed(chunks):
                    yield part
        except httpwire.HttpError as error:
            if not begun:
                yield _text(503, str(error))


async def renamed(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Envoy's Prometheus text with Istio's metric names, piece by piece (a name may lie across two pieces)."""
    kept, begun = b"\n", False
    async for chunk in chunks:
        whole, _, rest = (kept + chunk).rpartition(b"\n")
        if whole:
            yield _rename(whole)[0 if begun else 1 :]
            begun = True
        kept = b"\n" + rest
    yield _rename(kept)[0 if begun else 1 :]


def _rename(lines: bytes) -> bytes:
    for old, new in _RENAMED:
        lines = lines.replace(old, new)
    return lines


def _text(status: int, text: str) -> bytes:
    body = f"{text}\n".encode() if text else b""
    return httpwire.response_head(status, length=len(body)) + body
