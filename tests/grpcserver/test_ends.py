"""What is left of calls that end in other ways than they should: nothing, also where nobody collects."""

from __future__ import annotations

import gc

import grpc.aio
import pytest

from istiod.grpcserver import frames
from istiod.grpcserver.unary import _Call
from tests.grpcserver.test_server import ONE, Open, opened, served
from tests.grpcserver.wire import Call, Wire
from tests.waiting import until

__all__ = ["opened"]  # the fixture


async def test_what_a_client_gave_up_leaves_nothing_although_nobody_collects() -> None:
    """Fault FT56: what is cancelled holds the error that ended it, and that holds the call and its connection."""

    def running() -> int:
        return sum(isinstance(each, _Call) for each in gc.get_objects())

    async with served() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        gc.collect()
        gc.disable()
        try:
            call = channel.unary_unary(ONE)(b"wait")
            await until(lambda: running() == 1, "it runs")
            call.cancel()
            await until(lambda: running() == 0, "nothing of it is left")
        finally:
            gc.enable()


class Buggy(Call):
    """Fails at its end."""

    def lost(self) -> None:
        raise ZeroDivisionError


async def test_a_bug_at_the_end_of_a_call_keeps_neither_its_connection_nor_other_calls(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wire()
    async with served() as (made, port):
        _, writer = await opened(port)
        writer.write(b"".join((frames.PREFACE, frames.settings({}), wire.headers(1), wire.headers(3), wire.headers(5))))
        await until(lambda: len(made.calls) == 3, "they run")
        stream = made.calls[1].stream
        stream.receiver = Buggy(stream)
        writer.transport.abort()
        await until(lambda: made.server.connections == 0, "it is gone")
        assert [call.events for call in made.calls] == [["lost"], [], ["lost"]]
    assert "ZeroDivisionError" in caplog.text
