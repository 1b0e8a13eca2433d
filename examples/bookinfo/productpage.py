"""productpage: the page a reader sees, made of what details and reviews answer, and the same as JSON below /api/v1."""

from __future__ import annotations

import asyncio
import html
import os
from collections.abc import Mapping

from aiohttp import web

from examples.bookinfo import page, service

PRODUCT = {"id": 0, "title": "The Comedy of Errors"}
# Istio's BookInfo gives its neighbours 3 s and asks reviews twice; its fault tasks count on these.
WAIT = 3.0
REVIEW_TRIES = 2
COOKIE = "bookinfo-user"
NEIGHBOURS: web.AppKey[service.Neighbours] = web.AppKey("neighbours", service.Neighbours)


def address(name: str) -> str:
    """Where a neighbour listens; its host can be moved with NAME_HOSTNAME, as in Istio's image."""
    return f"http://{os.environ.get(name.upper() + '_HOSTNAME', name)}:{service.PORT}/{name}/{PRODUCT['id']}"


def headers_of(request: web.Request) -> dict[str, str]:
    """Trace headers, and the signed-in user as ``end-user`` (what BookInfo's rules match on)."""
    headers = dict(service.trace_headers(request))
    headers.pop("cookie", None)
    if user := request.cookies.get(COOKIE) or request.query.get("u") or request.headers.get("end-user"):
        headers["end-user"] = user
    return headers


async def fetch_details(request: web.Request) -> service.Answer:
    """Ask details once."""
    return await request.app[NEIGHBOURS].ask(address("details"), headers_of(request), WAIT)


async def fetch_reviews(request: web.Request) -> service.Answer:
    """Ask reviews, a second time if the first failed."""
    answer = service.Answer(status=0, body=None)
    for _ in range(REVIEW_TRIES):
        answer = await request.app[NEIGHBOURS].ask(address("reviews"), headers_of(request), WAIT)
        if answer.ok:
            break
    return answer


async def product_page(request: web.Request) -> web.Response:
    """GET /productpage: HTML."""
    details, reviews = await asyncio.gather(fetch_details(request), fetch_reviews(request))
    user = headers_of(request).get("end-user", "")
    text = page.render(title=str(PRODUCT["title"]), user=user, details=details, reviews=reviews)
    return web.Response(text=text, content_type="text/html")


def back_to_page() -> web.Response:
    """A redirect to the page."""
    return web.Response(status=web.HTTPFound.status_code, headers={"location": "/productpage"})


async def front(_: web.Request) -> web.Response:
    """GET /: where to go."""
    return back_to_page()


async def login(request: web.Request) -> web.Response:
    """POST /login with username: any name signs in; rules such as `end-user: jason` then apply."""
    form = await request.post()
    response = back_to_page()
    response.set_cookie(COOKIE, html.escape(str(form.get("username", ""))))
    return response


async def logout(_: web.Request) -> web.Response:
    """GET /logout."""
    response = back_to_page()
    response.del_cookie(COOKIE)
    return response


async def style(_: web.Request) -> web.Response:
    """GET /static/style.css."""
    return web.Response(text=page.STYLE, content_type="text/css")


async def products(_: web.Request) -> web.Response:
    """GET /api/v1/products."""
    return web.json_response([PRODUCT])


async def product(request: web.Request) -> web.Response:
    """GET /api/v1/products/ID: details as JSON."""
    return passed_on(await fetch_details(request), "details")


async def product_reviews(request: web.Request) -> web.Response:
    """GET /api/v1/products/ID/reviews."""
    return passed_on(await fetch_reviews(request), "reviews")


async def product_ratings(request: web.Request) -> web.Response:
    """GET /api/v1/products/ID/ratings."""
    answer = await request.app[NEIGHBOURS].ask(address("ratings"), headers_of(request), WAIT)
    return passed_on(answer, "ratings")


def passed_on(answer: service.Answer, name: str) -> web.Response:
    """A neighbour's answer as ours, or an error in its place."""
    if answer.ok:
        return web.json_response(answer.body)
    problem: Mapping[str, str] = {"error": f"Sorry, product {name} are currently unavailable for this book."}
    return web.json_response(problem, status=answer.status or web.HTTPServiceUnavailable.status_code)


def application(_: str) -> web.Application:
    """The service; it has one version."""
    neighbours = service.Neighbours()
    app = service.application(neighbours)
    app[NEIGHBOURS] = neighbours
    app.router.add_get("/", front)
    app.router.add_get("/productpage", product_page)
    app.router.add_post("/login", login)
    app.router.add_get("/logout", logout)
    app.router.add_get("/static/style.css", style)
    app.router.add_get("/api/v1/products", products)
    app.router.add_get(r"/api/v1/products/{id:\d+}", product)
    app.router.add_get(r"/api/v1/products/{id:\d+}/reviews", product_reviews)
    app.router.add_get(r"/api/v1/products/{id:\d+}/ratings", product_ratings)
    return app
