"""The HTTP pages that operators and probes ask: readiness, findings, who is in sync. Values come from functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from crds.diagnostic import Diagnostic


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the pages' values come from. Each is called per request; ``json`` ones give what JSON can hold."""

    waiting: Callable[[], Sequence[str]]
    """What is missing before anybody is served, a line each; nothing means ready."""
    findings: Callable[[], Sequence[Diagnostic]]
    syncz: Callable[[], Sequence[Mapping[str, Any]]]
    configz: Callable[[], Sequence[Mapping[str, Any]]]


def rendered(diagnostic: Diagnostic) -> dict[str, Any]:
    """A finding as JSON."""
    position = diagnostic.position
    return {
        "code": diagnostic.code.value,
        "severity": diagnostic.severity.value,
        "object": str(diagnostic.key) if diagnostic.key else None,
        "field": diagnostic.field,
        "message": diagnostic.message,
        "file": position.file if position else None,
        "line": position.line if position else None,
    }


def application(sources: Sources) -> web.Application:
    """The pages: /ready, /debug/diagnosticsz, /debug/syncz, /debug/configz, and /debug/list of them."""

    async def ready(_: web.Request) -> web.Response:
        missing = sources.waiting()
        text = "".join(f"waiting for {line}\n" for line in missing)
        return web.Response(status=503, text=text) if missing else web.Response(text="ok")

    async def diagnosticsz(_: web.Request) -> web.Response:
        return web.json_response([rendered(d) for d in sources.findings()])

    async def syncz(_: web.Request) -> web.Response:
        return web.json_response(list(sources.syncz()))

    async def configz(_: web.Request) -> web.Response:
        return web.json_response(list(sources.configz()))

    pages = {"/debug/diagnosticsz": diagnosticsz, "/debug/syncz": syncz, "/debug/configz": configz}

    async def listing(_: web.Request) -> web.Response:
        return web.Response(text="\n".join(["/ready", *pages]) + "\n")

    app = web.Application()
    app.router.add_get("/ready", ready)
    app.router.add_get("/debug/list", listing)
    for path, page in pages.items():
        app.router.add_get(path, page)
    return app


async def serve(address: str, sources: Sources) -> web.AppRunner:
    """Listen on HOST:PORT; the caller ends it with ``cleanup()``.

    Raises:
        OSError: the address is taken or not ours.
    """
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(application(sources), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    return runner
