"""How many connections one address may have that ask for nothing (hostile-input SEC24)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from istiod.grpcserver import frames, server
from istiod.grpcserver.status import Code
from tests.grpcserver.test_server import Connection, Open, closed, plain_head, served
from tests.waiting import until


@contextlib.asynccontextmanager
async def opening() -> AsyncIterator[Open]:
    """Opens connections, and closes them at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def opener(port: int) -> Connection:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.push_async_callback(closed, writer)
            return reader, writer

        yield opener


async def test_one_address_has_a_limit_until_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_UNKNOWN", 3)
    async with served() as (made, port), opening() as opened:
        several = [await opened(port) for _ in range(5)]
        await until(lambda: made.server.connections == 3, "three stay")
        assert [(await reader.read(1)) == b"" for reader, _ in several].count(True) == 2


async def test_connections_without_a_call_are_counted_whatever_they_called_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MAX_UNKNOWN", 3)
    monkeypatch.setattr(server, "RECOUNT", 0.0)
    async with served() as (made, port), opening() as opened:
        for count in range(1, 8):  # faster than the look once a second
            _, writer = await opened(port)
            writer.write(frames.PREFACE + frames.settings({}) + plain_head())
            await until(lambda due=count: len(made.calls) == due, "it calls")
        for call in made.calls[:3]:
            call.stream.finish(Code.OK)
        await until(lambda: made.server._unknown["127.0.0.1"] == 3, "the next look")
        one_more, _ = await opened(port)
        assert await one_more.read(1_000) == b"", "it is closed at once"
        assert made.server.connections == 7, "whoever is in stays"
