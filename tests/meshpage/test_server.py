"""The pages as a browser gets them: addresses, errors, escaping, and the policy that goes with every answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from crds.diagnostic import Code, error
from crds.key import ConfigKey
from istiod.meshpage.server import MeshPage
from tests.meshpage import made
from tests.meshpage.made import Made

Client = TestClient[web.Request, web.Application]
EVIL = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>"


@pytest.fixture
def shop() -> Made:
    return made.shop()


@pytest_asyncio.fixture
async def client(shop: Made) -> AsyncIterator[Client]:
    app = web.Application()
    app.add_routes(MeshPage(shop.sources()).routes())
    async with TestClient(TestServer(app)) as found:
        yield found


async def test_every_page_answers_and_forbids_what_it_does_without(client: Client) -> None:
    for path, shown in (
        ("proxies", "web-1.shop"),
        ("proxies/web-1.shop/listeners", "virtualOutbound"),
        ("proxies/web-1.shop/routes", "VirtualService/shop/api spec.http[3] (api.yaml:7)"),
        ("proxies/web-1.shop/clusters", "DestinationRule/shop/api"),
        ("proxies/web-1.shop/endpoints", "10.244.0.2:8000"),
        ("proxies/web-1.shop/clusters/outbound%7C80%7C%7Cweb.shop.svc.cluster.local", "connect_timeout"),
        ("findings", "Nothing is wrong"),
        ("static/page.css", "--back"),
    ):
        answer = await client.get(f"/debug/page/{path}")
        assert answer.status == 200, path
        assert shown in await answer.text(), path
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_before_the_mesh_is_built_the_page_says_so() -> None:
    waiting = made.mesh(built=False)
    waiting.proxies = made.shop().proxies
    app = web.Application()
    app.add_routes(MeshPage(waiting.sources()).routes())
    async with TestClient(TestServer(app)) as client:
        for path, shown in (("proxies", "has not read"), ("proxies/web-1.shop/routes", "It has no routes")):
            assert shown in await (await client.get(f"/debug/page/{path}")).text()
        assert (await client.get("/debug/page/proxies/web-1.shop/routes/80")).status == 404


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("proxies/nobody.shop/routes", 404, "no such proxy"),
        ("proxies/web-1.shop/secrets", 404, "a proxy has listeners"),
        ("proxies/web-1.shop/routes/none", 404, "has no such routes"),
        ("proxies?page=0", 400, "no number from 1"),
        ("proxies?page=-1", 400, "no number from 1"),
        ("proxies?page=%C2%B2", 400, "no number from 1"),
        ("proxies?page=99999999999999999999", 400, "no number from 1"),
        ("proxies?nothing=1", 400, "no parameter nothing"),
        (f"proxies?{EVIL}=1", 400, "no parameter"),
        ("static/../server.py", 404, ""),
    ],
)
async def test_what_is_not_there_is_said_on_a_page(client: Client, path: str, status: int, said: str) -> None:
    answer = await client.get(f"/debug/page/{path}")
    assert answer.status == status
    text = await answer.text()
    assert said in text
    assert "<script>alert" not in text


async def test_a_search_and_a_state_choose_rows(client: Client, shop: Made) -> None:
    shop.proxies.append(made.status(made.proxy("bad-1.shop", "10.0.0.9"), error="no way", refused=("l",)))
    text = await (await client.get("/debug/page/proxies?state=nacked")).text()
    assert "bad-1.shop" in text
    assert "web-1.shop" not in text
    assert "None of 4 proxies fits" in await (await client.get("/debug/page/proxies?q=zzz")).text()


async def test_without_proxies_and_with_many(client: Client, shop: Made) -> None:
    shop.proxies.clear()
    assert "No proxy is connected" in await (await client.get("/debug/page/proxies")).text()
    shop.proxies += [made.status(made.proxy(f"web-{n:03}.shop", "10.0.0.1")) for n in range(120)]
    text = await (await client.get("/debug/page/proxies?page=2&q=web")).text()
    assert "page 2 of 3" in text
    assert "/debug/page/proxies?page=3&amp;q=web" in text or "/debug/page/proxies?q=web&amp;page=3" in text
    assert text.count("/listeners") == 50


async def test_names_and_messages_are_text_never_markup(client: Client, shop: Made) -> None:
    """Proxies name themselves, users write objects, and Envoy's words quote both."""
    who = made.proxy("evil-1.shop", "10.0.0.9", ISTIO_VERSION=EVIL, NAME=EVIL, WORKLOAD_NAME=EVIL)
    shop.proxies.append(made.status(who, error=EVIL, refused=(EVIL,)))
    key = ConfigKey("networking.istio.io", EVIL, EVIL, EVIL)
    shop.findings = [error(Code.BAD_VALUE, key, EVIL, EVIL)]
    link = EVIL.replace("<", "%3C").replace(">", "%3E").replace('"', "%22").replace("/", "%2F").replace(" ", "%20")
    for path in ("proxies", "findings", f"findings?q={link}", f"proxies/{link}.shop/routes?q={link}"):
        answer = await client.get(f"/debug/page/{path}")
        text = await answer.text()
        assert answer.status == 200, path
        assert "&lt;script&gt;" in text, path
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("localhost:15014", {}, 200),
        ("127.0.0.1:15014", {}, 200),
        ("[::1]:15014", {}, 200),
        ("10.0.0.1", {}, 200),
        ("evil.example:15014", {}, 403),
        ("istiod.istio-system.svc:15014", {"Authorization": "Bearer x"}, 200),
    ],
)
async def test_a_name_of_somebody_else_that_leads_here_shows_nothing(
    client: Client, host: str, headers: dict[str, str], status: int
) -> None:
    for path in ("proxies", "static/page.js"):
        answer = await client.get(f"/debug/page/{path}", headers={"Host": host, **headers})
        assert answer.status == status


async def test_the_short_address_leads_to_the_first_page(client: Client) -> None:
    for path in ("/debug/page", "/debug/page/"):
        answer = await client.get(path, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (302, "/debug/page/traffic")
