"""ratings: how many stars each reviewer gave. Ratings can be set, for as long as the process lives."""

from __future__ import annotations

import json

from aiohttp import web

from examples.bookinfo import service

DEFAULT = {"Reviewer1": 5, "Reviewer2": 4}
STARS = range(1, 6)
RATINGS: web.AppKey[dict[int, dict[str, int]]] = web.AppKey("ratings", dict)


async def read(request: web.Request) -> web.Response:
    """GET /ratings/ID."""
    book = int(request.match_info["id"])
    return web.json_response({"id": book, "ratings": request.app[RATINGS].get(book, DEFAULT)})


async def write(request: web.Request) -> web.Response:
    """POST /ratings/ID with {reviewer: stars}."""
    book = int(request.match_info["id"])
    try:
        given = json.loads(await request.read())
    except json.JSONDecodeError:
        return web.json_response({"error": "the body is no JSON"}, status=400)
    if not isinstance(given, dict) or not all(stars in STARS for stars in given.values()):
        return web.json_response({"error": "give {reviewer: stars}, stars from 1 to 5"}, status=400)
    request.app[RATINGS][book] = {str(who): int(stars) for who, stars in given.items()}
    return await read(request)


def application(_: str) -> web.Application:
    """The service; it has one version."""
    app = service.application()
    app[RATINGS] = {}
    app.router.add_get(r"/ratings/{id:\d+}", read)
    app.router.add_post(r"/ratings/{id:\d+}", write)
    return app
