"""httpbin's paths that Istio's tasks use, as the image go-httpbin serves them: JSON about the request, on port 8080.

`python -m examples.httpbin [PORT]`. Header values are lists, as in go-httpbin.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import defaultdict
from typing import Any

import yarl
from aiohttp import web

PORT = 8080
LONGEST = 10.0
"""Seconds that /delay waits at most, as in httpbin."""


def lists(pairs: Any) -> dict[str, list[str]]:
    """A multidict as JSON has it here: name to values, names in order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs.items():
        found[name].append(value)
    return dict(sorted(found.items()))


def title(name: str) -> str:
    """A header's name as Go spells it: ``x-request-id`` is ``X-Request-Id``."""
    return "-".join(part.capitalize() for part in name.split("-"))


async def seen(request: web.Request, *, body: bool = False) -> dict[str, Any]:
    """What came in."""
    headers = {title(name): values for name, values in lists(request.headers).items()}
    found = {
        "args": lists(request.query),
        "headers": headers,
        "method": request.method,
        "origin": request.remote,
        "url": str(request.url),
    }
    return found | (await content(request) if body else {})


async def content(request: web.Request) -> dict[str, Any]:
    """The body, as text and decoded where it is a form or JSON."""
    text = await request.text()
    form = lists(await request.post()) if request.content_type == "application/x-www-form-urlencoded" else {}
    try:
        decoded = json.loads(text)
    except json.JSONDecodeError:
        decoded = None
    return {"data": text, "files": {}, "form": form, "json": decoded}


async def get(request: web.Request) -> web.Response:
    """GET /get, /headers, /ip, /user-agent."""
    what = await seen(request)
    path = request.path.strip("/")
    if path == "headers":
        what = {"headers": what["headers"]}
    elif path == "ip":
        what = {"origin": what["origin"]}
    elif path == "user-agent":
        what = {"user-agent": request.headers.get("user-agent", "")}
    return web.json_response(what)


async def anything(request: web.Request) -> web.Response:
    """Any method: the whole request back."""
    return web.json_response(await seen(request, body=True))


async def status(request: web.Request) -> web.Response:
    """/status/N, or one of /status/N,M."""
    choices = request.match_info["codes"].split(",")
    code = random.choice(choices)  # noqa: S311 (no secret)
    if not code.isdecimal() or not 200 <= int(code) <= 599:  # noqa: PLR2004 (what HTTP allows as a last answer)
        raise web.HTTPBadRequest(text=f"invalid status code: {code!r}")
    return web.Response(status=int(code))


async def delay(request: web.Request) -> web.Response:
    """/delay/SECONDS: the request back, later."""
    try:
        seconds = float(request.match_info["seconds"])
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    await asyncio.sleep(max(0.0, min(seconds, LONGEST)))
    return web.json_response(await seen(request, body=True))


async def response_headers(request: web.Request) -> web.Response:
    """/response-headers?NAME=VALUE: headers of the caller's choice."""
    return web.json_response(lists(request.query), headers=list(request.query.items()))


async def redirect(request: web.Request) -> web.Response:
    """/redirect/N: N redirections, then /get."""
    left = int(request.match_info["count"])
    raise web.HTTPFound(yarl.URL(f"/redirect/{left - 1}" if left > 1 else "/get"))


async def cookies(request: web.Request) -> web.Response:
    """/cookies and /cookies/set?NAME=VALUE."""
    if request.path == "/cookies":
        return web.json_response(dict(request.cookies))
    answer = web.HTTPFound(yarl.URL("/cookies"))
    for name, value in request.query.items():
        answer.set_cookie(name, value)
    raise answer


async def octets(request: web.Request) -> web.Response:
    """/bytes/N: N bytes, at most 100 KiB."""
    size = min(int(request.match_info["count"]), 102_400)
    return web.Response(body=random.randbytes(size), content_type="application/octet-stream")  # noqa: S311 (no secret)


async def fixed(request: web.Request) -> web.Response:
    """/html, /robots.txt and / as a browser or a probe asks for them."""
    if request.path == "/robots.txt":
        return web.Response(text="User-agent: *\nDisallow: /deny\n")
    return web.Response(text="<h1>httpbin</h1>\n", content_type="text/html")


def application() -> web.Application:
    """The whole server."""
    app = web.Application()
    route = app.router
    for path in ("/get", "/headers", "/ip", "/user-agent"):
        route.add_get(path, get)
    for path in ("/", "/html", "/robots.txt"):
        route.add_get(path, fixed)
    for method in ("post", "put", "patch", "delete"):
        route.add_route(method, f"/{method}", anything)
    route.add_route("*", "/anything", anything)
    route.add_route("*", "/anything/{rest:.*}", anything)
    route.add_route("*", "/status/{codes}", status)
    route.add_route("*", "/delay/{seconds}", delay)
    route.add_get("/response-headers", response_headers)
    route.add_get(r"/redirect/{count:\d+}", redirect)
    route.add_get("/cookies", cookies)
    route.add_get("/cookies/set", cookies)
    route.add_get(r"/bytes/{count:\d+}", octets)
    return app


if __name__ == "__main__":
    web.run_app(application(), port=int(sys.argv[1]) if sys.argv[1:] else PORT, print=None)
