"""Answers the browser: addresses and parameters in, pages out. Who may ask is the debug pages' guard to say."""

from __future__ import annotations

import ipaddress
import pathlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from istiod.ads.server import ProxyStatus
from istiod.config.resource import EMPTY
from istiod.explain import journey
from istiod.explain.question import QuestionError
from istiod.meshpage import configuration, findings, graph, journeys, listing, proxies, render, topology, traffic
from istiod.meshpage.scrape import Scraper, Seen
from istiod.meshpage.sources import Sources
from istiod.meshpage.traffic import Flow

ROOT: Final = "/debug/page"
_STATIC: Final = pathlib.Path(__file__).parent / "static"
_FILES: Final = ("page.css", "page.js", "htmx-2.0.11.min.js", "icon.svg")
VIEWS: Final = (
    ("traffic", "/traffic", "Traffic"),
    ("proxies", "/proxies", "Proxies"),
    ("explain", "/explain", "Explain"),
    ("findings", "/findings", "Findings"),
)
"""Name, address below the root, and title of what the head of each page leads to."""
SECTIONS: Final = {
    "traffic.html": "traffic",
    "proxies.html": "proxies",
    "configuration.html": "proxies",
    "resource.html": "proxies",
    "explain.html": "explain",
    "findings.html": "findings",
}
_LAST_PAGE: Final = 1_000_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MeshPage:
    """The pages of one control plane."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._made: dict[str, tuple[Seen | None, list[Flow]]] = {}
        self._scraper = Scraper(sources.targets, time.monotonic)

    def extend(self, app: web.Application) -> None:
        """Add the pages to a server; with it ends what they started."""
        app.add_routes(self.routes())
        app.on_cleanup.append(self._close)

    async def _close(self, _: web.Application) -> None:
        await self._scraper.close()

    def routes(self) -> list[web.RouteDef]:
        """What the server of the debug pages has to know."""
        pages: dict[str, Handler] = {
            "/traffic": self._traffic,
            "/proxies": self._proxies,
            "/proxies/{name}/{part}": self._configuration,
            "/proxies/{name}/{part}/{resource:.+}": self._resource,
            "/explain": self._explain,
            "/findings": self._findings,
        }
        found = [web.get(ROOT + path, guarded(self._readable(handler))) for path, handler in pages.items()]
        found += [web.get(f"{ROOT}/static/{name}", guarded(_file(name))) for name in _FILES]
        found += [web.get(path, guarded(_moved)) for path in ("/debug/page", "/debug/page/")]
        return found

    async def _traffic(self, request: web.Request) -> web.Response:
        asked = _asked(request, {"q", "by", "namespace", "page"})
        seen, context = self._scraper.look(), self._sources.context()
        by, namespace, query = asked.get("by", traffic.WORKLOADS), asked.get("namespace", ""), asked.get("q", "")
        if by not in traffic.GROUPS:
            raise web.HTTPBadRequest(text=f"nodes are {' or '.join(traffic.GROUPS)}")
        every = self._flows(seen, by)
        found = traffic.chosen(every, namespace, query)
        known = topology.known(context, by, "", "") if context is not None else set()
        quiet = topology.known(context, by, namespace, query) if context is not None else set()
        values = {
            "seen": seen,
            "measuring": not seen.rounds,
            "seconds": round(seen.total.seconds),
            "by": by,
            "groups": traffic.GROUPS,
            "namespace": namespace,
            "namespaces": topology.namespaces(known, every, namespace),
            "picture": topology.picture(found, quiet),
            "box_width": graph.WIDTH,
            "rows": listing.paged(found, _page(asked)),
        }
        return self._answer("traffic.html", asked, values)

    def _flows(self, seen: Seen, by: str) -> list[Flow]:
        """Made once for all who look between two rounds."""
        if self._made.get(by, (None, []))[0] is not seen:
            self._made[by] = (seen, traffic.flows([seen.total], by))
        return self._made[by][1]

    async def _proxies(self, request: web.Request) -> web.Response:
        asked = _asked(request, {"q", "state", "page"})
        rows = [proxies.row(each) for each in self._sources.proxies()]
        state = asked.get("state", "")
        values = {
            "rows": proxies.shown(rows, asked.get("q", ""), state, _page(asked)),
            "states": proxies.counted(rows),
            "state": state,
            "types": tuple(proxies.TYPES.values()),
        }
        return self._answer("proxies.html", asked, values)

    async def _configuration(self, request: web.Request) -> web.Response:
        asked = _asked(request, {"q", "page"})
        status, part = self._proxy(request), _part(request)
        target = self._sources.target(status.proxy) if self._sources.context() is not None else EMPTY
        values = {
            "proxy": proxies.row(status),
            "part": request.match_info["part"],
            "kinds": {name: target.count(each.type_url) for name, each in configuration.PARTS.items()},
            "headings": part.headings,
            "rows": part.rows(target, asked.get("q", ""), _page(asked), self._sources.origins()),
        }
        return self._answer("configuration.html", asked, values)

    async def _resource(self, request: web.Request) -> web.Response:
        asked = _asked(request, set())
        status, part, name = self._proxy(request), _part(request), request.match_info["resource"]
        target = self._sources.target(status.proxy) if self._sources.context() is not None else EMPTY
        text = configuration.whole(target, part, name)
        if text is None:
            raise web.HTTPNotFound(text=f"{proxies.name(status)} has no such {request.match_info['part']}")
        values = {"proxy": proxies.row(status), "part": request.match_info["part"], "name": name, "text": text}
        return self._answer("resource.html", asked, values)

    async def _explain(self, request: web.Request) -> web.Response:
        asked = _asked(request, set(journeys.FIELDS))
        context = self._sources.context()
        values: dict[str, Any] = {
            "said": {name: asked.get(name, "") for name in journeys.FIELDS},
            "schemes": journeys.SCHEMES,
            "methods": journeys.METHODS,
            "workloads": (),
            "problem": "",
            "told": None,
        }
        if context is not None:
            mesh = journeys.Connected(self._sources, context)
            values["workloads"] = mesh.names()
            if asked:
                values |= _told(mesh, asked)
        return self._answer("explain.html", asked, values)

    async def _findings(self, request: web.Request) -> web.Response:
        asked = _asked(request, {"q", "severity", "page"})
        found, severity = self._sources.findings(), asked.get("severity", "")
        values = {
            "rows": findings.shown(found, asked.get("q", ""), severity, _page(asked)),
            "severity": severity,
            "severities": findings.counted(found),
        }
        return self._answer("findings.html", asked, values)

    def _readable(self, handler: Handler) -> Handler:
        """Errors are for people: a page like the others, with the error's status."""

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except (web.HTTPNotFound, web.HTTPBadRequest) as error:
                return self._answer("error.html", {}, {"reason": error.reason, "text": error.text}, error.status)

        return answer

    def _proxy(self, request: web.Request) -> ProxyStatus:
        name = request.match_info["name"]
        for each in self._sources.proxies():
            if proxies.name(each) == name:
                return each
        raise web.HTTPNotFound(text="no such proxy is connected to this istiod")

    def _answer(
        self, template: str, asked: Mapping[str, str], values: Mapping[str, Any], status: int = 200
    ) -> web.Response:
        context = self._sources.context()
        found = self._sources.findings()
        common = {
            "root": ROOT,
            "views": VIEWS,
            "section": SECTIONS.get(template, ""),
            "asked": asked,
            "q": asked.get("q", ""),
            "starting": context is None,
            "services": len(context.model.registry.services) if context is not None else 0,
            "connected": len(self._sources.proxies()),
            "found": len(found),
        }
        text = render.page(template, {**common, **values})
        headers = {**render.SECURITY, "Cache-Control": "no-store"}
        return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def _told(mesh: journeys.Connected, asked: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = journey.travel(mesh, journeys.asked(asked, time.time()))
    except QuestionError as error:
        return {"problem": str(error)}
    return {"told": journeys.told(found, mesh.cause)}


def guarded(handler: Handler) -> Handler:
    """Refuse what a page of another site makes a browser ask: its own name may lead to our address (DNS rebinding).

    People reach loopback by address or as localhost; whoever comes by another name has a token.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        if "Authorization" not in request.headers and not _by_address(request.host):
            raise web.HTTPForbidden(text="ask by IP address or as localhost\n", headers=render.SECURITY)
        return await handler(request)

    return answer


def _by_address(host: str) -> bool:
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _asked(request: web.Request, known: set[str]) -> dict[str, str]:
    """The parameters of an address, each once.

    Raises:
        web.HTTPBadRequest: there is one that the page does not have.
    """
    if unknown := sorted(set(request.query) - known):
        raise web.HTTPBadRequest(text=f"{request.path} has no parameter {unknown[0]}")
    return {name: value for name, value in request.query.items() if value}


def _page(asked: Mapping[str, str]) -> int:
    said = asked.get("page", "1")
    if not (said.isascii() and said.isdecimal() and 0 < int(said[:9]) <= _LAST_PAGE):
        raise web.HTTPBadRequest(text=f"page {said!r} is no number from 1")
    return int(said)


def _part(request: web.Request) -> configuration.Part:
    found = configuration.PARTS.get(request.match_info["part"])
    if found is None:
        raise web.HTTPNotFound(text=f"a proxy has {', '.join(configuration.PARTS)}")
    return found


def _file(name: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(_STATIC / name, headers={**render.SECURITY, "Cache-Control": "no-cache"})

    return answer


async def _moved(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(f"{ROOT}/traffic")
