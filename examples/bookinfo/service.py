"""What every BookInfo service does alike: serve on 9080, answer /health, pass trace headers on, ask neighbours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp import web

PORT = 9080

# The headers that tie a request's hops together (Istio's distributed tracing task), and those BookInfo routes by.
PASSED_ON = (
    "x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "b3",
    "traceparent", "tracestate", "baggage", "end-user", "user-agent", "cookie", "authorization",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a neighbour said. ``status`` is 0 when nobody answered; ``body`` is decoded JSON or None."""

    status: int
    body: object

    @property
    def ok(self) -> bool:
        """Whether the neighbour answered with what was asked for."""
        return self.status == web.HTTPOk.status_code


def trace_headers(request: web.Request) -> Mapping[str, str]:
    """The request's headers that its calls to neighbours have to carry."""
    return {name: request.headers[name] for name in PASSED_ON if name in request.headers}


async def health(_: web.Request) -> web.Response:
    """Say that the service is up."""
    return web.json_response({"status": "healthy"})


class Neighbours:
    """Other services by host name, asked over kept connections."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, url: str, headers: Mapping[str, str], timeout: float) -> Answer:  # noqa: ASYNC109 (aiohttp's own)
        """GET ``url``, wait at most ``timeout`` seconds. Never raises: a silent neighbour is Answer(status=0)."""
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        try:
            limit = aiohttp.ClientTimeout(total=timeout)
            async with self._session.get(url, headers=headers, timeout=limit) as response:
                return Answer(status=response.status, body=json.loads(await response.read()))
        except (TimeoutError, aiohttp.ClientError, json.JSONDecodeError):
            return Answer(status=0, body=None)

    async def close(self, _: web.Application | None = None) -> None:
        """Close the kept connections."""
        if self._session is not None:
            await self._session.close()


def application(neighbours: Neighbours | None = None) -> web.Application:
    """An application with /health; ``neighbours`` are closed with it."""
    app = web.Application()
    app.router.add_get("/health", health)
    if neighbours is not None:
        app.on_cleanup.append(neighbours.close)
    return app
