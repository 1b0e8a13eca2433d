"""Requests through a running gateway whose rules stand in two objects of two namespaces (features row F9)."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from e2e.harness.ports import free_ports
from tests.envoy.test_real_dynamic_dns import running
from tests.mesh import fleet
from tests.waiting import until

pytestmark = pytest.mark.envoy


async def status(port: int, path: str, method: str = "GET") -> int:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.request(method, f"http://127.0.0.1:{port}{path}") as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return 0


async def test_a_gateway_answers_by_the_rules_of_delegates_within_those_of_the_root(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    server = {"port": {"number": port, "name": "in", "protocol": "HTTP"}, "hosts": ["*"]}
    gateway = fleet.istio("Gateway", "own", {"selector": {"app": "client"}, "servers": [server]})
    rules = [
        {
            "match": [{"uri": {"prefix": "/team"}, "statPrefix": "of-team"}],
            "delegate": {"name": "part", "namespace": "team"},
        },
        {"match": [{"uri": {"prefix": "/lost"}}], "delegate": {"name": "lost"}},
        {"directResponse": {"status": 410}},
    ]
    root = fleet.istio("VirtualService", "root", {"hosts": ["*"], "gateways": ["own"], "http": rules})

    def part(code: int) -> str:
        inner = [
            {
                "match": [{"uri": {"exact": "/team/tea"}, "method": {"exact": "GET"}}],
                "directResponse": {"status": code},
            },
            {"match": [{"uri": {"prefix": "/elsewhere"}}], "directResponse": {"status": 500}},
            {"directResponse": {"status": 404}},
        ]
        return fleet.istio("VirtualService", "part", {"http": inner}, namespace="team")

    async with running(tmp_path, "router") as world:
        await world.settle(gateway, root, part(418))

        async def serves(code: int) -> bool:
            return await status(port, "/team/tea") == code

        await until(lambda: serves(418), "the delegate's first rule")
        assert await status(port, "/team/tea", "POST") == 404
        assert await status(port, "/team/other") == 404
        assert await status(port, "/elsewhere") == 410
        assert await status(port, "/lost") == 410
        assert ".route.of-team." in await world.envoy.admin("/stats?filter=route.of-team")
        # A change of the delegate alone reaches the proxy.
        await world.settle(part(451))
        await until(lambda: serves(451), "the delegate's changed rule")
