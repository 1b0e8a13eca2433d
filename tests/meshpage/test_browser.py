"""The mesh page of a real mesh in a real browser: BookInfo with traffic, looked at in headless Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from examples.demo.mesh import FILES, BookInfo
from tests.meshpage import chromium
from tests.meshpage.chromium import Browser
from tests.story import worlds

WHY_NOT = worlds.runs_here() or chromium.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]
BAD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http: [{route: [{destination: {host: ratings}}], fault: {abort: {percentage: {value: 100}, httpStatus: 500}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: nobody}
spec: {host: "nobody<script>alert(1)</script>"}
"""
OVERLAPS = """
(() => {
  const texts = [...document.querySelectorAll("svg text.figure, svg .box rect")].map((e) => e.getBBox());
  const beside = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width;
  const meet = (a, b) => beside(a, b) && a.y + 3 < b.y + b.height && b.y + 3 < a.y + a.height;
  return texts.filter((a, n) => texts.slice(n + 1).some((b) => meet(a, b))).length;
})()
"""
"""How many labels and boxes of the picture meet; lines of text may come as near as 3 px."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def book() -> AsyncIterator[BookInfo]:
    async with worlds.world((*FILES, FILES[0].parent / "reviews-v3.yaml", BAD)) as found:

        async def load() -> None:
            while True:
                await found.client.get("/productpage")

        running = asyncio.create_task(load())
        yield found
        running.cancel()


@pytest_asyncio.fixture(loop_scope="module")
async def tab() -> AsyncIterator[Browser]:
    async with chromium.browser() as found:
        yield found
        assert found.errors == [], "the console says what the security policy refused, and which script failed"


async def text(tab: Browser) -> str:
    return str(await tab.run("document.querySelector('main').innerText"))


async def test_the_traffic_is_drawn_while_it_flows(book: BookInfo, tab: Browser, tmp_path: Path) -> None:
    await tab.open(f"{book.debug}/debug/page/")
    await tab.until("document.querySelector('main').innerText.includes('measuring')")
    await tab.until("document.querySelectorAll('svg text.figure.error').length > 0")
    found = await text(tab)
    for name in ("istio-ingressgateway", "productpage-v1", "details-v1", "reviews-v3", "ratings"):
        assert name in found
    assert "7 of 7 proxies counted it" in found
    row = await tab.run(
        "[...document.querySelectorAll('tbody tr')].map((r) => r.innerText).find((r) => r.startsWith('reviews-v3'))"
    )
    assert "100%" in row, "each call of ratings is aborted by its caller's proxy"
    for width, dark in ((1280, False), (1280, True), (480, False)):
        await tab.look(tmp_path / f"traffic-{width}-{dark}.png", width=width, dark=dark)
        assert await tab.run(OVERLAPS) == 0
    assert await tab.run("document.documentElement.scrollWidth <= innerWidth"), "what is wide scrolls by itself"
    assert all(url.startswith(f"{book.debug}/debug/page/") for url in tab.asked), "nothing comes from elsewhere"
    before = len(tab.asked)
    await tab.until("window.htmx.version == '2.0.11'")
    async with asyncio.timeout(20):
        while len(tab.asked) == before:  # noqa: ASYNC110 (the browser asks, and tells nobody here)
            await asyncio.sleep(0.1)


async def test_a_proxy_is_found_and_its_routes_name_the_rule(book: BookInfo, tab: Browser, tmp_path: Path) -> None:
    await tab.open(f"{book.debug}/debug/page/proxies")
    await tab.until("document.querySelectorAll('tbody tr').length == 7")
    await tab.look(tmp_path / "proxies.png")
    await tab.run("document.querySelector('input[type=search]').focus()")
    await tab.call("Input.insertText", text="productpage")
    await tab.until("document.querySelectorAll('tbody tr').length == 1 && location.search.includes('q=productpage')")
    await tab.run("document.querySelector('tbody a').click()")
    await tab.until("location.pathname.endsWith('/listeners')")
    await tab.until("document.querySelector('.chips a:nth-child(2)')")
    await tab.run("document.querySelector('.chips a:nth-child(2)').click()")
    await tab.until("location.pathname.endsWith('/routes') && document.querySelector('tbody tr')")
    found = await text(tab)
    assert "VirtualService/default/reviews spec.http[0]" in found
    assert "reviews.yaml:" in found
    await tab.look(tmp_path / "routes.png", dark=True)
    await tab.run("document.querySelector('tbody a').click()")
    await tab.until("document.querySelector('pre.json')")
    assert "virtual_hosts" in await text(tab)


async def test_a_form_is_answered(book: BookInfo, tab: Browser, tmp_path: Path) -> None:
    await tab.open(f"{book.debug}/debug/page/explain")
    for name, said in (("from", "reviews-v3.default"), ("host", "ratings"), ("port", "9080"), ("path", "/ratings/0")):
        await tab.run(f"document.querySelector('input[name={name}]').focus()")
        await tab.call("Input.insertText", text=said)
    await tab.run("document.querySelector('form.ask button').click()")
    await tab.until("document.querySelector('.outcome')")
    found = await text(tab)
    assert "answered 500 by reviews-v3" in found
    assert "VirtualService/default/ratings spec.http[0]" in found
    await tab.look(tmp_path / "explain.png")
    assert await tab.run("document.querySelector('input[name=host]').value") == "ratings"


async def test_findings_are_text_whatever_stands_in_them(book: BookInfo, tab: Browser, tmp_path: Path) -> None:
    await tab.open(f"{book.debug}/debug/page/findings")
    await tab.until("document.querySelector('tbody tr')")
    assert "nobody<script>alert(1)</script>" in await text(tab)
    assert await tab.run("document.scripts.length") == 2
    await tab.look(tmp_path / "findings.png", dark=True)
