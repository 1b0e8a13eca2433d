"""The whole way: a RequestAuthentication in a file, keys from a real server, istiod, and a gateway's real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import textwrap
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from e2e.harness.ports import free_ports
from istiod.app import ControlPlane
from istiod.features import Features
from istiod.settings import Settings
from tests.ads import real_envoy
from tests.jwks.made import Signer, ec_signer, key_set, rsa_signer
from tests.waiting import until

pytestmark = pytest.mark.envoy

FEATURES = Features(keys_allowed=("127.0.0.0/8",), key_refresh=timedelta(seconds=1))
NODE = "router~127.0.0.1~gw.istio-system~istio-system.svc.cluster.local"


class Issuer:
    """A server of keys: what it has, and whether it answers."""

    def __init__(self, *signers: Signer) -> None:
        self.text = key_set(*signers)
        self.status = 200
        self.asked = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(text=self.text, status=self.status)


@contextlib.asynccontextmanager
async def serving(issuer: Issuer, port: int) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/keys", issuer.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


def config(listener: int, keys: int) -> str:
    return textwrap.dedent(f"""
        apiVersion: networking.istio.io/v1
        kind: Gateway
        metadata: {{name: gw, namespace: istio-system}}
        spec:
          selector: {{app: gw}}
          servers: [{{port: {{number: {listener}, protocol: HTTP, name: http}}, hosts: ["*"]}}]
        ---
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {{name: routes, namespace: istio-system}}
        spec:
          hosts: ["*"]
          gateways: [gw]
          http:
          - match: [{{headers: {{"@request.auth.claims.group": {{exact: admin}}}}}}]
            directResponse: {{status: 210}}
          - directResponse: {{status: 200}}
        ---
        apiVersion: security.istio.io/v1
        kind: RequestAuthentication
        metadata: {{name: tokens, namespace: istio-system}}
        spec:
          selector: {{matchLabels: {{app: gw}}}}
          jwtRules:
          - issuer: https://issuer.example
            jwksUri: http://127.0.0.1:{keys}/keys
    """)


@contextlib.asynccontextmanager
async def control_plane(folder: Path, ads: int, monitoring: int) -> AsyncIterator[None]:
    stop = asyncio.Event()
    settings = Settings(
        config_dirs=(str(folder),),
        grpc_address=f"127.0.0.1:{ads}",
        monitoring_address=f"127.0.0.1:{monitoring}",
        features=FEATURES,
    )
    task = asyncio.create_task(ControlPlane(settings).run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


class Front:
    def __init__(self, port: int, monitoring: int, http: aiohttp.ClientSession) -> None:
        self.port = port
        self.monitoring = monitoring
        self.http = http

    async def status(self, token: str = "") -> int:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            async with self.http.get(f"http://127.0.0.1:{self.port}/", headers=headers) as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0

    async def answers(self, status: int, token: str = "") -> bool:
        return await self.status(token) == status

    async def findings(self) -> str:
        async with self.http.get(f"http://127.0.0.1:{self.monitoring}/debug/diagnosticsz") as answer:
            return json.dumps(await answer.json())


@contextlib.asynccontextmanager
async def gateway(folder: Path, port: int, ads: int, monitoring: int) -> AsyncIterator[Front]:
    node = {"id": NODE, "cluster": "gw", "metadata": {"LABELS": {"app": "gw"}, "NAMESPACE": "istio-system"}}
    async with real_envoy.envoy(folder, ads, delta=True, more={"node": node}), aiohttp.ClientSession() as http:
        yield Front(port, monitoring, http)


async def test_keys_come_change_and_serve_on_while_their_server_is_down(tmp_path: Path) -> None:
    first, second, stranger = rsa_signer("one"), ec_signer("two"), rsa_signer("one")
    issuer = Issuer(first)
    port, ads, monitoring, keys = free_ports(4)
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "mesh.yaml").write_text(config(port, keys))
    async with (
        serving(issuer, keys),
        control_plane(folder, ads, monitoring),
        gateway(tmp_path, port, ads, monitoring) as front,
    ):
        await until(lambda: front.answers(200), "the gateway serves")
        # the start has waited for the keys: the first configuration has them
        assert await front.status(first.token()) == 200
        assert await front.status(first.token(group="admin")) == 210
        assert await front.status(stranger.token(group="admin")) == 401
        issuer.text = key_set(second)
        await until(lambda: front.answers(200, second.token()), "new keys are in use")
        assert await front.status(first.token()) == 401
        for text, status in (("", 503), ("<html>", 200), ("x" * 2_000_000, 200), (key_set(stranger), 500)):
            issuer.text, issuer.status, issuer.asked = text, status, 0
            await until(lambda: issuer.asked > 1, "the server was asked again")
            assert await front.status(second.token()) == 200
            assert await front.status(stranger.token()) == 401
            assert "the last keys serve" in await front.findings()
        issuer.text, issuer.status = key_set(first, second), 200
        await until(lambda: front.answers(200, first.token()), "both keys are in use")
        assert "M0114" not in await front.findings()


async def test_without_keys_tokens_are_refused_and_the_object_says_why(tmp_path: Path) -> None:
    """Row SEC53 of the hostile inputs."""
    signer = rsa_signer()
    issuer = Issuer(signer)
    port, ads, monitoring, keys = free_ports(4)
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "mesh.yaml").write_text(config(port, keys))
    async with control_plane(folder, ads, monitoring), gateway(tmp_path, port, ads, monitoring) as front:
        await until(lambda: front.answers(200), "the gateway serves")
        assert await front.status(signer.token()) == 401
        found = await front.findings()
        assert "M0114" in found
        assert "spec.jwtRules[0].jwksUri" in found
        async with serving(issuer, keys):
            await until(lambda: front.answers(200, signer.token()), "the keys came")
            assert "M0114" not in await front.findings()
