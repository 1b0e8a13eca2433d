"""What is left of calls that end in other ways than they should: nothing, also where nobody collects."""

from __future__ import annotations

import gc

import grpc.aio

from istiod.grpcserver.unary import _Call
from tests.grpcserver.test_server import ONE, served
from tests.waiting import until


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
