"""What a running gateway believes of those in front of it, and which headers it adds (rows E13, R8, S99, SEC60)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.harness.ports import free_ports
from tests.envoy.test_real_dynamic_dns import World, running
from tests.mesh import fleet
from tests.waiting import until

pytestmark = pytest.mark.envoy


@contextlib.asynccontextmanager
async def mirror() -> AsyncIterator[int]:
    """A server that answers with the request's head as it came; gives its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(
                    f"HTTP/1.1 200 OK\r\nServer: app\r\nX-Own: 1\r\ncontent-length: {len(head)}\r\n\r\n".encode() + head
                )
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def exchange(port: int, head: str, before: bytes = b"") -> tuple[str, dict[str, str]]:
    """The answer's head, and the headers that the app saw with their names in lower case; "" while there is none."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(before + f"GET / HTTP/1.1\r\nHost: web.example\r\n{head}Connection: close\r\n\r\n".encode())
        got = (await reader.read()).decode()
        writer.close()
    except OSError:
        return "", {}
    answer, _, seen = got.partition("\r\n\r\n")
    lines = (line.partition(": ") for line in seen.split("\r\n")[1:] if line)
    return answer, {name.lower(): value for name, _, value in lines}


def objects(port: int, upstream: int) -> tuple[str, ...]:
    server = {"port": {"number": port, "name": "in", "protocol": "HTTP"}, "hosts": ["*"]}
    ports = [{"name": "http", "number": 80, "protocol": "HTTP", "targetPort": upstream}]
    entry = {
        "hosts": ["web.example"],
        "ports": ports,
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1"}],
    }
    to = [{"destination": {"host": "web.example"}}]
    asks = [{"headers": {"rewrite": {"exact": "1"}}}]
    rewritten = {"match": asks, "rewrite": {"authority": "other.example"}, "route": to}
    rule = {"hosts": ["*"], "gateways": ["own"], "http": [rewritten, {"route": to}]}
    return (
        fleet.istio("Gateway", "own", {"selector": {"app": "client"}, "servers": [server]}),
        fleet.istio("ServiceEntry", "web", entry),
        fleet.istio("VirtualService", "web", rule),
    )


@contextlib.asynccontextmanager
async def gateway(folder: Path, config: str) -> AsyncIterator[tuple[World, int]]:
    """A gateway in front of a mirror, in a mesh with this ``defaultConfig``."""
    (port,) = free_ports(1)
    async with running(folder, "router") as world, mirror() as upstream:
        await world.settle(fleet.mesh_config(f"defaultConfig: {config}"), *objects(port, upstream))
        yield world, port


async def settled(port: int, before: bytes = b"") -> None:
    async def answers() -> bool:
        return (await exchange(port, "", before))[0].startswith("HTTP/1.1 200")

    await until(answers, "an answer")


FORGED = (
    "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Envoy-External-Address: 9.9.9.9\r\nX-Forwarded-Client-Cert: By=evil\r\n"
    "X-Envoy-Retry-On: 5xx\r\nX-Envoy-Internal: true\r\nX-Envoy-Original-Path: /admin\r\n"
)


@pytest.mark.parametrize(
    ("trusted", "client"),
    [
        (0, "127.0.0.1"),
        (1, "2.2.2.2"),
        (2, "1.1.1.1"),
        (3, "127.0.0.1"),  # the header has too few hops: the immediate peer counts
    ],
)
async def test_the_clients_address_is_the_one_that_trusted_proxies_tell(
    trusted: int, client: str, tmp_path: Path
) -> None:
    async with gateway(tmp_path, f"{{gatewayTopology: {{numTrustedProxies: {trusted}}}}}") as (_, port):
        await settled(port)
        _, seen = await exchange(port, FORGED)
    assert seen["x-envoy-external-address"] == client
    assert seen["x-forwarded-for"].startswith("1.1.1.1, 2.2.2.2,")
    assert "x-forwarded-client-cert" not in seen
    assert "x-envoy-retry-on" not in seen
    assert seen.get("x-envoy-internal") != "true"


async def test_headers_are_added_and_left_out_as_the_mesh_says(tmp_path: Path) -> None:
    config = """
      {proxyHeaders: {server: {disabled: true}, requestId: {disabled: true}, attemptCount: {disabled: true},
       envoyDebugHeaders: {disabled: true}, preserveHttp1HeaderCase: true}}
    """
    async with gateway(tmp_path, " ".join(config.split())) as (world, port):
        await settled(port)
        answer, seen = await exchange(port, "")
        assert "\r\nServer: app" in answer
        assert "\r\nX-Own: 1" in answer
        assert not {"x-request-id", "x-envoy-attempt-count"} & set(seen)
        assert "x-envoy" not in answer.lower()
        assert not {"x-forwarded-host", "x-forwarded-port"} & set((await exchange(port, "rewrite: 1\r\n"))[1])
        more = "xForwardedHost: {enabled: true}, xForwardedPort: {enabled: true}"
        await world.settle(fleet.mesh_config(f"defaultConfig: {{proxyHeaders: {{server: {{value: mine}}, {more}}}}}"))

        async def changed() -> bool:
            return "\r\nserver: mine" in (await exchange(port, ""))[0]

        await until(changed, "the mesh's own server header")
        answer, seen = await exchange(port, "")
        assert {"x-request-id", "x-envoy-attempt-count"} <= set(seen)
        assert "\r\nx-own: 1" in answer
        assert (seen["x-forwarded-port"], seen["host"]) == (str(port), "web.example")
        _, seen = await exchange(port, "rewrite: 1\r\n")
        assert (seen["host"], seen["x-forwarded-host"]) == ("other.example", "web.example")


async def test_proxy_protocol_tells_the_clients_address(tmp_path: Path) -> None:
    line = b"PROXY TCP4 7.7.7.7 8.8.8.8 1000 80\r\n"
    async with gateway(tmp_path, "{gatewayTopology: {proxyProtocol: {}}}") as (_, port):
        await settled(port, line)
        _, seen = await exchange(port, "", line)
        assert seen["x-forwarded-for"] == "7.7.7.7"
        assert (await exchange(port, ""))[0] == ""
