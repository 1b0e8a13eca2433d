"""An API server that knows nothing but to refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.kube.faults import KUBECONFIG


class Server:
    """Answers ``{}``, or an error for as many requests as ``refusals`` says."""

    def __init__(self, status: int) -> None:
        self.refusals = 0.0
        self._status = status

    async def answer(self, _: web.Request) -> web.Response:
        self.refusals -= 1
        return web.json_response({}, status=self._status if self.refusals >= 0 else 200)


@asynccontextmanager
async def serving(kubeconfig: Path, status: int = 401) -> AsyncIterator[Server]:
    server, app = Server(status), web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    await asyncio.to_thread(kubeconfig.write_text, KUBECONFIG.format(server=address))
    try:
        yield server
    finally:
        await runner.cleanup()
