"""Requests and TLS connections through a running Envoy to hosts that it resolves when they are asked for.

The hosts are names below ``localhost``, which resolvers know without a server (RFC 6761).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from e2e.harness.ports import free_ports
from istiod.ads.server import AdsService
from istiod.envoy.compiler import Compiler
from tests.ads import made as ads_made
from tests.ads import real_envoy, serving
from tests.ads.real_envoy import RunningEnvoy
from tests.envoy import made
from tests.envoy.test_running_envoy import certificate
from tests.mesh import fleet
from tests.waiting import until

pytestmark = pytest.mark.envoy

HOST = "web.localhost"


def entry(name: str, protocol: str, port: int, *, target: int = 0, host: str = "*.localhost") -> str:
    ports = [{"name": protocol.lower(), "number": port, "protocol": protocol, "targetPort": target}]
    return fleet.istio("ServiceEntry", name, {"hosts": [host], "ports": ports, "resolution": "DYNAMIC_DNS"})


@dataclass
class World:
    """A mesh, what serves it, and the Envoy of one sidecar that nothing captures for: it listens on localhost."""

    mesh: fleet.Mesh
    configuration: ads_made.Fixed
    server: AdsService
    envoy: RunningEnvoy
    compiler: Compiler
    kind: str

    async def settle(self, *texts: str) -> None:
        self.mesh.apply(*texts)
        scope = self.mesh.scope(
            fleet.proxy("client-1", kind=self.kind, LABELS={"app": "client"}, INTERCEPTION_MODE="NONE")
        )
        found = self.compiler.compile(scope, self.mesh.context.endpoints, made.VIEW)
        self.configuration.set(*(one for kind in found.layers for one in found.of(kind)))
        await until(self.server.converged, "every resource ACKed")


@contextlib.asynccontextmanager
async def running(folder: Path, kind: str = "sidecar") -> AsyncIterator[World]:
    configuration = ads_made.Fixed()
    service = AdsService(configuration, time.monotonic)
    async with serving.running(service) as served, real_envoy.envoy(folder, served.port, delta=True) as envoy:
        yield World(fleet.Mesh(), configuration, service, envoy, Compiler(), kind)


async def ask(port: int, authority: str) -> str:
    """What comes back for a request to a local listener with this Host."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"http://127.0.0.1:{port}/", headers={"Host": authority}) as response:
                return await response.text() if response.status == 200 else f"status {response.status}"
        except aiohttp.ClientConnectionError:
            return ""


async def comes(port: int, authority: str, answer: str) -> None:
    async def came() -> bool:
        return await ask(port, authority) == answer

    await until(came, f"{answer} from {authority}")


async def test_http_reaches_the_host_that_the_request_names(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with running(tmp_path) as world, real_envoy.app("one") as one, real_envoy.app("two") as two:
        await world.settle(fleet.mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"), entry("a", "HTTP", port))
        await comes(port, f"{HOST}:{one}", "one")
        assert await ask(port, f"other.localhost:{two}") == "two"
        assert await ask(port, f"localhost:{one}") == "status 502"
        # a second pattern on the port has a cache of its own
        await world.settle(entry("b", "HTTP", port, host="*.deep.localhost"))
        await comes(port, f"x.deep.localhost:{two}", "two")
        assert await ask(port, f"{HOST}:{one}") == "one"


async def test_http_to_any_host_is_resolved_where_the_mesh_says_so(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    other = fleet.kube_service("other", ports=[{"name": "http", "port": port}])
    async with running(tmp_path) as world, real_envoy.app("one") as one:
        mode = "{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}, enableAutoMtls: false}"
        await world.settle(other, fleet.mesh_config(mode))
        await comes(port, f"{HOST}:{one}", "one")


@contextlib.asynccontextmanager
async def tls_app(folder: Path) -> AsyncIterator[tuple[int, list[str | None]]]:
    """A server that ends TLS; gives its port and the server names that it was asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder))
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\ntls")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], names


@pytest.mark.parametrize("protocol", ["TLS", "HTTPS"])
async def test_tls_goes_to_the_host_of_the_server_name(protocol: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    async def said(name: str) -> bytes:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
        except OSError:
            return b""
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        found = await reader.read()
        writer.close()
        return found

    async with running(tmp_path) as world, tls_app(tmp_path) as (upstream, names):
        refusing = fleet.mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
        await world.settle(refusing, entry("a", protocol, port, target=upstream))

        async def came() -> bool:
            return (await said(HOST)).endswith(b"tls")

        await until(came, "an answer through TLS")
        assert set(names) == {HOST}
        assert await said("web.elsewhere") == b""


async def test_a_rule_may_add_tls(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    policy = {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}}
    rule = fleet.istio("DestinationRule", "a", {"host": "*.localhost", "trafficPolicy": policy})
    async with running(tmp_path) as world, tls_app(tmp_path) as (upstream, names):
        await world.settle(entry("a", "HTTP", port), rule)
        await comes(port, f"{HOST}:{upstream}", "tls")
        assert set(names) == {HOST}


@pytest.mark.parametrize("protocol", ["HTTP", "HTTP2", "GRPC", "TLS", "HTTPS"])
@pytest.mark.parametrize("kind", ["sidecar", "router"])
async def test_envoy_accepts_every_kind_of_port_and_policy(protocol: str, kind: str, tmp_path: Path) -> None:
    ports = free_ports(2)
    pool = {"tcp": {"maxConnections": 10}, "http": {"idleTimeout": "5s"}}
    policies: list[dict[str, object]] = [
        {"loadBalancer": {"simple": "ROUND_ROBIN", "warmup": {"duration": "10s"}}, "connectionPool": pool},
        {"loadBalancer": {"simple": "PASSTHROUGH"}, "outlierDetection": {"consecutive5xxErrors": 3}},
        {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}, "tls": {"mode": "DISABLE"}},
        {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True, "sni": "a.localhost"}},
    ]
    tls = {"mode": "PASSTHROUGH"} if protocol in ("TLS", "HTTPS") else None
    server = {"port": {"number": ports[1], "name": "in", "protocol": protocol}, "hosts": ["*.localhost"], "tls": tls}
    gateway = fleet.istio("Gateway", "own", {"selector": {"app": "client"}, "servers": [server]})
    to = [{"destination": {"host": "*.localhost", "port": {"number": ports[0]}}}]
    sni = [{"sniHosts": ["*.localhost"]}]
    rules = {"tls": [{"match": sni, "route": to}]} if tls else {"http": [{"route": to}]}
    routed = fleet.istio("VirtualService", "a", {"hosts": ["*.localhost"], "gateways": ["own"], **rules})
    async with running(tmp_path, kind) as world:

        async def there() -> bool:
            return f"outbound|{ports[0]}||*.localhost" in await world.envoy.clusters() and world.server.converged()

        for policy in policies:
            rule = fleet.istio("DestinationRule", "a", {"host": "*.localhost", "trafficPolicy": policy})
            await world.settle(entry("a", protocol, ports[0]), rule, gateway, routed)
            await until(there, "the cluster")
