"""A proxy that crashed comes back before its old stream is known to be dead: served at once, nothing left (FT53)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Iterator

import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from istiod.ads import holders
from istiod.ads.connection import Connection
from istiod.ads.server import _Newcomer
from istiod.ads.session import AdsSession
from istiod.grpcserver import connection, http2
from istiod.grpcserver.stream import Stream
from tests.ads.test_server import Call, Served, request, served
from tests.waiting import until
from wire import names

__all__ = ["served"]  # the fixture
AT_ONCE = 1.0
CRASHES = 50
OWN = [("grpc.use_local_subchannel_pool", 1)]  # else a client takes the connection that the one before has lost


async def test_a_second_connection_of_a_node_is_served_at_once_and_the_first_leaves_nothing(served: Served) -> None:
    before = len(asyncio.all_tasks())
    async with served.stream() as silent:
        await silent.write(request())
        await asyncio.wait_for(silent.read(), 5)
        assert len(served.server.status()) == 1
        async with served.stream() as fresh:
            began = time.monotonic()
            await fresh.write(request())
            answer = await asyncio.wait_for(fresh.read(), 5)
            assert isinstance(answer, discovery_pb2.DeltaDiscoveryResponse)
            assert [one.name for one in answer.resources] == ["c1"]
            assert time.monotonic() - began < AT_ONCE
            assert len(served.server.status()) == 2
    await until(lambda: served.server.status() == () and served.server.places == 0, "both are gone")
    await until(lambda: len(asyncio.all_tasks()) <= before, "and so are their tasks")


class Cable:
    """A relay in front of a port that can be pulled: both of its ends see a reset."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: list[asyncio.StreamWriter] = []
        self._copies: set[asyncio.Task[None]] = set()

    async def plug(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, further = await asyncio.open_connection("localhost", self._port)
        self._ends += (writer, further)
        for source, sink in ((reader, further), (there, writer)):
            copy = asyncio.create_task(self._copy(source, sink))
            self._copies.add(copy)
            copy.add_done_callback(self._copies.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)

    async def pull(self) -> None:
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()
        if self._copies:
            await asyncio.wait(self._copies)


async def test_fifty_crashes_of_a_proxy_leave_nothing_behind(served: Served) -> None:
    before = len(asyncio.all_tasks())
    cable = Cable(served.port)
    async with await asyncio.start_server(cable.plug, "localhost", 0) as relay:
        port = relay.sockets[0].getsockname()[1]
        for _ in range(CRASHES):
            async with grpc.aio.insecure_channel(f"localhost:{port}", OWN) as channel:
                call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
                await call.write(request())
                await asyncio.wait_for(call.read(), 5)
                assert len(served.server.status()) > 0
                await cable.pull()
    await until(lambda: served.server.status() == () and served.server.places == 0, "all are gone")
    assert served.configuration.listeners == []
    assert served.configuration.closed == CRASHES
    await until(lambda: len(asyncio.all_tasks()) <= before, "and so are their tasks")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """istiod's comes so seldom that what it has to find stays for hours."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left() -> list[str]:
    """What there is of streams, by type."""
    of_streams = (AdsSession, Connection, _Newcomer, Stream, connection.Connection, http2.Http2Connection)
    return [type(each).__qualname__ for each in gc.get_objects() if isinstance(each, of_streams)]


@pytest.mark.parametrize("type_url", [names.CLUSTER, names.ENDPOINT])
@pytest.mark.usefixtures("no_collector")
async def test_who_went_takes_all_along_although_nobody_collects_or_comes(
    served: Served, monkeypatch: pytest.MonkeyPatch, type_url: str
) -> None:
    """Fault FT56: each holds a whole configuration; endpoints may be used for a while after their proxy went."""
    monkeypatch.setattr(holders, "SILENT", 0.2)
    asked = request(type_url)
    asked.resource_names_subscribe.append("c1")
    cable = Cable(served.port)
    async with await asyncio.start_server(cable.plug, "localhost", 0) as relay:
        port = relay.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(f"localhost:{port}", OWN) as channel:
            call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
            await call.write(asked)
            await asyncio.wait_for(call.read(), 5)
            assert len(left()) == 5
            await cable.pull()
        await until(lambda: not left(), "nothing of it is left", 10)


@contextlib.asynccontextmanager
async def alone(served: Served) -> AsyncIterator[Call]:
    """A stream that takes its connection along."""
    async with grpc.aio.insecure_channel(f"localhost:{served.port}", OWN) as channel:
        yield ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()


@pytest.mark.usefixtures("no_collector")
async def test_who_went_before_its_configuration_was_made_takes_all_along(served: Served) -> None:
    """Fault FT56: what is cancelled holds the error that ended it, and that holds all that was known."""
    served.configuration.making = asyncio.Event()
    async with alone(served) as call:
        await call.write(request())
        await until(lambda: bool(served.configuration.early), "its configuration is being made")
        assert len(left()) == 4
    del call  # it has its connection as long as it is there
    await until(lambda: not left(), "nothing of it is left", 10)
