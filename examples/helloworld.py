"""The sample helloworld on port 5000: /hello says which version and which pod answers, /health that it is up.

`python -m examples.helloworld [PORT]`; the version is the environment's SERVICE_VERSION, as in Istio's image.
"""

from __future__ import annotations

import os
import platform
import sys

from aiohttp import web

PORT = 5000


def application(version: str, instance: str) -> web.Application:
    """The server of one pod."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text=f"Hello version: {version}, instance: {instance}\n")

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="Helloworld is healthy\n")

    app = web.Application()
    app.router.add_get("/hello", hello)
    app.router.add_get("/health", health)
    return app


if __name__ == "__main__":
    made = application(os.environ.get("SERVICE_VERSION", "unknown"), platform.node())
    web.run_app(made, port=int(sys.argv[1]) if sys.argv[1:] else PORT, print=None)
