"""How many streams one identity gets (hostile-input SEC24), over real TLS with grpcio's clients.

The last test opens thousands of them, while others ask to be served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from bench import processes
from istiod.ads.auth import Authenticator
from istiod.ads.connection import Settings
from istiod.ads.quota import StreamLimits
from istiod.ads.server import AdsService
from istiod.grpcserver import tls
from tests import figures
from tests.ads import made
from tests.ads.serving import Running
from tests.ads.test_identity import Authority, Verifier, another_authority
from tests.ads.test_server import DELTA_METHOD, Call, Served, refusal, request
from tests.waiting import until

APP = "spiffe://cluster.local/ns/demo/sa/app"
OTHER = "spiffe://cluster.local/ns/demo/sa/other"
LIMITS = StreamLimits()
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def authority() -> Authority:
    return another_authority()


@contextlib.asynccontextmanager
async def serving(authority: Authority, *pods: str, settings: Settings | None = None) -> AsyncIterator[Served]:
    """A service whose mesh knows these pods."""
    key, chain = authority.issue(dns="localhost")
    context = tls.context(key, chain, authority.roots)
    fixed = made.Fixed(made.targets(made.cluster("c1")))
    fixed.pods = set(pods)
    service = AdsService(fixed, time.monotonic, authenticator=Authenticator(), settings=settings)
    running = Running(service, context=lambda: context, verifier=Verifier())
    yield Served(service, running, fixed)
    await running.stop()
    assert service.places == 0, "no stream is left, and no place is held"


class Fleet:
    """Clients of one service: each stream has a connection of its own, as proxies have."""

    def __init__(self, served: Served, authority: Authority) -> None:
        self._served = served
        self._authority = authority
        self._credentials: dict[str, grpc.ChannelCredentials] = {}
        self.channels = contextlib.AsyncExitStack()

    async def open(self, uri: str = APP) -> Call:
        if uri not in self._credentials:
            self._credentials[uri] = self._authority.client(uri)
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"localhost:{self._served.port}"
        channel = grpc.aio.secure_channel(address, self._credentials[uri], options=options)
        await self.channels.enter_async_context(channel)
        return ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()

    async def ask(self, pod: str, uri: str = APP) -> Call:
        call = await self.open(uri)
        await call.write(request(node=f"sidecar~10.0.0.1~{pod}.demo~demo.svc.cluster.local"))
        return call

    async def served(self, pod: str, uri: str = APP) -> Call:
        call = await self.ask(pod, uri)
        response = await asyncio.wait_for(call.read(), 20)
        assert isinstance(response, discovery_pb2.DeltaDiscoveryResponse)
        return call

    async def refused(self, pod: str, uri: str = APP) -> str:
        code, details = await refusal(await self.ask(pod, uri))
        assert code is EXHAUSTED
        return details


@contextlib.asynccontextmanager
async def fleet(served: Served, authority: Authority) -> AsyncIterator[Fleet]:
    found = Fleet(served, authority)
    async with found.channels:
        yield found


async def test_a_pod_of_the_mesh_has_four_streams_and_its_neighbours_have_theirs(authority: Authority) -> None:
    async with serving(authority, "a", "b") as served, fleet(served, authority) as clients:
        for _ in range(LIMITS.per_pod):
            await clients.served("a")
        assert await clients.refused("a") == f"demo/a of {APP}: 4 streams are open, more are not served"
        await clients.served("b")
        await clients.served("a", OTHER)
        assert len(served.server.status()) == LIMITS.per_pod + 2


async def test_all_pods_of_a_large_deployment_are_served(authority: Authority) -> None:
    pods = [f"p{i}" for i in range(3 * LIMITS.per_identity)]
    async with serving(authority, *pods) as served, fleet(served, authority) as clients:
        for pod in pods:
            await clients.served(pod)
        await clients.served("unknown")


async def test_an_identity_has_sixteen_streams_of_pods_that_nobody_knows(authority: Authority) -> None:
    async with serving(authority, "known") as served, fleet(served, authority) as clients:
        for number in range(LIMITS.per_identity):
            await clients.served(f"p{number}")
        assert await clients.refused("p99") == f"{APP}: 16 streams are open, more are not served"
        await clients.served("known")
        await clients.served("p99", OTHER)


async def test_without_the_limit_there_is_none_but_that_of_pods(authority: Authority) -> None:
    settings = Settings(streams=StreamLimits(per_identity=0))
    async with serving(authority, settings=settings) as served, fleet(served, authority) as clients:
        for number in range(LIMITS.per_identity + 4):
            await clients.served(f"p{number // LIMITS.per_pod}")
        await clients.refused("p0")


async def half_closed(call: Call) -> None:
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def cancelled(call: Call) -> None:
    call.cancel()


async def malformed(call: Call) -> None:
    await call.write(request("no/type"))
    assert (await refusal(call))[0] is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("end", [half_closed, cancelled, malformed])
async def test_a_place_is_given_back_when_its_stream_ends(authority: Authority, end: Callable[[Call], object]) -> None:
    async with serving(authority, "a") as served, fleet(served, authority) as clients:
        calls = [await clients.served("a") for _ in range(LIMITS.per_pod)]
        before = served.server.places
        for call in calls:
            ended = end(call)
            assert asyncio.iscoroutine(ended)
            await ended
            await until(lambda: served.server.places == before - 1, "its place is free")
            await clients.served("a")
            await clients.refused("a")
            assert served.server.places == before


async def test_places_are_given_back_when_connections_break_or_the_time_is_over(authority: Authority) -> None:
    async with serving(authority, "a") as served:
        async with fleet(served, authority) as clients:
            for _ in range(LIMITS.per_pod):
                await clients.served("a")
            for connection in list(served.running.server._connections):
                connection.cut("")
            await until(lambda: served.server.places == 0, "nothing is left")
        async with fleet(served, authority) as clients, served.channel(authority.client(APP)) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            for _ in range(LIMITS.per_pod):
                call = stub.DeltaAggregatedResources(timeout=1)
                await call.write(request(node="sidecar~10.0.0.1~a.demo~demo.svc.cluster.local"))
            await until(lambda: served.server.places == LIMITS.per_pod, "all are there")
            await until(lambda: served.server.places == 0, "nothing is left")
            await clients.served("a")


async def test_a_proxy_that_is_refused_for_another_reason_holds_no_place(authority: Authority) -> None:
    async with serving(authority, "a") as served, fleet(served, authority) as clients:
        served.configuration.refuses = "no such pod"
        for _ in range(LIMITS.per_identity + 1):
            assert (await refusal(await clients.ask("a")))[0] is grpc.StatusCode.PERMISSION_DENIED
        assert served.server.places == 0


async def test_streams_that_say_nothing_are_counted_until_their_time_is_over(authority: Authority) -> None:
    async with serving(authority, "a", settings=Settings(first=3.0)) as served, fleet(served, authority) as clients:
        silent = [await clients.open() for _ in range(LIMITS.per_identity)]
        await until(lambda: served.server.places == LIMITS.per_identity, "all are there")
        details = f"{APP} from 127.0.0.1 without a request: 16 streams are open, more are not served"
        assert await refusal(await clients.open()) == (EXHAUSTED, details)
        await clients.served("a", OTHER)
        for call in silent:
            assert (await refusal(call))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        await clients.served("a")


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("good", EXHAUSTED),
        ("forged", grpc.StatusCode.UNAUTHENTICATED),
        ("broken", grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_streams_whose_tokens_are_judged_leave_no_place_behind(
    authority: Authority, token: str, code: grpc.StatusCode
) -> None:
    async with serving(authority, "app") as served:
        async with served.channel(grpc.ssl_channel_credentials(authority.roots)) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            for number in range(LIMITS.per_identity + 2):
                call = stub.DeltaAggregatedResources(metadata=(("authorization", f"Bearer {token}"),))
                if code is EXHAUSTED:
                    await call.write(request())
                if code is EXHAUSTED and number < LIMITS.per_pod:
                    await asyncio.wait_for(call.read(), 20)
                else:
                    assert (await refusal(call))[0] is code
        await until(lambda: served.server.places == 0, "nothing is left")


def acknowledged(response: discovery_pb2.DeltaDiscoveryResponse) -> discovery_pb2.DeltaDiscoveryRequest:
    return discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)


class Flood:
    """Ten connections of one identity, each with 32 streams at a time, again and again; each asks as another pod."""

    def __init__(self, served: Served, credentials: grpc.ChannelCredentials) -> None:
        self._served = served
        self._credentials = credentials
        self.most = 0
        self.refused = 0

    async def run(self, number: int, turns: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"localhost:{self._served.port}"
        async with grpc.aio.secure_channel(address, self._credentials, options=options) as channel:
            for turn in range(turns):
                await self._turn(channel, f"p{number}-{turn}")

    async def _turn(self, channel: grpc.aio.Channel, name: str) -> None:
        calls = [channel.stream_stream(DELTA_METHOD)() for _ in range(STREAMS)]
        for place, call in enumerate(calls):
            said = request(node=f"sidecar~10.0.0.1~{name}-{place}.demo~demo.svc.cluster.local")
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(said.SerializeToString())
        for call in calls:
            try:
                await call.read()
            except grpc.aio.AioRpcError:  # grpcio says INTERNAL of one that ended before it could write
                self.refused += 1
            self.most = max(self.most, len(self._served.server.status()) - 1)


CONNECTIONS, STREAMS = 10, 32


@pytest.mark.parametrize("turns", [1, pytest.param(31, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_thousands_of_streams_of_one_identity_cost_the_others_nothing(authority: Authority, turns: int) -> None:
    settings = Settings(first=60.0)
    async with serving(authority, "victim", settings=settings) as served, fleet(served, authority) as clients:
        victim = await clients.ask("victim", OTHER)
        await victim.write(acknowledged(await victim.read()))
        before, flood = processes.rss(os.getpid()), Flood(served, authority.client(APP))
        async with asyncio.TaskGroup() as tasks:
            for number in range(CONNECTIONS):
                tasks.create_task(flood.run(number, turns))
            for timeout in range(10):
                served.configuration.set(made.cluster("c1", timeout=2.0 + timeout))
                response = await asyncio.wait_for(victim.read(), 20)
                await victim.write(acknowledged(response))
        assert 0 < flood.most <= LIMITS.per_identity
        opened = turns * CONNECTIONS * STREAMS
        least = turns * CONNECTIONS * (STREAMS - LIMITS.per_identity)  # those of a connection end together
        assert flood.refused >= least, "who leaves makes room for another"
        grown = processes.rss(os.getpid()) - before
        figures.say(f"{opened} streams: at most {flood.most} open, {flood.refused} refused, RSS +{grown:.0f} MB")
        assert grown < 100
