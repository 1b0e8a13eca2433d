"""Clients that do not read, read slowly, or never answer: they cost the others nothing (faults FT14 to FT16)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc

from istiod.ads.server import AdsService
from istiod.config.resource import Resource
from istiod.grpcserver.deadlines import Limits
from tests.ads import made, stingy
from tests.ads.serving import running
from tests.ads.test_server import Call, request
from tests.waiting import until
from wire import names

STUCK = pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.long)])


def clusters(count: int, timeout: float = 1.0) -> list[Resource]:
    return [
        made.cluster(f"outbound|9080||service-{i:05}.demo.svc.cluster.local", timeout=timeout) for i in range(count)
    ]


@contextlib.asynccontextmanager
async def serving(configuration: made.Fixed, write: float) -> AsyncIterator[tuple[AdsService, int]]:
    async with running(AdsService(configuration, time.monotonic), Limits(write=write)) as found:
        yield found.service, found.port


async def ack_all(call: Call, got: list[str]) -> None:
    """Read and ACK for ever."""
    await call.write(request())
    while True:
        response = await call.read()
        if response is grpc.aio.EOF:
            return
        got.append(response.type_url)
        answer = request(response.type_url)
        answer.response_nonce = response.nonce
        await call.write(answer)


@STUCK
async def test_clients_that_answer_pings_and_never_read_are_cut_and_leave_nothing(count: int) -> None:
    """Row SEC28 of the hostile inputs: here after a second, else after 20."""
    assert Limits().write <= 20
    configuration = made.Fixed(made.targets(*clusters(2_000)))
    async with serving(configuration, write=1.0) as (server, port):
        before = len(asyncio.all_tasks())
        async with stingy.clients(port, count) as stuck:
            await until(lambda: len(configuration.proxies) == count, "all are served")
            async with asyncio.timeout(20):
                for client in stuck:
                    await client.lost.wait()
            await until(lambda: len(asyncio.all_tasks()) == before, "every task of theirs has ended")
            assert not configuration.listeners
            assert server.status() == ()
            assert all(client.taken == 0 for client in stuck)


@STUCK
async def test_stuck_clients_cost_the_others_no_response(count: int) -> None:
    configuration = made.Fixed(made.targets(*clusters(500)))
    async with serving(configuration, write=60.0) as (_, port):
        got = await followed(configuration, port)
        async with stingy.clients(port, count):
            await until(lambda: len(configuration.listeners) == count, "all are served")
            assert await followed(configuration, port) == got


async def followed(configuration: made.Fixed, port: int) -> list[str]:
    """What a client gets over ten changes, each made when it has ACKed the one before."""
    got: list[str] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        reader = asyncio.create_task(ack_all(call, got))
        for change in range(1, 11):
            await until(lambda due=change: len(got) == due, "the change has come")
            configuration.set(*clusters(500, timeout=1.0 + change))
        await until(lambda: len(got) == 11, "the last change has come")
        reader.cancel()
    return got


async def test_a_slow_client_is_not_cut_and_gets_only_the_newest() -> None:
    configuration = made.Fixed(made.targets(*clusters(200)))
    async with serving(configuration, write=1.0) as (server, port), stingy.clients(port, 1) as (slow,):
        await until(lambda: len(configuration.listeners) == 1, "it is served")
        started = time.monotonic()
        while not slow.messages():
            assert not slow.lost.is_set(), f"cut after {slow.taken} bytes"
            slow.take(2_000)
            configuration.set(*clusters(200, timeout=2.0 + time.monotonic() - started))
            await asyncio.sleep(0.1)  # its speed
        assert time.monotonic() > started + 1.5, "slower than the deadline"
        (first,) = slow.messages()
        slow.say(request(names.CLUSTER))
        slow.take(1 << 20)
        await until(lambda: len(slow.messages()) == 2, "one more response, however many changes there were")
        newest = {r.name: r.version for r in configuration.target.of(names.CLUSTER)}
        assert {r.name: r.version for r in slow.messages()[1].resources} == newest
        assert first.nonce != slow.messages()[1].nonce
        assert len(server.status()) == 1


async def test_a_client_that_never_answers_gets_one_response_of_a_type_but_for_clusters_that_may_repair_it() -> None:
    configuration = made.Fixed(made.targets(*clusters(5), made.endpoints("e", 1), made.listener("l", 1, "r")))
    async with serving(configuration, write=5.0) as (server, port), stingy.clients(port, 1) as (silent,):
        silent.take(1 << 20)
        asked = request(names.ENDPOINT)
        asked.resource_names_subscribe.append("e")
        silent.say(asked)
        silent.say(request(names.LISTENER))
        await until(lambda: len(silent.messages()) == 2, "clusters and endpoints")
        for change in range(20):
            configuration.set(*clusters(5, timeout=2.0 + change), made.endpoints("e", 2 + change))
            await asyncio.sleep(0.01)  # changes in a row
        await until(lambda: len(silent.messages()) == 3, "clusters once more after two seconds")
        assert [m.type_url for m in silent.messages()] == [names.CLUSTER, names.ENDPOINT, names.CLUSTER]
        assert not server.converged()
