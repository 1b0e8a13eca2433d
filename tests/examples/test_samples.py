from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from examples import helloworld, httpbin, tcp_echo
from node import images
from tests import samples

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def bin_client() -> AsyncIterator[Client]:
    async with TestClient(TestServer(httpbin.application())) as client:
        yield client


async def test_httpbin_tells_what_came_in(bin_client: Client) -> None:
    body = await (await bin_client.get("/get?show=env&show=x", headers={"x-tag": "7"})).json()
    assert body["args"] == {"show": ["env", "x"]}
    assert body["headers"]["X-Tag"] == ["7"]
    assert body["url"].endswith("/get?show=env&show=x")
    assert set(await (await bin_client.get("/headers")).json()) == {"headers"}
    assert await (await bin_client.get("/ip")).json() == {"origin": "127.0.0.1"}
    assert await (await bin_client.get("/user-agent", headers={"user-agent": "me"})).json() == {"user-agent": "me"}


async def test_httpbin_gives_bodies_back_as_text_form_or_json(bin_client: Client) -> None:
    body = await (await bin_client.post("/post", data={"a": "1"})).json()
    assert (body["form"], body["json"]) == ({"a": ["1"]}, None)
    body = await (await bin_client.put("/anything/deep/path", data=json.dumps({"a": 1}))).json()
    assert (body["method"], body["json"], body["data"]) == ("PUT", {"a": 1}, '{"a": 1}')


@pytest.mark.parametrize(
    ("path", "status"),
    [("/status/503", 503), ("/status/201,201", 201), ("/status/999", 400), ("/status/x", 400), ("/nothing", 404),
     ("/delay/0", 200), ("/delay/x", 400), ("/", 200), ("/html", 200), ("/robots.txt", 200)],
)  # fmt: skip
async def test_httpbin_answers_with_the_status_that_is_asked_for(bin_client: Client, path: str, status: int) -> None:
    assert (await bin_client.get(path)).status == status


async def test_httpbin_sets_headers_cookies_and_redirects(bin_client: Client) -> None:
    assert (await bin_client.get("/response-headers?x-version=7")).headers["x-version"] == "7"
    assert (await bin_client.get("/redirect/2")).url.path == "/get"
    assert await (await bin_client.get("/cookies/set?user=me")).json() == {"user": "me"}
    assert len(await (await bin_client.get("/bytes/64")).read()) == 64


async def test_helloworld_says_version_and_instance() -> None:
    async with TestClient(TestServer(helloworld.application("v2", "pod-1"))) as client:
        assert await (await client.get("/hello")).text() == "Hello version: v2, instance: pod-1\n"
        assert (await client.get("/health")).status == 200


@pytest.mark.parametrize(("prefix", "answer"), [("one", b"one hello\n"), ("", b"hello\n")])
async def test_tcp_echo_gives_each_line_back_with_its_prefix(prefix: str, answer: bytes) -> None:
    first, second = await tcp_echo.listen([0, 0], prefix, "127.0.0.1")
    async with first, second:
        reader, writer = await asyncio.open_connection(*first.sockets[0].getsockname())
        writer.write(b"hello\nhello\n")
        assert [await reader.readline(), await reader.readline()] == [answer, answer]
        writer.close()
        await writer.wait_closed()


def test_tcp_echo_wants_ports(capsys: pytest.CaptureFixture[str]) -> None:
    assert tcp_echo.main(["nine"]) == 2
    assert "usage" in capsys.readouterr().err


def used(path: Path) -> set[str]:
    """The images of a file's Deployments."""
    found = [each for each in yaml.safe_load_all(path.read_text()) if each and each["kind"] == "Deployment"]
    return {container["image"] for each in found for container in each["spec"]["template"]["spec"]["containers"]}


@pytest.mark.parametrize("name", ["httpbin/httpbin", "helloworld/helloworld", "tcp-echo/tcp-echo-services", "curl/curl",
                                  "sleep/sleep", "bookinfo/platform/kube/bookinfo"])  # fmt: skip
def test_the_images_of_istios_samples_stand_for_programs_of_ours(name: str) -> None:
    find = images.table("python")
    for image in used(samples.path(f"{name}.yaml")):
        assert find(image) is not None, image
