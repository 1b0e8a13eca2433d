"""Who is served before whom, counted in responses: who has its configuration never waits for those who do not."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from istiod.ads import connection, refusals
from istiod.ads.refusals import Refusals
from istiod.ads.server import SERVICE, AdsService
from istiod.ads.session import AdsSession
from istiod.config import resource
from istiod.config.protocols import RefusedError
from istiod.config.resource import Resource
from istiod.grpcserver.request import Request
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client, Stream
from istiod.grpcserver.turns import SLICE
from tests.ads import made
from tests.ads.test_server import request
from tests.waiting import until
from wire import names

PATH = f"/{SERVICE}/DeltaAggregatedResources"
NEWCOMERS = 20


class Line:
    """Connections without sockets: ``said`` has who was sent something, in order; ``nonces`` what is to be answered."""

    def __init__(self, service: AdsService) -> None:
        self.client = Client(address="127.0.0.1:1")
        self.said: list[int] = []
        self.nonces: dict[Stream, list[tuple[str, str]]] = {}
        self._open: Callable[[Stream, Request], object] = service.methods()[PATH]

    def send(self, stream: Stream, parts: tuple[bytes, ...]) -> None:
        self.said.append(stream.id)
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(b"".join(parts))
        self.nonces.setdefault(stream, []).append((response.type_url, response.nonce))

    def finish(self, stream: Stream, code: Code, details: str) -> None:
        raise AssertionError(f"stream {stream.id} ends: {code.name} {details}")

    def accept(self, stream: Stream) -> None:
        """There are no windows here."""

    def begin(self, number: int) -> Stream:
        """A stream that has said what it wants first."""
        stream = Stream(number, self, Request(path=PATH, metadata=()), 0)
        stream.receiver = self._open(stream, stream.request)  # type: ignore[assignment]  # what a Method gives
        self.hear(stream, names.CLUSTER)
        return stream

    def hear(self, stream: Stream, type_url: str, nonce: str = "", error: str = "", name: str = "") -> None:
        said = request(type_url)
        said.resource_names_subscribe.extend([name] if name else [])
        said.response_nonce = nonce
        if error:
            said.error_detail.message = error
        stream.receiver.message(said.SerializeToString())

    async def answer(self, stream: Stream, error: str = "") -> None:
        """Answer whatever comes, until nothing more does."""
        await self.rounds(5)
        while told := self.nonces.pop(stream, []):
            for type_url, nonce in told:
                self.hear(stream, type_url, nonce, error)
            await self.rounds(5)

    async def rounds(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)


def of_slices() -> Callable[[], float]:
    """A clock by which each look takes a whole slice: one newcomer has its turn in a round."""
    moments = itertools.count(step=SLICE)
    return lambda: next(moments)


async def settled(line: Line) -> Stream:
    """A stream that has acknowledged all there is."""
    stream = line.begin(1)
    await line.answer(stream)
    line.hear(stream, names.LISTENER)
    await line.answer(stream)
    line.said.clear()
    return stream


async def test_a_change_comes_before_all_those_who_have_nothing_yet() -> None:
    configuration = made.Fixed(made.targets(made.cluster("c")))
    service = AdsService(configuration, of_slices())
    line = Line(service)
    await settled(line)
    assert service.converged()
    for number in range(NEWCOMERS):
        line.begin(3 + 2 * number)
    configuration.set(made.cluster("c", timeout=2.0))
    await until(lambda: len(set(line.said)) == NEWCOMERS + 1, "all have their turn")
    assert line.said.index(1) <= 1, "one of the others at most has its turn before"


async def test_who_refuses_a_listener_is_a_proxy_as_any_other() -> None:
    """One bad listener, refused by all of a new istiod's proxies, must not make newcomers of them for ever."""
    configuration = made.Fixed(made.targets(made.cluster("c"), made.listener("l", 1, "r")))
    line = Line(AdsService(configuration, of_slices()))
    stream = line.begin(1)
    await line.answer(stream)
    line.hear(stream, names.LISTENER)
    await line.answer(stream, "no such listener")
    line.said.clear()
    for number in range(NEWCOMERS):
        line.begin(3 + 2 * number)
    configuration.set(made.cluster("c", timeout=2.0), made.listener("l", 1, "r"))
    await line.rounds(3 * NEWCOMERS)
    assert line.said.index(1) <= 1


class Narrow(Line):
    """One on which nothing leaves before there is ``room``."""

    full = False

    def send(self, stream: Stream, parts: tuple[bytes, ...]) -> None:
        super().send(stream, parts)
        if self.full:
            stream.parts.append(memoryview(b"".join(parts)))

    def room(self, stream: Stream) -> None:
        self.full = False
        stream.parts.clear()
        stream.receiver.drained()


async def test_what_happens_while_a_response_waits_for_room_waits_for_no_ack() -> None:
    """A cluster may warm, and hold back all ACKs of clusters, until just these endpoints come."""

    def table(text: bytes) -> Resource:
        return resource.make("name-table", names.NAME_TABLE, text)

    rest = (made.cluster("c"), made.listener("l", 1, "r"))
    configuration = made.Fixed(made.targets(*rest, made.endpoints("c", 1), table(b"a")))
    line = Narrow(AdsService(configuration, of_slices()))
    stream = await settled(line)
    line.hear(stream, names.ENDPOINT, name="c")
    line.hear(stream, names.NAME_TABLE)
    await line.answer(stream)
    line.full = True
    rest = (made.cluster("c"), made.listener("l", 2, "r"))
    configuration.set(*rest, made.endpoints("c", 1), table(b"b"))
    await line.rounds(5)
    configuration.set(*rest, made.endpoints("c", 2), table(b"b"))
    await line.rounds(5)
    line.room(stream)
    await line.rounds(5)
    sent = [type_url for type_url, _ in line.nonces[stream]]
    assert sent == [names.NAME_TABLE, names.LISTENER, names.ENDPOINT]


async def test_answers_to_nothing_cost_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row SEC23: an endless mismatch of nonces, of a client that refuses what it is given."""
    configuration = made.Fixed(made.targets(made.cluster("c")))
    line = Line(AdsService(configuration, of_slices()))
    stream = await settled(line)
    configuration.set(made.cluster("c", timeout=2.0))
    await line.answer(stream, "not this")
    planned: list[float] = []
    plan = AdsSession.plan
    monkeypatch.setattr(AdsSession, "plan", lambda of, now: (planned.append(now), plan(of, now))[1])
    for number in range(50):
        line.hear(stream, names.CLUSTER, f"none-{number}", "not this")
        await line.rounds(3)
    assert not planned
    configuration.set(made.cluster("c", timeout=3.0))
    await line.rounds(3)
    assert planned


async def test_a_flood_of_requests_is_more_than_a_stream_has() -> None:
    """Row SEC23: the first some thousand of a second are taken, then none."""
    line = Line(AdsService(made.Fixed(made.targets(made.cluster("c"))), lambda: 100.0))
    stream = line.begin(1)
    for _ in range(connection.BURST - 10):
        line.hear(stream, names.CLUSTER, "old")
    with pytest.raises(RpcError) as refusal:
        deque((line.hear(stream, names.CLUSTER, "old") for _ in range(20)), maxlen=0)
    assert refusal.value.code is Code.RESOURCE_EXHAUSTED


def test_refusals_in_a_flood_are_a_few_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    told = Refusals(lambda: now)
    stream = Stream(1, Line(AdsService(made.Fixed(), lambda: now)), Request(path=PATH, metadata=()), 0)
    with caplog.at_level(logging.WARNING):
        codes = {told.told(stream, RefusedError("no such pod")).code for _ in range(1_000)}
        assert len(caplog.records) == refusals.LINES
        now += 1 / refusals.RATE
        told.told(stream, RefusedError("no such pod"))
    assert codes == {Code.PERMISSION_DENIED}
    assert told.told(stream, RefusedError("no such pod")).details == refusals.NOT_THAT_POD
    assert caplog.messages[-1].endswith("no such pod (950 more were refused since the last line)")
