"""An object as large as can be holds nobody up: the event loop of a whole istiod goes on turning (fault FT21).

Wall time says little on a machine that does much else, so what is judged is how much CPU the loop's own thread spends
between two turns: all of the work, where it is done there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from istiod import app
from istiod.settings import Settings
from tests.istiod.test_app import free_address, with_keys
from tests.kube import poisons
from tests.kube.subscriber import Subscriber, subscribed
from tests.waiting import until
from wire import names

LONG = [pytest.mark.long, pytest.mark.timeout(600)]
STRETCH = 0.25
"""Seconds of CPU at most between two turns. The row says 50 ms at the 99th percentile; here it is the longest of all,
and the test's own client shares the loop."""
SHOP = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.1.0.1]}]
"""


@dataclass(slots=True)
class Turns:
    """What the loop's thread spent between its turns, in seconds of CPU."""

    spent: list[float] = field(default_factory=list)

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.002)
            now = time.thread_time()
            self.spent.append(now - last)
            last = now


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Subscriber, Turns, Settings]]:
    """A whole istiod in this loop, with a proxy that has all it needs."""
    settings, stop = with_keys(folder, grpc_address=free_address()), asyncio.Event()
    (folder / "config" / "shop.yaml").write_text(SHOP)
    running = asyncio.create_task(app.ControlPlane(settings).run(stop))
    await until(lambda: _ready(settings), "ready")
    turns = Turns()
    async with subscribed(settings.grpc_address, "app", "shop") as proxy:
        await until(proxy.whole, "the proxy has all")
        task = asyncio.create_task(turns.watch())
        yield proxy, turns, settings
        task.cancel()
    stop.set()
    await running


async def _ready(settings: Settings) -> bool:
    url = f"http://{settings.monitoring_address}/ready"
    with contextlib.suppress(aiohttp.ClientConnectionError):
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 200
    return False


@pytest.mark.parametrize("count", [4_000, pytest.param(15_500, marks=LONG)])
async def test_thousands_of_routes_stop_nobody(tmp_path: Path, count: int) -> None:
    (large,) = [each for each in poisons.large() if each["metadata"]["name"] == "many-routes"]
    large["metadata"]["namespace"] = "shop"
    large["spec"] = {"hosts": ["web"], "http": large["spec"]["http"][:count]}
    last = large["spec"]["http"][-1]["match"][0]["uri"]["exact"].encode()
    async with serving(tmp_path) as (proxy, turns, settings):
        turns.spent.clear()
        (tmp_path / "config" / "large.json").write_text(json.dumps(large))
        await until(lambda: last in proxy.holds[names.ROUTE, "80"], "the last of the routes is there", 300)
        assert max(turns.spent) < STRETCH
        assert await _ready(settings)
        turns.spent.clear()
        (tmp_path / "config" / "large.json").unlink()
        await until(lambda: last not in proxy.holds[names.ROUTE, "80"], "the routes are gone", 300)
        assert max(turns.spent) < STRETCH


@pytest.mark.parametrize("count", [3_000, pytest.param(57_000, marks=LONG)])
async def test_who_comes_first_of_those_that_see_thousands_of_hosts_stops_nobody(tmp_path: Path, count: int) -> None:
    (large,) = [each for each in poisons.large() if each["metadata"]["name"] == "many-hosts"]
    large["metadata"]["namespace"] = "evil"
    large["spec"]["hosts"] = large["spec"]["hosts"][:count]
    async with serving(tmp_path) as (_, turns, settings):
        turns.spent.clear()
        (tmp_path / "config" / "large.json").write_text(json.dumps(large))
        await until(lambda: _configured(settings), "the hosts are there", 300)
        async with subscribed(settings.grpc_address, "app", "evil") as other:
            await until(lambda: len(other.holds) > count, "it has all of them", 300)
        assert max(turns.spent) < STRETCH


async def _configured(settings: Settings) -> bool:
    url = f"http://{settings.monitoring_address}/debug/registryz"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return len(await answer.read()) > 100_000
