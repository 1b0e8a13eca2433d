"""details: what is known of a book."""

from __future__ import annotations

from aiohttp import web

from examples.bookinfo import service

BOOK = {
    "author": "William Shakespeare",
    "year": 1595,
    "type": "paperback",
    "pages": 200,
    "publisher": "PublisherA",
    "language": "English",
    "ISBN-10": "1234567890",
    "ISBN-13": "123-1234567890",
}


async def details(request: web.Request) -> web.Response:
    """GET /details/ID."""
    return web.json_response({"id": int(request.match_info["id"]), **BOOK})


def application(_: str) -> web.Application:
    """The service; it has one version."""
    app = service.application()
    app.router.add_get(r"/details/{id:\d+}", details)
    return app
