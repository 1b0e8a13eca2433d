"""CUSTOM policies with real providers behind a real Envoy: asked about what matches (SEC51)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from aiohttp import web
from envoy.service.auth.v3 import external_auth_pb2

from e2e.harness.ports import free_ports
from istiod.mesh.authorization import Authorization
from istiod.mesh.recall import Recall
from tests.envoy import guarded, made
from tests.envoy.guarded import Certificates, Client, Guard
from tests.envoy.policy_oracle import Request
from tests.envoy.test_real_authorization import policy
from tests.mesh import fleet

HOST = "decider.authz.svc.cluster.local"
SERVICE = fleet.dump(
    "v1", "Service", "decider", "authz", spec={"ports": [{"name": "http", "port": 80}], "clusterIP": "10.0.0.9"}
)
CLUSTER = f"outbound|80||{HOST}"
SECRET = policy(
    "ask", action="CUSTOM", provider={"name": "decider"}, rules=[{"to": [{"operation": {"paths": ["/secret*"]}}]}]
)


def said(kind: str, **provider: Any) -> Authorization:
    about = {"service": HOST, "port": 80, "timeout": "2s", **provider}
    mesh = yaml.safe_dump({"extensionProviders": [{"name": "decider", kind: about}]})
    index = fleet.Mesh(fleet.mesh_config(mesh), SERVICE, yaml.safe_dump(SECRET)).context.model.authorizations
    found = index.choose("foo", frozenset({("app", "web")}), Recall())
    assert found is not None
    return found


async def answers(
    folder: Path, guard: Authorization, port: int, *, http2: bool = False, tcp: bool = False
) -> list[int]:
    """Of an open path, a secret one without a pass, and one with it; of TCP, of a connection."""
    (own,) = guarded.ports(1)
    certificates = Certificates(folder)
    upstreams = {CLUSTER: (port, http2)}
    ways = [("/", ()), ("/secret", ()), ("/secret", (("x-pass", "yes"),))]
    requests = [Request(port=own, host="a", path=path, headers=headers, tcp=tcp) for path, headers in ways]
    async with guarded.running([Guard(port=own, said=guard, tcp=tcp)], certificates, made.QUIET, upstreams):
        client = Client(certificates)
        found = [await client.ask(one) for one in (requests[:1] if tcp else requests)]
        await client.close()
    return found


@asynccontextmanager
async def over_http() -> AsyncIterator[tuple[int, list[str]]]:
    seen: list[str] = []

    async def decide(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=200 if request.headers.get("x-pass") == "yes" else 401)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", decide)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1], seen
    finally:
        await runner.cleanup()


@asynccontextmanager
async def over_grpc() -> AsyncIterator[tuple[int, list[str]]]:
    seen: list[str] = []

    async def check(request: external_auth_pb2.CheckRequest, _: Any) -> external_auth_pb2.CheckResponse:
        http = request.attributes.request.http
        seen.append(http.path)
        found = external_auth_pb2.CheckResponse()
        found.status.code = 0 if http.headers.get("x-pass") == "yes" else grpc.StatusCode.PERMISSION_DENIED.value[0]
        return found

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        check, external_auth_pb2.CheckRequest.FromString, external_auth_pb2.CheckResponse.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port, seen
    finally:
        await server.stop(None)


@pytest.mark.envoy
async def test_a_provider_of_http_is_asked_about_what_matches(tmp_path: Path) -> None:
    guard = said("envoyExtAuthzHttp", pathPrefix="/check", includeRequestHeadersInCheck=["x-*"])
    async with over_http() as (port, seen):
        assert await answers(tmp_path, guard, port) == [200, 401, 200]
    assert seen == ["/check/secret", "/check/secret"]


@pytest.mark.envoy
async def test_a_provider_of_grpc_is_asked_about_what_matches(tmp_path: Path) -> None:
    async with over_grpc() as (port, seen):
        assert await answers(tmp_path, said("envoyExtAuthzGrpc"), port, http2=True) == [200, 403, 200]
    assert seen == ["/secret", "/secret"]


@pytest.mark.envoy
async def test_it_is_asked_about_connections_too(tmp_path: Path) -> None:
    async with over_grpc() as (port, seen):
        assert await answers(tmp_path, said("envoyExtAuthzGrpc"), port, http2=True, tcp=True) == [403]
    assert seen == [""]


@pytest.mark.envoy
@pytest.mark.parametrize(
    ("more", "wanted"),
    [({}, [200, 403, 403]), ({"statusOnError": "503"}, [200, 503, 503]), ({"failOpen": True}, [200, 200, 200])],
)
async def test_one_that_does_not_answer_lets_nobody_in_unless_it_is_said(
    tmp_path: Path, more: dict[str, Any], wanted: list[int]
) -> None:
    (nobody,) = free_ports(1)
    assert await answers(tmp_path, said("envoyExtAuthzHttp", **more), nobody) == wanted


@pytest.mark.envoy
async def test_one_that_is_not_there_lets_nobody_in(tmp_path: Path) -> None:
    guard = said("envoyExtAuthzHttp", service="gone.example")
    assert await answers(tmp_path, guard, 1) == [200, 403, 403]
