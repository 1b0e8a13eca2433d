"""FT19, Z4: an EnvoyFilter that Envoy refuses, then istiod and Envoy both start again: traffic goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from e2e.harness.ports import free_ports
from tests.ads import real_envoy
from tests.ads.real_envoy import RunningEnvoy
from tests.waiting import until

pytestmark = pytest.mark.envoy

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: demo}}
spec:
  selector: {{istio: edge}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: web, namespace: demo}}
spec:
  hosts: [web.example]
  resolution: STATIC
  location: MESH_EXTERNAL
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {app}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: demo}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{{route: [{{destination: {{host: web.example}}}}]}}]
"""
FILTER = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: odd, namespace: demo}}
spec:
  configPatches:
    - applyTo: HTTP_FILTER
      match:
        context: GATEWAY
        listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager}}}}}}
      patch:
        operation: INSERT_BEFORE
        value:
          name: envoy.filters.http.lua
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
            default_source_code: {{inline_string: {code}}}
"""
BAD = '"function ("'
MENDED = '"function envoy_on_response(handle) handle:headers():add(\\"x-mended\\", \\"yes\\") end"'


@dataclass
class World:
    folder: Path
    app: int
    port: int
    xds: int
    pages: int

    def write(self, code: str | None) -> None:
        config = self.folder / "config"
        config.mkdir(exist_ok=True)
        (config / "gateway.yaml").write_text(GATEWAY.format(port=self.port, app=self.app))
        if code is not None:
            (config / "filter.yaml").write_text(FILTER.format(code=code))

    @contextlib.asynccontextmanager
    async def istiod(self, name: str) -> AsyncIterator[Path]:
        """A process, ready; gives its log."""
        log = self.folder / name
        command = [sys.executable, "-m", "istiod", "discovery", "--configDir", str(self.folder / "config")]
        flags = ["--grpcAddr", f"127.0.0.1:{self.xds}", "--httpAddr", f"127.0.0.1:{self.pages}"]
        with log.open("wb") as file:
            state = ["--stateDir", str(self.folder / "state")]
            process = await asyncio.create_subprocess_exec(*command, *flags, *state, stderr=file)
        try:
            await until(self._ready, "istiod is ready", 30)
            yield log
        finally:
            process.terminate()
            await process.wait()

    async def _ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.pages}/ready") as said:
                return said.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async def findings(self, code: str = "M0201") -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self.pages}/debug/diagnosticsz"
        async with aiohttp.ClientSession() as session, session.get(url) as said:
            return [each for each in await said.json() if each["code"] == code]

    async def is_found(self) -> bool:
        return bool(await self.findings())

    async def is_clean(self) -> bool:
        return not await self.findings()

    @contextlib.asynccontextmanager
    async def envoy(self, name: str) -> AsyncIterator[RunningEnvoy]:
        (folder := self.folder / name).mkdir()
        node = {
            "id": f"router~127.0.0.1~{name}.demo~demo.svc.cluster.local",
            "cluster": "edge.demo",
            "metadata": {"NAMESPACE": "demo", "NAME": name, "LABELS": {"istio": "edge"}},
        }
        async with real_envoy.envoy(folder, self.xds, delta=True, more={"node": node}) as found:
            yield found

    def records(self) -> list[Path]:
        return list((self.folder / "state").iterdir())


@pytest.fixture
def world(tmp_path: Path) -> World:
    app, port, xds, pages = free_ports(4)
    return World(tmp_path, app, port, xds, pages)


async def header(world: World) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{world.port}/") as answer:
        return answer.headers.get("x-mended", "")


@pytest.mark.timeout(100)
async def test_the_last_good_version_outlives_istiod_and_envoy(world: World) -> None:
    async with real_envoy.app("one") as world.app:
        world.write(None)
        async with world.istiod("first"), world.envoy("edge-1") as old:
            await until(lambda: old.answers(world.port, "one"), "traffic")
            world.write(BAD)
            await until(world.is_found, "the finding")
            await until(lambda: len(world.records()) == 1, "it is kept")
            (before,) = await world.findings()
        assert before["object"] == "EnvoyFilter/demo/odd"
        async with world.istiod("second") as log:
            await until(world.is_found, "the finding, though no proxy is there", 2)
            (after,) = await world.findings()
            assert after == before
            async with world.envoy("edge-2") as new:
                await until(lambda: new.answers(world.port, "one"), "traffic of a new proxy")
                assert await new.stat("listener_manager.lds.update_rejected") == 0, "it is spared"
                (present,) = await world.findings()
                assert json.dumps(present["message"]) == json.dumps(before["message"])
                assert log.read_text().count("M0201") == 1, "FT17"
                world.write(MENDED)

                async def mended() -> bool:
                    return await header(world) == "yes"

                await until(mended, "the new version")
                await until(world.is_clean, "the finding is gone")
                await until(lambda: not world.records(), "nothing is kept any more", 30)
