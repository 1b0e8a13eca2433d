"""The HTTP pages that operators and probes ask: readiness, findings, who is in sync. Values come from functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from crds.diagnostic import Diagnostic
from istiod.config.protocols import TokenVerifier
from istiod.debug import guard
from wire import exposition, names

Page = Callable[[web.Request], Any]


Json = Mapping[str, Any]
_PARAMETERS: Final[Mapping[str, set[str]]] = {"/debug/config_dump": {"proxyID"}, "/debug/edsz": {"proxyID"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the pages' values come from. Each is called per request, and gives what JSON can hold."""

    waiting: Callable[[], Sequence[str]]
    """What is missing before anybody is served, a line each; nothing means ready."""
    findings: Callable[[], Sequence[Diagnostic]]
    syncz: Callable[[], Sequence[Json]]
    configz: Callable[[], Sequence[Json]]
    config_dump: Callable[[str], Json | None]
    """What the proxy POD.NAMESPACE should have; None where no such proxy is connected."""
    edsz: Callable[[str], Sequence[Json] | None]
    """Its endpoints, likewise."""
    registryz: Callable[[], Sequence[Json]]
    adsz: Callable[[], Sequence[Json]]
    """Connected proxies with what they say of themselves."""
    mesh: Callable[[], Json]
    """MeshConfig as the user gave it."""
    metrics: Callable[[], str]
    watches: Callable[[], Sequence[Json]] = tuple
    """How each kind is watched at the API server."""
    verifier: Callable[[], TokenVerifier | None] | None = None
    """Who judges tokens of those that ask from elsewhere, once there is one; None: the pages are open."""
    root_namespace: str = names.ROOT_NAMESPACE
    """Tokens of this namespace show everything."""
    others: Sequence[web.RouteDef] = ()
    """Pages of others, behind the same guard."""


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
    """The pages: /ready, /version, /metrics, those under /debug, and /debug/list of them."""
    pages: dict[str, Page] = {
        "/debug/diagnosticsz": lambda _: [rendered(each) for each in sources.findings()],
        "/debug/syncz": lambda _: list(sources.syncz()),
        "/debug/configz": lambda _: list(sources.configz()),
        "/debug/config_dump": lambda request: _of_proxy(request, sources.config_dump),
        "/debug/edsz": lambda request: _of_proxy(request, sources.edsz),
        "/debug/registryz": lambda _: list(sources.registryz()),
        "/debug/adsz": lambda _: _counted(sources.adsz()),
        "/debug/connections": lambda _: _counted([_brief(each) for each in sources.adsz()]),
        "/debug/watchz": lambda _: list(sources.watches()),
        "/debug/mesh": lambda _: sources.mesh(),
    }
    app = web.Application(middlewares=[guard.middleware(sources.verifier, sources.root_namespace)])
    app.router.add_get("/ready", _ready(sources))
    app.router.add_get("/version", _text(lambda: names.VERSION))
    app.router.add_get("/metrics", _text(sources.metrics, exposition.CONTENT_TYPE))
    app.router.add_get("/debug/list", _text(lambda: "\n".join(["/ready", "/version", "/metrics", *pages])))
    for path, page in pages.items():
        app.router.add_get(path, _json(page))
    app.add_routes(sources.others)
    return app


def _ready(sources: Sources) -> guard.Handler:
    async def answer(_: web.Request) -> web.Response:
        missing = sources.waiting()
        text = "".join(f"waiting for {line}\n" for line in missing)
        return web.Response(status=503, text=text) if missing else web.Response(text="ok")

    return answer


def _text(of: Callable[[], str], kind: str = "text/plain; charset=utf-8") -> guard.Handler:
    async def answer(_: web.Request) -> web.Response:
        text = of()
        return web.Response(
            body=(text if text.endswith("\n") else f"{text}\n").encode(), headers={"Content-Type": kind}
        )

    return answer


def _json(page: Page) -> guard.Handler:
    async def answer(request: web.Request) -> web.Response:
        if unknown := sorted(set(request.query) - _PARAMETERS.get(request.path, set())):
            raise web.HTTPBadRequest(text=f"{request.path} has no parameter {unknown[0]}\n")
        return web.json_response(page(request))

    return answer


def _of_proxy(request: web.Request, find: Callable[[str], Any]) -> Any:
    proxy = request.query.get("proxyID", "")
    if not proxy:
        raise web.HTTPBadRequest(text="name a proxy: ?proxyID=POD.NAMESPACE\n")
    found = find(proxy)
    if found is None:
        raise web.HTTPNotFound(text="no such proxy is connected to this istiod\n")
    return found


def _counted(clients: Sequence[Json]) -> Json:
    return {"totalClients": len(clients), "clients": list(clients)}


def _brief(client: Json) -> Json:
    return {key: client[key] for key in ("connectionId", "address")}


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
