"""The service on the wire: who is let in, what the bytes are, how streams end. Clients are grpcio's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Never

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from istiod.ads import auth, server
from istiod.ads.connection import BURST, Settings
from istiod.ads.refusals import NOT_THAT_POD
from istiod.ads.server import AdsService
from istiod.config.resource import Resource, ResourceSet
from istiod.grpcserver.deadlines import Limits
from tests.ads import made
from tests.ads.serving import Running
from tests.waiting import until
from wire import names

NODE = "sidecar~10.0.0.1~app.demo~demo.svc.cluster.local"
DELTA_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
Call = grpc.aio.StreamStreamCall[discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse]


def request(type_url: str = names.CLUSTER, node: str = NODE, **metadata: str) -> discovery_pb2.DeltaDiscoveryRequest:
    asked = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, node=base_pb2.Node(id=node))
    asked.node.metadata.update(metadata)
    return asked


async def refusal(call: Call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await asyncio.wait_for(call.read(), 10)
    return error.value.code(), error.value.details() or ""


@dataclass
class Served:
    server: AdsService
    running: Running
    configuration: made.Fixed

    @property
    def port(self) -> int:
        return self.running.port

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
        address = f"localhost:{self.port}"
        return grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)

    @contextlib.asynccontextmanager
    async def stream(self, credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[Call]:
        async with self.channel(credentials) as channel:
            yield ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    configuration = made.Fixed(made.targets(made.cluster("c1"), made.endpoints("c1", 9001)))
    service = AdsService(configuration, time.monotonic, settings=Settings(first=0.5))
    running = Running(service, limits=Limits(write=0.5))
    yield Served(service, running, configuration)
    await running.stop()


async def test_nobody_is_served_before_the_configuration_was_read(served: Served) -> None:
    served.configuration.ready = False
    async with served.stream() as call:
        assert (await refusal(call))[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_response_on_the_wire_is_what_envoys_api_says(served: Served) -> None:
    async with served.stream() as call:
        await call.write(request())
        response = await call.read()
        assert response.type_url == names.CLUSTER
        assert [(r.name, len(r.version)) for r in response.resources] == [("c1", 16)]
        assert response.resources[0].resource.type_url == names.CLUSTER
        assert response.nonce
        assert response.system_version_info == response.nonce
        assert served.server.status()[0].acked_at is None
        await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER, response_nonce=response.nonce))
        await until(lambda: served.server.status()[0].acked_at is not None, "the ACK was heard")
        (status,) = served.server.status()
        assert (status.proxy.node.name, status.proxy.node.namespace) == ("app", "demo")
        assert status.target == 1
        assert not status.settled
        assert not served.server.converged()


async def test_whom_the_configuration_refuses_is_told_so(served: Served) -> None:
    served.configuration.refuses = "the pod is another's"
    async with served.stream() as call:
        await call.write(request())
        assert await refusal(call) == (grpc.StatusCode.PERMISSION_DENIED, NOT_THAT_POD)
    assert served.server.status() == ()


async def test_who_comes_while_a_mesh_is_built_is_heard_afterwards(served: Served) -> None:
    served.configuration.making = asyncio.Event()
    async with served.stream() as call:
        await call.write(request())
        await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=names.LISTENER))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(reading := asyncio.ensure_future(call.read())), 0.7)
        assert served.server.status() == (), "longer than one may say nothing"
        assert len(served.configuration.early) == 1
        served.configuration.making.set()
        assert (await reading).type_url == names.CLUSTER
        assert (await call.read()).type_url == names.LISTENER


async def test_who_leaves_while_a_mesh_is_built_is_forgotten(served: Served) -> None:
    served.configuration.making = asyncio.Event()
    async with served.stream() as call:
        await call.write(request())
        await until(lambda: bool(served.configuration.early), "it is there")
        await call.write(request())
        call.cancel()
    served.configuration.early.clear()
    async with served.stream() as call:
        await call.write(request())
        await call.done_writing()
        await until(lambda: bool(served.configuration.early), "it is there")
        served.configuration.making.set()
        await call.read()
    await until(lambda: served.configuration.closed == 1, "only who stayed was heard")
    assert len(served.configuration.proxies) == 1
    assert served.server.status() == ()


@pytest.mark.parametrize(("count", "size"), [(2, 600_000), (BURST, 1)], ids=["bytes", "messages"])
async def test_what_is_said_while_a_mesh_is_built_is_bounded(
    served: Served, monkeypatch: pytest.MonkeyPatch, count: int, size: int
) -> None:
    monkeypatch.setattr(server, "MAX_WAITING_BYTES", 1_000_000)
    served.configuration.making = asyncio.Event()
    async with served.stream() as call:
        await call.write(request())
        await until(lambda: bool(served.configuration.early), "it is there")
        more = discovery_pb2.DeltaDiscoveryRequest(type_url=names.LISTENER)
        more.resource_names_subscribe.append("x" * size)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it may be over by then
            for _ in range(count):
                await call.write(more)
        code, details = await refusal(call)
        assert (code, details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too much was said before the first answer")
    assert served.configuration.proxies == []


async def test_who_is_refused_after_a_mesh_was_built_is_told_so(served: Served) -> None:
    served.configuration.making = asyncio.Event()
    served.configuration.refuses = "the pod is another's"
    async with served.stream() as call:
        await call.write(request())
        await until(lambda: bool(served.configuration.early), "it is there")
        served.configuration.making.set()
        assert await refusal(call) == (grpc.StatusCode.PERMISSION_DENIED, NOT_THAT_POD)


async def test_what_was_kept_back_is_sent_when_it_is_no_more_although_nothing_else_happens(served: Served) -> None:
    """Another proxy took it after all, or the record of its refusal was taken away."""
    cluster = made.cluster("c1")
    quarantine = served.server._wiring.shared.quarantine
    quarantine.refuse(cluster, None, "no")
    async with served.stream() as call:
        await call.write(request())
        first = await asyncio.wait_for(call.read(), 5)
        assert not first.resources
        await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER, response_nonce=first.nonce))
        await until(lambda: served.server.status()[0].types[0].acked == first.nonce, "it is ACKed")
        quarantine.release(cluster, "")
        found = await asyncio.wait_for(call.read(), 5)
        assert [one.name for one in found.resources] == ["c1"]


async def test_a_client_that_leaves_is_forgotten(served: Served) -> None:
    async with served.stream() as call:
        await call.write(request())
        await call.read()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    async with served.stream() as call:
        await call.write(request())
        await call.read()
        call.cancel()
    await until(lambda: served.configuration.closed == 2, "both places are given back")
    assert served.server.status() == ()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (
            discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER).SerializeToString(),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (request(node="nobody").SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (request(node="x" * 2000).SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (request(LABELS="x" * 70_000).SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (request("istio.io/debug/syncz").SerializeToString(), grpc.StatusCode.PERMISSION_DENIED),
        (None, grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["no protobuf", "no node", "no id of ours", "huge id", "huge metadata", "no xDS type", "nothing at all"],
)
async def test_a_first_request_that_makes_no_sense_is_refused(
    served: Served, raw: bytes | None, code: grpc.StatusCode
) -> None:
    async with grpc.aio.insecure_channel(f"localhost:{served.port}") as channel:
        call = channel.stream_stream(DELTA_METHOD)()
        if raw is not None:
            await call.write(raw)
        else:
            await call.done_writing()
        assert (await refusal(call))[0] is code


async def test_a_later_request_that_makes_no_sense_ends_the_stream(served: Served) -> None:
    """Row SEC22 of the hostile inputs."""
    async with served.stream() as call:
        await call.write(request())
        await call.read()
        too_many = [f"n{i}" for i in range(20_001)]
        await call.write(
            discovery_pb2.DeltaDiscoveryRequest(type_url=names.ENDPOINT, resource_names_subscribe=too_many)
        )
        assert (await refusal(call))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_stream_without_a_request_is_ended(served: Served) -> None:
    async with served.stream() as call:
        assert (await refusal(call))[0] is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_secrets_are_not_for_those_without_identity(served: Served) -> None:
    """Row SEC10 of the hostile inputs."""
    async with served.stream() as call:
        await call.write(request(names.SECRET))
        await call.write(request(names.CLUSTER))
        assert (await call.read()).type_url == names.CLUSTER
        (status,) = served.server.status()
        assert [t.type_url for t in status.types] == [names.CLUSTER]


async def test_a_client_that_does_not_read_is_cut(served: Served) -> None:
    many = [made.cluster(f"cluster-with-a-long-name-{i:05}") for i in range(20_000)]
    served.configuration.target = made.targets(*many)
    window = [("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0)]
    options = [*window, ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"localhost:{served.port}", options=options) as channel:
        call = channel.stream_stream(DELTA_METHOD)()
        await call.write(request().SerializeToString())
        await until(lambda: len(served.configuration.listeners) == 1, "the stream is there")
        await until(lambda: served.configuration.closed == 1, "the stream is cut")
        assert (await refusal(call))[0] is grpc.StatusCode.UNAVAILABLE


class Counting(dict[str, Resource]):
    """A layer that counts what is looked up in it."""

    looked = 0

    def get(self, name: str, default: Any = None) -> Any:
        self.looked += 1
        return super().get(name, default)


async def test_what_nobody_should_have_any_more_is_looked_for_once_in_each_target(served: Served) -> None:
    """A hostile proxy may refuse a thousand resources, and all proxies' targets are looked through each second."""
    refused = [made.cluster(f"c{turn}") for turn in range(2, 22)]
    layer = Counting({"c1": made.cluster("c1")})
    served.configuration.target = ResourceSet(layers={names.CLUSTER: (layer,)})
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            call = await stack.enter_async_context(served.stream())
            await call.write(request())
            await asyncio.wait_for(call.read(), 5)
        for one in refused:
            served.server._wiring.shared.quarantine.refuse(one, None, "no")
        layer.looked = 0
        assert served.server.rejections() == ()
        assert layer.looked == len(refused)
        listener = served.configuration.listeners[0]
        listener(made.targets(refused[3]), {names.CLUSTER: frozenset({"c1", refused[3].name})})
        assert [each.resource.version for each in served.server.rejections()] == [refused[3].version]
    await until(lambda: served.server.status() == (), "all are gone")
    assert served.server.rejections() == ()


class Faulty(dict[str, Resource]):
    """A layer with a bug."""

    def get(self, *_: object) -> Never:
        raise ZeroDivisionError


async def test_a_bug_in_a_target_ends_the_stream_that_would_be_half_right(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with served.stream() as call:
        await call.write(request())
        await asyncio.wait_for(call.read(), 5)
        (listener,) = served.configuration.listeners
        listener(ResourceSet(layers={names.CLUSTER: (Faulty(),)}), {names.CLUSTER: frozenset({"c1"})})
        assert await refusal(call) == (grpc.StatusCode.INTERNAL, "a fault of the control plane")
    assert "ZeroDivisionError" in caplog.text
    assert served.server.status() == ()


async def test_a_server_that_stops_says_so(served: Served) -> None:
    async with served.stream() as call:
        await call.write(request())
        await call.read()
        await served.running.stop(0.5)
        assert (await refusal(call))[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_timer_sends_what_is_due(served: Served) -> None:
    served.configuration.target = made.targets(made.cluster("c1"), made.listener("l1", 1, "r1"))
    async with served.stream() as call:
        await call.write(request())
        assert (await call.read()).type_url == names.CLUSTER
        served.configuration.set(made.cluster("c2"))
        assert [r.name for r in (await call.read()).resources] == ["c2"], "after two seconds without an ACK"


async def test_state_of_the_world_is_served_beside_delta(served: Served) -> None:
    async with grpc.aio.insecure_channel(f"localhost:{served.port}") as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources()
        await call.write(discovery_pb2.DiscoveryRequest(type_url=names.CLUSTER, node=base_pb2.Node(id=NODE)))
        response = await call.read()
        assert response.version_info == response.nonce
        assert [r.type_url for r in response.resources] == [names.CLUSTER]


@pytest.mark.parametrize("address", ["0.0.0.0:0", "10.1.2.3:15010", "example.com:1", ":15010"])
def test_plaintext_is_for_loopback_only(address: str) -> None:
    """Row SEC10 of the hostile inputs."""
    with pytest.raises(ValueError, match="loopback only"):
        auth.require_loopback(address)


async def test_a_call_ends_when_its_client_said(served: Served) -> None:
    async with served.channel() as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources(timeout=0.5)
        await call.write(request())
        await call.read()
        assert (await refusal(call))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: served.configuration.closed == 1, "its place is given back")


async def test_a_flood_of_requests_ends_its_stream(served: Served) -> None:
    """Row SEC23 of the hostile inputs."""
    async with served.channel() as channel:
        call = channel.stream_stream(DELTA_METHOD)()
        await call.write(request().SerializeToString())
        old = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER, response_nonce="old").SerializeToString()
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it is over in the middle of it
            for _ in range(100_000):  # far fewer are taken
                await call.write(old)
    await until(lambda: served.configuration.closed == 1, "its place is given back")
