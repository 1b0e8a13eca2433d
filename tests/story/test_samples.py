"""Istio's samples helloworld, httpbin, tcp-echo and curl from their own unmodified YAML, as their READMEs use them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.demo.mesh import BookInfo
from tests import samples
from tests.story import worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
APPS = ("helloworld/helloworld", "httpbin/httpbin", "tcp-echo/tcp-echo-services", "curl/curl")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[BookInfo]:
    """All samples on one mesh; the gateway serves helloworld."""
    names = (*APPS, "helloworld/helloworld-gateway")
    async with worlds.world([worlds.MESH_SETTINGS, *(samples.path(f"{name}.yaml") for name in names)]) as found:

        async def up() -> bool:
            hello, (status, _) = await found.client.get("/hello"), await curl(found, "httpbin:8000/get")
            return (hello.status, status) == (200, "200")

        await worlds.until("helloworld and httpbin answer", up)
        yield found


async def curl(world: BookInfo, *arguments: str) -> tuple[str, str]:
    """Status and body of what the sample pod curl gets."""
    ask = ["curl", "-s", "-w", "\n%{http_code}", *arguments]
    _, out, _ = await world.mesh.exec("curl", ask, "curl")
    body, _, status = out.rpartition("\n")
    return status, body


async def say(world: BookInfo, port: int) -> str:
    """What tcp-echo answers to a line, as the task asks it (`echo hello | nc tcp-echo PORT`)."""
    script = f"import socket; s = socket.create_connection(('tcp-echo', {port})); s.sendall(b'hello\\n'); "
    code, out, err = await world.mesh.exec("curl", ["python3", "-c", script + "print(s.recv(99).decode())"], "curl")
    assert code == 0, err
    return out.strip()


async def test_helloworld_answers_through_the_gateway_with_both_versions(world: BookInfo) -> None:
    seen = {(await world.client.get("/hello")).text[:18] for _ in range(40)}
    assert seen == {"Hello version: v1,", "Hello version: v2,"}


async def test_httpbin_answers_with_what_was_asked_for(world: BookInfo) -> None:
    assert (await curl(world, "http://httpbin:8000/status/418"))[0] == "418"
    status, body = await curl(world, "-H", "x-tag: 7", "http://httpbin.default:8000/headers")
    seen = json.loads(body)["headers"]
    assert (status, seen["X-Tag"]) == ("200", ["7"])
    assert "X-Request-Id" in seen


async def test_httpbin_shows_who_called_when_mtls_proved_it(world: BookInfo) -> None:
    """The mTLS migration task looks for this header."""
    _, body = await curl(world, "http://httpbin:8000/headers")
    (said,) = json.loads(body)["headers"]["X-Forwarded-Client-Cert"]
    assert "By=spiffe://cluster.local/ns/default/sa/httpbin" in said
    assert "URI=spiffe://cluster.local/ns/default/sa/curl" in said


@pytest.mark.parametrize("port", [9000, 9001])
async def test_tcp_echo_answers_on_the_ports_of_its_service(world: BookInfo, port: int) -> None:
    assert await say(world, port) in {"one hello", "two hello"}


async def test_a_service_outside_of_the_registry_is_reached_by_default(world: BookInfo) -> None:
    """ALLOW_ANY: a pod's own address and port, which no Service has (tcp-echo's 9002), goes through as it is."""
    address = world.mesh.pod("tcp-echo-v1").state.address
    script = f"import socket; s = socket.create_connection(('{address}', 9002)); s.sendall(b'hello\\n'); "
    code, out, err = await world.mesh.exec("curl", ["python3", "-c", script + "print(s.recv(99).decode())"], "curl")
    assert (code, out.strip()) == (0, "one hello"), err
