from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from examples.bookinfo import __main__ as program
from examples.bookinfo import details, page, productpage, ratings, reviews, service

FOLDER = Path(program.__file__).parent
Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def neighbours(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, str]]:
    """All services on loopback, reviews in v3; each asks the others at their test addresses."""
    found: dict[str, str] = {}
    monkeypatch.setattr(reviews.service, "PORT", 0)
    servers = []
    for name, app in (("ratings", ratings.application("v1")), ("details", details.application("v1"))):
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        found[name] = f"http://127.0.0.1:{server.port}"
    monkeypatch.setattr(productpage, "address", lambda name: f"{found[name]}/{name}/0")
    yield found
    for server in servers:
        await server.close()


async def test_a_rating_that_was_given_is_the_one_that_is_read() -> None:
    async with TestClient(TestServer(ratings.application("v1"))) as client:
        assert (await (await client.get("/ratings/0")).json())["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}
        assert (await client.post("/ratings/0", data='{"Reviewer1": 1}')).status == 200
        assert (await (await client.get("/ratings/0")).json())["ratings"] == {"Reviewer1": 1}
        assert (await client.post("/ratings/0", data="{")).status == 400
        assert (await client.post("/ratings/0", data='{"Reviewer1": 9}')).status == 400


@pytest.mark.parametrize(("version", "colour"), [("v1", None), ("v2", "black"), ("v3", "red")])
async def test_reviews_show_stars_in_the_colour_of_their_version(
    version: str, colour: str | None, neighbours: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(neighbours["ratings"].rpartition(":")[2])
    monkeypatch.setattr(service, "PORT", port)
    monkeypatch.setenv("RATINGS_HOSTNAME", "127.0.0.1")
    async with TestClient(TestServer(reviews.application(version))) as client:
        body = await (await client.get("/reviews/0")).json()
    assert [review.get("rating", {}).get("color") for review in body["reviews"]] == [colour, colour]
    assert body["version"] == version


async def test_the_page_stands_when_a_neighbour_does_not_answer(neighbours: dict[str, str]) -> None:
    neighbours["reviews"] = "http://127.0.0.1:9"
    async with TestClient(TestServer(productpage.application("v1"))) as client:
        text = await (await client.get("/productpage")).text()
        assert "William Shakespeare" in text
        assert "Sorry, product reviews are currently unavailable" in text
        assert (await client.get("/api/v1/products/0/reviews")).status == 503
        assert (await client.get("/api/v1/products/0")).status == 200
        assert (await client.get("/api/v1/products/0/ratings")).status == 200
        assert (await client.get("/health")).status == 200
        assert len(await (await client.get("/api/v1/products")).json()) == 1


async def test_whoever_signs_in_is_the_end_user_of_the_calls_behind(neighbours: dict[str, str]) -> None:
    seen: list[str] = []

    async def spy(request: web.Request) -> web.Response:
        seen.append(request.headers.get("end-user", ""))
        return web.json_response({"reviews": [{"reviewer": "<b>", "text": "t", "rating": {"error": "down"}}]})

    app = web.Application()
    app.router.add_get("/reviews/0", spy)
    async with TestServer(app) as server, TestClient(TestServer(productpage.application("v1"))) as client:
        neighbours["reviews"] = f"http://127.0.0.1:{server.port}"
        await client.post("/login", data={"username": "jason"})
        text = await (await client.get("/productpage")).text()
        assert seen == ["jason", "jason"]
        assert "&lt;b&gt;" in text
        assert "<b>BookInfo" in text
        await client.get("/logout")
        assert seen[-1] == ""
        assert (await client.get("/static/style.css")).status == 200


def test_stars_are_counted() -> None:
    assert page.stars({"stars": 4, "color": "red"}).count("★") == 4
    assert page.stars(None) == ""


def test_manifests_name_what_istio_names() -> None:
    documents = [d for d in yaml.safe_load_all((FOLDER / "bookinfo.yaml").read_text()) if d]
    found = {(d["kind"], d["metadata"]["name"]) for d in documents}
    assert {("Service", "reviews"), ("Deployment", "reviews-v3"), ("ServiceAccount", "bookinfo-ratings")} <= found


def test_an_unknown_service_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["nope"]) == 2
    assert program.main([]) == 2
    assert "usage" in capsys.readouterr().err
