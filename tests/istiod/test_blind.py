"""A replica that the API server does not answer, and another that it does, over real TLS on loopback (FT47)."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from istiod.ca import authority
from istiod.ca.signer import Signer
from istiod.drain import ages, blind
from istiod.drain.blind import Blind
from istiod.drain.replicas import Proof
from istiod.grpcserver.deadlines import Limits
from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Server
from istiod.grpcserver.stream import Client, Receiver, Stream
from istiod.releases import Releases
from istiod.settings import ClusterSettings
from tests.istiod.test_releases import KEY, World, now
from tests.waiting import until
from wire import spiffe

LIMIT = 40.0
SENT_AWAY = ("the API server: silent here, while it answers another replica",)
HANG = "/test.Hang/Hang"


class _Hangs:
    """A call that runs until somebody ends it, as a stream of xDS."""

    def message(self, raw: bytes) -> None:
        del raw

    def done(self) -> None:
        """It ends with its connection."""

    def drained(self) -> None:
        """It sends nothing."""

    def lost(self) -> None:
        """Nothing is kept."""


def _hang(stream: Stream, request: Request) -> Receiver:
    del stream, request
    return _Hangs()


class Replicas(World):
    """Both, with ages that the test sets, and whether they take proxies."""

    def open(self, name: str) -> None:
        self.age: dict[str, float] = getattr(self, "age", {})
        self.able: dict[str, bool] = getattr(self, "able", {})
        self.age[name], self.able[name] = 0.0, True
        super().open(name)

    def made(self, name: str, releases: Releases) -> Server:
        service = releases.ages(lambda: self.age[name], lambda: self.able[name])
        return Server({**service.methods(), HANG: _hang}, Limits(grace=0.4))

    def stranger(self) -> Proof:
        """What a workload of the mesh could show."""
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(KEY, hashes.SHA256())
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        who = spiffe.parse("spiffe://cluster.local/ns/shop/sa/web")
        *chain, roots = self.ca.sign(pem, who, dt.timedelta(minutes=5), now())
        key = KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Proof(key=key, chain="".join(chain).encode(), roots=roots.encode(), name="istiod.istio-system.svc")

    def connection(self) -> grpc.aio.Channel:
        """One to "me" that is shared with no other channel of this process."""
        options = (
            ("grpc.ssl_target_name_override", "istiod.istio-system.svc"),
            ("grpc.use_local_subchannel_pool", 1),
        )
        credentials = grpc.ssl_channel_credentials(self.ca.roots.encode())
        return grpc.aio.secure_channel(f"127.0.0.1:{self.ports['me']}", credentials, options)

    def peers(self, name: str) -> ages.Peers:
        return Releases(ClusterSettings(pod_name=name), lambda: self.mesh, self.ca, now).peers()


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[Replicas]:
    made = Replicas(tmp_path)
    yield made
    for server in made.servers:
        await server.stop(0)


def me(world: Replicas, lines: list[str], limit: float = LIMIT) -> tuple[Blind, Callable[[], Any]]:
    return Blind(lambda: world.age["me"], limit, time.monotonic, lines.append), world.peers("me").youngest


async def test_proxies_are_sent_away_only_while_another_replica_is_up_to_date(world: Replicas) -> None:
    lines: list[str] = []
    one, youngest = me(world, lines)
    await one.look(youngest)
    assert one.waiting() == ()
    world.age["me"] = LIMIT
    await one.look(youngest)
    assert one.waiting() == SENT_AWAY
    assert [family.samples[0].value for family in one.families()] == [1]
    await one.look(youngest)
    assert lines == ["istiod: the API server, silent here for 40 s, answers another replica: proxies are sent there"]
    world.age["me"] = 0
    await one.look(youngest)
    assert one.waiting() == ()
    assert lines[1:] == ["istiod: ready for proxies again: the API server answers again"]


@pytest.mark.parametrize("why", ["blind", "unable", "gone", "unknown", "never"])
async def test_where_nobody_is_better_off_all_go_on(world: Replicas, why: str) -> None:
    lines: list[str] = []
    one, youngest = me(world, lines, 0 if why == "never" else LIMIT)
    world.age["me"] = LIMIT * 2
    if why != "never":
        await one.look(youngest)
        assert one.waiting() == SENT_AWAY
    if why == "blind":
        world.age["you"] = LIMIT * 0.6  # it was cut off as well, a little later
    elif why == "unable":
        world.able["you"] = False
    elif why == "gone":
        await world.servers.pop().stop(0)
    elif why == "unknown":
        world.know("you")
        assert await youngest() == math.inf
    await one.look(youngest)
    assert one.waiting() == (() if why == "never" else SENT_AWAY)  # one answer may be late
    await one.look(youngest)
    assert one.waiting() == ()
    assert [line.partition(": ")[2] for line in lines[1:]] == (
        []
        if why == "never"
        else ["ready for proxies again: no other replica is up to date, so this one serves what it knows"]
    )


@pytest.mark.parametrize("why", ["expired", "short", "broken"])
async def test_a_replica_that_cannot_ask_is_ready(world: Replicas, why: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its CA has expired, or is one that others do not know, with certificates of a minute, or there is a bug."""
    lines: list[str] = []
    one, youngest = me(world, lines)
    world.age["me"] = LIMIT
    await one.look(youngest)
    assert one.waiting() == SENT_AWAY
    if why == "short":
        lives = authority.Lives(usual=dt.timedelta(minutes=1), longest=dt.timedelta(minutes=1))
        world.ca = Signer(authority.Authority(authority.self_signed("cluster.local", now())), lives)
        youngest = world.peers("me").youngest
    elif why == "expired":
        later = now() + dt.timedelta(days=365 * 20)
        youngest = (
            Releases(ClusterSettings(pod_name="me"), lambda: world.mesh, world.ca, lambda: later).peers().youngest
        )
    else:
        youngest = ages.Peers(lambda: ["127.0.0.2"], _broken).youngest
    for _ in range(blind.LOOKS):
        await one.look(youngest)
    assert one.waiting() == ()
    bugs = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(bugs) == (blind.LOOKS if why == "broken" else 0)


def _broken() -> Proof:
    raise RuntimeError("a bug")


async def test_one_late_answer_changes_nothing_and_ends_no_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind, "PERIOD", 0.0)
    monkeypatch.setattr(blind, "NOTICE", 1.0)
    told = iter((0.0, 0.0, math.inf, 0.0, math.inf, math.inf, 0.0))
    time_, lines, seen = iter(range(100)), list[str](), list[tuple[bool, bool]]()
    over = asyncio.Event()

    class Streams:
        """Whoever has streams: none, and it notes when it is to end some."""

        def clients(self) -> tuple[Client, ...]:
            return ()

        def hasten(self, stale: Callable[[Client], bool], within: float) -> None:
            del stale, within
            seen[-1] = (seen[-1][0], True)

    one = Blind(lambda: LIMIT, LIMIT, lambda: float(next(time_)), lines.append)

    async def youngest() -> float:
        seen.append((bool(one.waiting()), False))
        if (said := next(told, None)) is None:
            over.set()
            await asyncio.Event().wait()
        return said or 0.0

    task = asyncio.create_task(one.run(youngest, Streams()))
    async with asyncio.timeout(30):
        await over.wait()
    task.cancel()
    # What was so before each look, and whether streams ended after it
    assert seen == [
        *((False, True), (True, True), (True, False), (True, True), (True, False), (True, False), (False, True)),
        (True, False),
    ]
    assert len(lines) == 3


async def test_only_replicas_may_ask(world: Replicas) -> None:
    async with world.client().channel() as (channel, metadata):
        ask: Any = channel.unary_unary(ages.METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ask(b"", metadata=metadata, timeout=10)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    asked = ages.Peers(lambda: [f"127.0.0.2:{world.ports['you']}"], world.stranger)
    assert await asked.youngest() == math.inf


async def test_streams_end_one_after_the_other_while_and_only_while_proxies_are_sent_away(
    world: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blind, "PERIOD", 0.05)
    monkeypatch.setattr(blind, "NOTICE", 0.0)
    lines: list[str] = []
    one, youngest = me(world, lines)
    server = world.servers[0]
    task = asyncio.create_task(one.run(youngest, server))
    channels = [world.connection() for _ in range(12)]
    calls: list[Any] = [channel.stream_stream(HANG)() for channel in channels]
    try:
        for call in calls:
            await call.write(b"")
        await until(lambda: len(server.clients()) == len(calls), "all are there")
        world.age["me"], world.age["you"] = LIMIT * 2, LIMIT * 2
        await asyncio.sleep(0.3)  # several periods in which nothing may happen
        assert len(server.clients()) == len(calls)
        world.age["you"] = 0
        await until(lambda: 0 < len(server.clients()) < len(calls), "some are sent away, others are still there")
        await until(lambda: not server.clients(), "all are sent away")
        assert {await call.code() for call in calls} == {grpc.StatusCode.UNAVAILABLE}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for each in channels:
            await each.close()
