"""Traffic of a running sidecar whose Sidecar object says how it leaves: by a socket, by a proxy (rows J3, J4)."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from e2e.harness.ports import free_ports
from tests.ads import real_envoy
from tests.envoy.test_real_dynamic_dns import ask, comes, running
from tests.mesh import fleet
from tests.waiting import until

pytestmark = pytest.mark.envoy


def entry(name: str, port: int, target: int) -> str:
    ports = [{"name": "http", "number": port, "protocol": "HTTP", "targetPort": target}]
    endpoints = [{"address": "127.0.0.1"}]
    spec = {"hosts": [f"{name}.example"], "ports": ports, "resolution": "STATIC", "endpoints": endpoints}
    return fleet.istio("ServiceEntry", name, spec)


async def test_apps_reach_services_through_a_unix_domain_socket(tmp_path: Path) -> None:
    path = tmp_path / "out.sock"
    port = {"number": 0, "protocol": "HTTP", "name": "http"}
    own = fleet.istio("Sidecar", "own", {"egress": [{"port": port, "bind": f"unix://{path}", "hosts": ["*/*"]}]})

    async def said(host: str) -> str:
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
                session.get("http://x/", headers={"Host": host}) as response,
            ):
                return await response.text() if response.status == 200 else f"status {response.status}"
        except aiohttp.ClientConnectionError:
            return ""

    async with running(tmp_path) as world, real_envoy.app("one") as one, real_envoy.app("two") as two:
        refusing = fleet.mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
        await world.settle(refusing, entry("one", 80, one), entry("two", 8080, two), own)

        async def came() -> bool:
            return await said("one.example") == "one"

        await until(came, "an answer through the socket")
        assert await said("two.example:8080") == "two"
        assert await said("two.example") == "status 502"
        assert path.stat().st_mode & 0o777 == 0o666


async def test_requests_for_unknown_hosts_go_to_the_proxy_that_the_sidecar_names(tmp_path: Path) -> None:
    port, other = free_ports(2)
    proxy = {"host": "way-out.example", "port": {"number": other}}

    def own(mode: str) -> str:
        policy = {"mode": mode, **({"egressProxy": proxy} if mode == "ALLOW_ANY" else {})}
        spec = {"egress": [{"hosts": ["*/*"]}], "outboundTrafficPolicy": policy}
        return fleet.istio("Sidecar", "own", spec)

    async with running(tmp_path) as world, real_envoy.app("known") as known, real_envoy.app("proxied") as way_out:
        services = (entry("known", port, known), entry("way-out", other, way_out))
        await world.settle(*services, own("ALLOW_ANY"))
        await comes(port, "anybody.example", "proxied")
        assert await ask(port, "known.example") == "known"
        await world.settle(own("REGISTRY_ONLY"))
        await comes(port, "anybody.example", "status 502")
