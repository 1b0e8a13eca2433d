"""The HTTP pages that operators and probes ask: readiness, findings, who is in sync. Values come from functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiohttp import web

from crds.diagnostic import Diagnostic
from istiod.config.protocols import TokenVerifier
from istiod.debug import guard
from wire import exposition, names

Page = Callable[[web.Request], Any]


Json = Mapping[str, Any]
_UNDER: Final = "/debug/"
_PROXY: Final = frozenset(("proxyID",))
_PARAMETERS: Final[Mapping[str, AbstractSet[str]]] = {
    "/debug/config_dump": _PROXY,
    "/debug/edsz": _PROXY,
    "/debug/config_distribution": frozenset(("resource",)),
}
_ANYWHERE: Final = frozenset(("pretty",))
ABSENT: Final[Mapping[str, str]] = {
    "force_disconnect": "istiod ends no stream because somebody asks; restart the pod",
    "mcsz": "Services of several clusters are not supported",
    "networkz": "see endpointz for whose network is what, and edsz for the gateways that a proxy is sent",
    "pushcontext": "see registryz, endpointz, configz and authorizationz",
}
"""Pages of Istio that make no sense here, and why."""


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
    distribution: Callable[[str], Json | None] = lambda _: None
    """How far the object KIND/NAMESPACE/NAME came; None where nothing is known of it."""
    watches: Callable[[], Sequence[Json]] = tuple
    """How each kind is watched at the API server."""
    more: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Further pages under /debug, by name."""
    of_proxy: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    """Further pages about the proxy POD.NAMESPACE; None where no such proxy is connected."""
    verifier: Callable[[], TokenVerifier | None] | None = None
    """Who judges tokens of those that ask from elsewhere, once there is one; None: the pages are open."""
    root_namespace: str = names.ROOT_NAMESPACE
    """Tokens of this namespace show everything."""
    extend: Callable[[web.Application], None] = lambda _: None
    """Adds pages of others, behind the same guard."""
    for_people: Sequence[str] = ()
    """Those of them that the index leads to."""


def rendered(diagnostic: Diagnostic) -> dict[str, Any]:
    """A finding as JSON."""
    position = diagnostic.position
    return {
        "code": diagnostic.code.value,
        "severity": diagnostic.severity.value,
        "object": str(diagnostic.key) if diagnostic.key else None,
        "field": diagnostic.field,
        "message": diagnostic.words,
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
        "/debug/config_distribution": lambda request: _of_object(request, sources.distribution),
        "/debug/mesh": lambda _: sources.mesh(),
        **{f"{_UNDER}{name}": _page(of) for name, of in sources.more.items()},
        **{f"{_UNDER}{name}": partial(_of_proxy, find=find) for name, find in sources.of_proxy.items()},
    }
    app = web.Application(middlewares=[guard.middleware(sources.verifier, sources.root_namespace)])
    app.router.add_get("/ready", _ready(sources))
    app.router.add_get("/version", _text(lambda: names.VERSION))
    app.router.add_get("/metrics", _text(sources.metrics, exposition.CONTENT_TYPE))
    listed = sorted(path.removeprefix(_UNDER) for path in pages)
    app.router.add_get("/debug/list", _json(lambda _: listed))
    app.router.add_get("/debug", _text(lambda: _index([*sources.for_people, *listed]), "text/html; charset=utf-8"))
    known = {**_PARAMETERS, **{f"{_UNDER}{name}": _PROXY for name in sources.of_proxy}}
    for path, page in pages.items():
        app.router.add_get(path, _json(page, known.get(path, frozenset())))
    for name, reason in ABSENT.items():
        app.router.add_get(f"{_UNDER}{name}", _absent(name, reason))
    sources.extend(app)
    return app


def _page(of: Callable[[], Any]) -> Page:
    return lambda _: of()


def _absent(name: str, reason: str) -> guard.Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=501, text=f"/debug/{name} is not there: {reason}\n")

    return answer


def _index(listed: Sequence[str]) -> str:
    """A page of links, for people; those about one proxy need its name."""
    lines = "".join(f'<li><a href="/debug/{name}">{name}</a></li>' for name in listed)
    return f"<!doctype html><title>istiod</title><h1>Debug pages</h1><ul>{lines}</ul>"


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


def _json(page: Page, parameters: AbstractSet[str] = frozenset()) -> guard.Handler:
    async def answer(request: web.Request) -> web.Response:
        if unknown := sorted(set(request.query) - parameters - _ANYWHERE):
            raise web.HTTPBadRequest(text=f"{request.path} has no parameter {unknown[0]}\n")
        indent = 2 if "pretty" in request.query else None
        return web.json_response(page(request), dumps=partial(json.dumps, indent=indent))

    return answer


def _of_proxy(request: web.Request, find: Callable[[str], Any]) -> Any:
    proxy = request.query.get("proxyID", "")
    if not proxy:
        raise web.HTTPBadRequest(text="name a proxy: ?proxyID=POD.NAMESPACE\n")
    found = find(proxy)
    if found is None:
        raise web.HTTPNotFound(text="no such proxy is connected to this istiod\n")
    return found


def _of_object(request: web.Request, find: Callable[[str], Json | None]) -> Json:
    try:
        found = find(request.query.get("resource", ""))
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error
    if found is None:
        raise web.HTTPNotFound(text="no such object is known to this istiod\n")
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
    try:
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    except OSError as error:
        await runner.cleanup()
        raise OSError(error.errno, f"{address}: {error.strerror}") from error
    return runner
