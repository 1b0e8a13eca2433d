"""A proxy before a real API server that can fail, delay, hold back and forge: faults FT2 to FT5, FT11 and FT12."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from istiod.kube import credentials

KUBECONFIG = """
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "{server}"}}}}]
users: [{{name: u, user: {{token: the-proxy-has-its-own}}}}]
"""
Refuse = Callable[[web.Request], web.Response | None]


def plural(request: web.Request) -> str:
    """What a request is about, such as ``pods``."""
    return request.path.rpartition("/")[2]


def is_watch(request: web.Request) -> bool:
    return "watch" in request.query


class FaultProxy:
    """``refuse`` may answer a request itself; ``open`` lets requests through, ``watching`` events of watches."""

    def __init__(self, info: Any, kubeconfig: Path) -> None:
        self._server = info.server
        self._port = 0
        self._session = credentials.session(info)
        self.kubeconfig = str(kubeconfig)
        self.open = asyncio.Event()
        self.open.set()
        self.watching = asyncio.Event()
        self.watching.set()
        self.delay: dict[str, asyncio.Event] = {}
        self.refuse: Refuse = lambda _: None
        self.swallow: Callable[[bytes], bool] = lambda _: False
        """Which events of watches never arrive."""
        self.lists: Counter[str] = Counter()
        self.watches: Counter[str] = Counter()
        self._forged: dict[str, asyncio.Queue[dict[str, Any]]] = {}

    @classmethod
    @asynccontextmanager
    async def between(cls, upstream: str, kubeconfig: Path) -> AsyncIterator[Self]:
        """A running proxy before the API server of one kubeconfig, which writes another for its own clients."""
        made = cls(credentials.login(upstream), kubeconfig)
        await made.start()
        server = f"http://127.0.0.1:{made._port}"
        await asyncio.to_thread(kubeconfig.write_text, KUBECONFIG.format(server=server))
        try:
            yield made
        finally:
            await made.stop()
            await made._session.close()

    async def start(self) -> None:
        """Listen, where it listened before."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self.answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Cut all connections, and refuse new ones, as an API server that is gone."""
        await self._runner.cleanup()

    def forge(self, kind: str, code: int, reason: str) -> None:
        """Put an error into the open watch of ``kind``, after which the API server would end it."""
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
        self._forged.setdefault(kind, asyncio.Queue()).put_nowait({"type": "ERROR", "object": status})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        (self.watches if is_watch(request) else self.lists)[plural(request)] += request.method == "GET"
        await self.open.wait()
        if not is_watch(request) and plural(request) in self.delay:
            await self.delay[plural(request)].wait()
        if (refused := self.refuse(request)) is not None:
            return refused
        timeout = aiohttp.ClientTimeout(total=None)
        kind = request.headers.get("Content-Type")
        headers = {"Content-Type": kind} if kind else {}
        url = f"{self._server}{request.path_qs}"
        body = await request.read()
        async with self._session.request(request.method, url, data=body, headers=headers, timeout=timeout) as upstream:
            if not is_watch(request) or upstream.status != 200:
                return web.Response(
                    status=upstream.status, body=await upstream.read(), content_type=upstream.content_type
                )
            return await self._stream(request, upstream)

    async def _stream(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        forged = self._forged.setdefault(plural(request), asyncio.Queue())
        error = asyncio.ensure_future(forged.get())
        try:
            while True:
                line = asyncio.ensure_future(upstream.content.readline())
                await asyncio.wait((line, error), return_when=asyncio.FIRST_COMPLETED)
                if error.done():
                    line.cancel()
                    await response.write(json.dumps(error.result()).encode() + b"\n")
                    return response
                if not line.result():
                    return response
                held = asyncio.ensure_future(self.watching.wait())
                await asyncio.wait((held, error), return_when=asyncio.FIRST_COMPLETED)
                if held.done() and not self.swallow(line.result()):
                    await response.write(line.result())
                held.cancel()
        finally:
            error.cancel()
