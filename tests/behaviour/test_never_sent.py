"""What callers get for requests that a sidecar could not hand to its app, through real Envoys (fault FT24)."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from agent.series import Series
from tests.behaviour import client
from tests.behaviour import rig as rigs
from tests.behaviour.client import Ask, Reply
from tests.behaviour.rig import Rig
from tests.behaviour.servers import saying
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]
Asking = Callable[[Ask], Awaitable[Reply]]
WORLD = """
kind: Sidecar
metadata: {name: server}
spec:
  workloadSelector: {labels: {app: server}}
  ingress:
  - {port: {number: $in, protocol: HTTP, name: http}, bind: 127.0.0.1, defaultEndpoint: "127.0.0.1:$entered"}
  - {port: {number: $in2, protocol: HTTP2, name: http2}, bind: 127.0.0.1, defaultEndpoint: "127.0.0.1:$entered"}
  egress: [{hosts: ["~/*"]}]
"""
"""The other sidecar, whose app has ended: nobody listens where it was."""
HOST = """
---
kind: ServiceEntry
metadata: {{name: {0}}}
spec:
  hosts: [{0}.example]
  resolution: STATIC
  ports: [{{number: $http, name: http, protocol: HTTP}}, {{number: $http2, name: http2, protocol: HTTP2}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: $in, http2: $in2}}}}{1}]
---
kind: DestinationRule
metadata: {{name: {0}}}
spec: {{host: {0}.example, trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}}}}}
"""
ALIVE = ", {address: $ip1, ports: {http: $app, http2: $app2}}"
ONCE = """
---
kind: VirtualService
metadata: {name: once}
spec: {hosts: [once.example], http: [{route: [{destination: {host: once.example}}], retries: {attempts: 0}}]}
"""
HOSTS = HOST.format("two", ALIVE) + HOST.format("once", ALIVE) + HOST.format("alone", "") + ONCE
"""Hosts with that sidecar as an endpoint: with another one, the same for who tries once only, and with no other."""
MERGED = """
---
kind: EnvoyFilter
spec:
  workloadSelector: {labels: {app: server}}
  configPatches:
  - applyTo: NETWORK_FILTER
    match:
      context: SIDECAR_INBOUND
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
    patch:
      operation: MERGE
      value:
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          local_reply_config:
            mappers:
            - filter: {status_code_filter: {comparison: {op: EQ, value: {default_value: CODE, runtime_key: none}}}}
              body: {inline_string: sorry}
"""
WAYS: dict[str, tuple[str, Asking]] = {"HTTP/1.1": ("http", client.ask), "HTTP/2": ("http2", client.ask2)}
GRPC = {"content-type": "application/grpc", "te": "trailers"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rigs.running(Path(tmp_path_factory.mktemp("rig"))) as made:
        await made.settle(made.read(WORLD + HOSTS))
        yield made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [b"", b"hello"])
async def test_callers_try_elsewhere_by_istios_default_retries(rig: Rig, way: str, body: bytes) -> None:
    port, ask = WAYS[way]
    rig.servers.forget()
    before = await rig.stat(r"cluster\.inbound.*\.upstream_cx_connect_fail", "server")
    said = {"method": "POST", "headers": {"content-length": "5"}, "body": body} if body else {}
    asked = [await ask(Ask(port=rig.ports[port], host="two.example", **said)) for _ in range(8)]  # type: ignore[arg-type]
    assert [(one.status, one.body) for one in asked] == [(200, "web-1")] * 8
    assert len(rig.servers.seen) == 8
    assert {one.body for one in rig.servers.seen if way == "HTTP/1.1"} <= {body}
    assert await rig.stat(r"cluster\.inbound.*\.upstream_cx_connect_fail", "server") > before


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_tries_again_who_shall_not(rig: Rig, way: str) -> None:
    port, ask = WAYS[way]
    asked = Counter([(await ask(Ask(port=rig.ports[port], host="once.example"))).status for _ in range(8)])
    assert set(asked) == {200, 503}


@pytest.mark.parametrize("way", WAYS)
async def test_where_nobody_else_is_callers_get_the_503_with_grpcs_unavailable(rig: Rig, way: str) -> None:
    port, ask = WAYS[way]
    found = await ask(Ask(port=rig.ports[port], host="alone.example"))
    assert (found.status, found.headers["grpc-status"], found.headers["content-type"]) == (503, "14", "text/plain")
    assert found.body.startswith("upstream connect error or disconnect/reset before headers")


@pytest.mark.parametrize("port", ["http", "in"])
async def test_grpc_has_its_own_answer_with_the_status_once(rig: Rig, port: str) -> None:
    found = await rig.ask(port=port, host="alone.example", method="POST", headers={**GRPC, "content-length": "0"})
    assert (found.status, found.headers["grpc-status"], found.body) == (200, "14", "")
    assert found.headers["grpc-message"].startswith("upstream connect error")


async def test_metrics_tell_it_as_a_503_of_http(rig: Rig) -> None:
    await rig.ask(host="alone.example")
    assert await counted(rig, "client", "alone.example") >= {("http", "503", "", "URX")}
    assert await counted(rig, "server", "server.default") >= {("http", "503", "", "URX,UF")}


@pytest.mark.parametrize(("code", "body", "told"), [(404, "upstream connect error", "14"), (503, "sorry", None)])
async def test_what_an_envoy_filter_says_of_an_answer_comes_first(
    rig: Rig, code: int, body: str, told: str | None
) -> None:
    await rig.settle(rig.read(WORLD + MERGED.replace("CODE", str(code))))
    found = await rig.ask(port="in")
    assert (found.status, found.headers.get("grpc-status")) == (503, told)
    assert found.body.startswith(body)


async def test_what_a_limit_of_the_sidecar_turned_away_is_not_told_so(rig: Rig) -> None:
    """No app got that, either, but to try it again would make more of what is too much already."""
    limit = "inboundConnectionPool: {http: {http2MaxRequests: 1}}\n  egress:"
    await rig.settle(rig.read(WORLD.replace("$entered", "$local").replace("egress:", limit)))
    rig.servers.forget()
    gate = asyncio.Event()
    rig.servers.answer = saying(held=gate)
    first = asyncio.create_task(client.ask2(Ask(port=rig.ports["in2"])))
    try:
        await until(lambda: len(rig.servers.seen) == 1, "the first request has come")
        second = await client.ask2(Ask(port=rig.ports["in2"]))
    finally:
        gate.set()
    assert (second.status, second.headers.get("grpc-status")) == (503, None)
    assert second.headers["x-envoy-overloaded"] == "true"
    assert (await first).status == 200


async def counted(rig: Rig, envoy: str, host: str) -> set[tuple[str, ...]]:
    """Protocol, code, gRPC's status and flags of requests to a host that an Envoy has counted."""
    names = ("request_protocol", "response_code", "grpc_response_status", "response_flags")
    series = Series({})
    text = await rig.envoys[envoy].admin("/stats/prometheus?filter=istio")
    lines = (series.lines(text.encode()) + series.rest()).decode().splitlines()
    labels = (dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in lines if line.startswith("istio_requests_total{"))
    return {tuple(each[name] for name in names) for each in labels if each["destination_service"] == host}
