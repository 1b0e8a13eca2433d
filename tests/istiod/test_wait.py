"""``istioctl wait`` against a real control plane, with proxies that acknowledge, keep silent, or refuse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from e2e.harness.ports import free_ports
from istioctl import __main__ as program
from istiod import app
from istiod.settings import Settings
from tests.istiod.test_app import ready
from tests.waiting import until
from wire import names

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.7, ports: [{name: http, port: 80}]}
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: shop}}
spec: {{host: web, exportTo: ["."], trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: {}s}}}}}}}}
"""
CLUSTER = "outbound|80||web.shop.svc.cluster.local"


@dataclass
class Proxy:
    """Asks for clusters, listeners and their routes, as Envoy does; a ``silent`` one answers when it is told to."""

    call: Any
    silent: bool = False
    refuses: bool = False
    open: list[discovery_pb2.DeltaDiscoveryRequest] = field(default_factory=list)
    acked: set[str] = field(default_factory=set)

    async def run(self) -> None:
        while (response := await self.call.read()) is not grpc.aio.EOF:
            said = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            if self.refuses and any(each.name == CLUSTER for each in response.resources):
                said.error_detail.message = "no such thing"
            self.open.append(said)
            if routes := routes_of(response):
                asked = discovery_pb2.DeltaDiscoveryRequest(type_url=names.ROUTE, resource_names_subscribe=routes)
                await self.call.write(asked)
            if not self.silent:
                await self.answer()

    async def answer(self) -> None:
        for said in self.open:
            await self.call.write(said)
            self.acked.add(said.type_url)
        self.open.clear()


def routes_of(response: discovery_pb2.DeltaDiscoveryResponse) -> list[str]:
    """The routes that the listeners of a response name."""
    found = set()
    for each in response.resources if response.type_url == names.LISTENER else ():
        listener = listener_pb2.Listener.FromString(each.resource.value)
        for chain in (*listener.filter_chains, listener.default_filter_chain):
            for one in chain.filters:
                if one.typed_config.Is(hcm_pb2.HttpConnectionManager.DESCRIPTOR):
                    manager = hcm_pb2.HttpConnectionManager.FromString(one.typed_config.value)
                    found.add(manager.rds.route_config_name)
    return sorted(found - {""})


@dataclass
class World:
    folder: Path
    grpc: str
    pages: str

    def limit(self, seconds: int | None) -> None:
        (self.folder / "web.yaml").write_text(SERVICE + ("" if seconds is None else f"---{RULE.format(seconds)}"))

    @contextlib.asynccontextmanager
    async def proxy(self, name: str, namespace: str) -> AsyncIterator[Proxy]:
        async with grpc.aio.insecure_channel(self.grpc) as channel:
            call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
            asked = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER)
            asked.node.id = f"sidecar~10.0.0.1~{name}.{namespace}~{namespace}.svc.cluster.local"
            await call.write(asked)
            await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=names.LISTENER))
            found = Proxy(call)
            task = asyncio.create_task(found.run())
            await until(lambda: names.ROUTE in found.acked, "the first configuration")
            try:
                yield found
            finally:
                task.cancel()
                await asyncio.wait((task,))

    async def wait(self, *flags: str, timeout: str = "20s") -> int:  # noqa: ASYNC109 (the command's flag)
        arguments = ["wait", "dr", "web.shop", "--monitoring-address", self.pages, "--timeout", timeout, *flags]
        return await asyncio.to_thread(program.main, arguments)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    plain, pages = (f"127.0.0.1:{port}" for port in free_ports(2))
    made = World(tmp_path, plain, pages)
    made.limit(1)
    stop = asyncio.Event()
    settings = Settings(config_dirs=(str(tmp_path),), grpc_address=plain, monitoring_address=pages)
    running = asyncio.create_task(app.ControlPlane(settings).run(stop))
    async with aiohttp.ClientSession() as session:
        await until(lambda: ready(session, f"http://{pages}"), "it serves")
    yield made
    stop.set()
    await running


async def taken(proxy: Proxy) -> None:
    await until(lambda: bool(proxy.open), "the change is there")


async def test_it_waits_for_those_that_the_object_concerns_and_names_those_that_it_waits_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world.proxy("a", "shop") as one, world.proxy("b", "shop") as two, world.proxy("c", "bank") as other:
        assert await world.wait() == 0
        assert capsys.readouterr().out == "DestinationRule/shop/web present on 3 out of 3 proxies\n"
        one.silent = two.silent = other.silent = True
        world.limit(2)
        await taken(one)
        await taken(two)
        await one.answer()
        assert await world.wait(timeout="500ms") == 1
        said = capsys.readouterr().err
        assert said == (
            "Error: timeout expired before DestinationRule/shop/web became effective on all proxies:\n"
            "  b.shop: it has not acknowledged it\n"
        )
        assert other.open == [], "it is of no concern to another namespace"
        assert await world.wait("--threshold", "0.5", timeout="5s") == 0
        assert capsys.readouterr().out == "DestinationRule/shop/web present on 1 out of 2 proxies\n"
        waiting = asyncio.create_task(world.wait())
        await two.answer()
        assert await waiting == 0
        assert capsys.readouterr().out == "DestinationRule/shop/web present on 2 out of 2 proxies\n"


async def test_what_a_proxy_refuses_is_the_reason(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async with world.proxy("a", "shop") as one:
        one.refuses = one.silent = True
        world.limit(2)
        await taken(one)
        one.silent = False
        await one.answer()
        assert await world.wait(timeout="1s") == 1
        assert f"  a.shop: it refuses Cluster {CLUSTER}: no such thing\n" in capsys.readouterr().err
        one.refuses = False
        world.limit(3)
        assert await world.wait() == 0


async def test_a_deletion_is_waited_for(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async with world.proxy("a", "shop") as one:
        assert await world.wait("--for", "delete", timeout="300ms") == 1
        assert capsys.readouterr().err == "Error: DestinationRule/shop/web is still there\n"
        one.silent = True
        world.limit(None)
        await taken(one)
        assert await world.wait("--for=delete", timeout="500ms") == 1
        assert "a.shop: it has not acknowledged it" in capsys.readouterr().err
        assert await world.wait(timeout="300ms") == 1
        assert "is not known to istiod" in capsys.readouterr().err
        await one.answer()
        assert await world.wait("--for=delete") == 0
        assert capsys.readouterr().out == "DestinationRule/shop/web gone from 1 out of 1 proxies\n"


async def test_a_generation_that_istiod_has_not_seen_and_a_replica_that_is_silent_are_no(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world.proxy("a", "shop"):
        assert await world.wait("--generation", "7", timeout="300ms") == 1
        assert f"{world.pages}: has seen generation 0, not yet 7" in capsys.readouterr().err
        (port,) = free_ports(1)
        assert await world.wait("--monitoring-address", f"127.0.0.1:{port}", timeout="300ms") == 1
        assert f"127.0.0.1:{port}: cannot get /debug/config_distribution" in capsys.readouterr().err
