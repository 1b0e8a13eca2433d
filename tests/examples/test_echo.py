from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from examples import echo
from tests.story import client


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server on loopback."""
    (server,) = await echo.listen([0], "v1", "127.0.0.1")
    async with server:
        yield server.sockets[0].getsockname()[1]
    # Clients are gone; the server sees it in its next steps
    while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 (no event says so)
        await asyncio.sleep(0)


@pytest.mark.parametrize("keep", [True, False])
async def test_one_port_speaks_http_of_two_versions_and_echoes_the_rest(port: int, keep: bool) -> None:  # noqa: FBT001 (an axis)
    for make in (client.http1, client.http2, client.tcp):
        kept = client.Kept("127.0.0.1", port)
        ask = make(kept, keep=keep)
        assert [await ask() for _ in range(3)] == ["", "", ""]
        kept.close()


async def test_grpc_calls_give_a_message_as_often_as_they_say(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "STREAM", (3, 0.01))
    kept = client.Channel("127.0.0.1", port)
    assert await client.unary(kept)() == ""
    assert await client.stream(kept)() == ""
    await kept.close()
    assert await client.fresh("127.0.0.1", port)() == ""


async def test_a_client_that_says_it_is_the_last_request_gets_the_end(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(b"HEAD / HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert b"connection: close" in await reader.read()


async def test_the_client_tells_of_a_server_that_is_gone() -> None:
    (server,) = await echo.listen([0], "v1", "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    server.close()
    assert "refused" in (await client.http1(client.Kept("127.0.0.1", port), keep=True)()).lower()
    assert "UNAVAILABLE" in await client.fresh("127.0.0.1", port)()
