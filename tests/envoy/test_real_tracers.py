"""What else takes spans: the collector of a proxy's bootstrap, Datadog's agent, SkyWalking's collector."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format

from agent.bootstrap import telemetry as bootstrap
from e2e.harness.ports import free_ports
from istiod.envoy import cluster, listener
from istiod.mesh import tracing
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.route import DirectResponse, RouteTable
from istiod.mesh.scope import Chain, Direction, Discovery, Http, Listener
from istiod.mesh.service import Protocol
from istiod.mesh.settings import MeshSettings
from istiod.mesh.tracers import Endpoint, Kind, Tracer
from istiod.mesh.tracing import Side, Tracing
from tests import envoys
from tests.envoy import made
from tests.waiting import until
from wire import telemetry

pytestmark = pytest.mark.envoy
HOST = "collector.default.svc.cluster.local"
AT = Endpoint(service=HOST, port=9080, host=HOST, cluster=made.cluster_name("collector"))
FLUSH = {
    f"tracing.{name}.{what}": 1 for name in ("zipkin", "datadog") for what in ("flush_interval_ms", "min_flush_spans")
}
Requests = list[tuple[str, Mapping[str, str], bytes]]
Arrived = Callable[[], bool]


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[tuple[int, Requests]]:
    seen: Requests = []

    async def take(request: web.Request) -> web.Response:
        seen.append((request.path, dict(request.headers), await request.read()))
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], seen
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def skywalking() -> AsyncIterator[tuple[int, Requests]]:
    seen: Requests = []

    async def collect(parts: Any, context: Any) -> bytes:
        async for part in parts:
            seen.append(("collect", dict(context.invocation_metadata()), part))
        return b""

    server = grpc.aio.server()
    handlers = {"collect": grpc.stream_unary_rpc_method_handler(collect)}
    name = "skywalking.v3.TraceSegmentReportService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port, seen
    finally:
        await server.stop(None)


async def traced(folder: Path, own: NodeSettings, config: Mapping[str, Any], port: int, arrived: Arrived) -> None:
    """One request to an Envoy whose spans go to a port, and the spans' arrival."""
    (at,) = free_ports(1)
    table = RouteTable(
        name="t",
        virtual_hosts=(
            made.virtual_host(routes=(made.route(direct_response=DirectResponse(status=200), destinations=()),)),
        ),
    )
    chain = Chain(name="c", http=Http(stat_prefix="x", inline=table))
    served = Listener(name="l", address="127.0.0.1", port=at, direction=Direction.OUTBOUND, chains=(chain,), own=own)
    place = made.endpoint("127.0.0.1", port=port)
    tracer = own.traced.client.tracer if own.traced else None
    protocol = Protocol.GRPC if tracer and tracer.kind is Kind.SKYWALKING else Protocol.HTTP
    behind = made.cluster(
        "collector", discovery=Discovery.STATIC, query=None, endpoints=(place,), tls=None, protocol=protocol
    )
    said = {
        "node": {"id": "sidecar~127.0.0.1~a.default~default.svc.cluster.local", "cluster": "web.default"},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": FLUSH}]},
        **config,
    }
    found = json_format.ParseDict(said, bootstrap_pb2.Bootstrap())
    found.static_resources.listeners.append(listener.message(served, MeshSettings()))
    found.static_resources.clusters.append(cluster.message(behind, MeshSettings()))
    path = folder / "bootstrap.pb"
    path.write_bytes(found.SerializeToString())
    process = await asyncio.create_subprocess_exec(
        envoys.binary(),
        *("-c", str(path), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"),
        env={**os.environ, **telemetry.environment({}), **telemetry.service("web.default", {})},
    )
    try:
        async with aiohttp.ClientSession() as http:

            async def served_now() -> bool:
                try:
                    async with http.get(f"http://127.0.0.1:{at}/a", headers={"host": "reviews"}) as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await until(served_now, "Envoy answers")
        await until(arrived, "spans arrive")
    finally:
        process.terminate()
        await process.wait()


def provided(tracer: Tracer) -> NodeSettings:
    both = Side(tracer=tracer, sampling=100.0)
    return NodeSettings(traced=Tracing(client=both, server=both))


async def test_a_collector_of_the_bootstrap_has_the_tags_of_the_proxys_configuration(tmp_path: Path) -> None:
    async with collector() as (port, seen):
        said = {
            "sampling": 100,
            "zipkin": {"address": f"127.0.0.1:{port}"},
            "customTags": {"team": {"literal": {"value": "a"}}},
        }
        own = NodeSettings(tracing=tracing.of_metadata({"tracing": said}))
        config = {
            **bootstrap.tracing({"tracing": said}, "web.default"),
            "static_resources": {"clusters": bootstrap.collectors({"tracing": said})},
        }
        await traced(tmp_path, own, config, port, lambda: bool(seen))
    path, _, body = seen[0]
    assert path == "/api/v2/spans"
    assert b'"team":"a"' in body
    assert b'"istio.canonical_service":"unknown"' in body
    assert b'"serviceName":"web.default"' in body


async def test_datadogs_agent_knows_the_proxy_by_its_own_name(tmp_path: Path) -> None:
    async with collector() as (port, seen):
        tracer = Tracer(name="d", kind=Kind.DATADOG, at=AT)
        await traced(tmp_path, provided(tracer), {}, port, lambda: any(path.endswith("/traces") for path, _, _ in seen))
    headers, body = next((headers, body) for path, headers, body in seen if path.endswith("/traces"))
    assert headers["Host"] == HOST
    assert b"web.default" in body
    assert telemetry.PROXY.encode() not in body


async def test_skywalking_is_shown_the_token(tmp_path: Path) -> None:
    async with skywalking() as (port, seen):
        tracer = Tracer(name="s", kind=Kind.SKYWALKING, at=AT, token="secret")
        await traced(tmp_path, provided(tracer), {}, port, lambda: bool(seen))
    _, headers, body = seen[0]
    assert headers["authentication"] == "secret"
    assert b"web.default" in body
