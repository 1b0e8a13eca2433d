"""reviews: what readers say. v1 shows no stars, v2 black ones, v3 red ones; v2 and v3 ask ratings for them."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from aiohttp import web

from examples.bookinfo import service

TEXTS = {
    "Reviewer1": "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!",
    "Reviewer2": "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays.",
}
COLOURS = {"v2": "black", "v3": "red"}
# Istio's BookInfo waits 10 s with black stars and 2.5 s otherwise; its fault tasks count on these.
WAIT = {"v2": 10.0, "v3": 2.5}
VERSION: web.AppKey[str] = web.AppKey("version", str)
NEIGHBOURS: web.AppKey[service.Neighbours] = web.AppKey("neighbours", service.Neighbours)


def rating_of(reviewer: str, answer: service.Answer, colour: str) -> Mapping[str, object]:
    """The ``rating`` part of a review: stars and their colour, or the error that BookInfo's page shows."""
    found = answer.body.get("ratings", {}) if answer.ok and isinstance(answer.body, dict) else {}
    if reviewer in found:
        return {"stars": found[reviewer], "color": colour}
    return {"error": "Ratings service is currently unavailable"}


async def reviews(request: web.Request) -> web.Response:
    """GET /reviews/ID."""
    version, book = request.app[VERSION], request.match_info["id"]
    texts: list[dict[str, object]] = [{"reviewer": who, "text": text} for who, text in TEXTS.items()]
    if version in COLOURS:
        url = f"http://{os.environ.get('RATINGS_HOSTNAME', 'ratings')}:{service.PORT}/ratings/{book}"
        answer = await request.app[NEIGHBOURS].ask(url, service.trace_headers(request), WAIT[version])
        for text in texts:
            text["rating"] = rating_of(str(text["reviewer"]), answer, COLOURS[version])
    pod = os.environ.get("HOSTNAME") or socket.gethostname()
    return web.json_response({"id": book, "podname": pod, "clustername": "null", "version": version, "reviews": texts})


def application(version: str) -> web.Application:
    """The service in one of its versions (v1, v2, v3)."""
    neighbours = service.Neighbours()
    app = service.application(neighbours)
    app[VERSION], app[NEIGHBOURS] = version, neighbours
    app.router.add_get(r"/reviews/{id:\d+}", reviews)
    return app
