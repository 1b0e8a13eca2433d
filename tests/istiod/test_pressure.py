"""What is done when memory or CPU become short: who is new is sent elsewhere, who is there is served (FT44, FT45)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc

from bench import identities, processes, world
from bench.folder import Folder
from bench.processes import Istiod
from istiod import pressure
from istiod.ads.server import AdsService
from istiod.pressure import Pressure
from tests import figures
from tests.ads import made
from tests.ads.serving import running
from tests.ads.test_server import refusal, request
from tests.istiod.crowd import Member
from tests.istiod.test_reconnects import Crowd
from tests.waiting import until
from wire import names

V1, V2 = "4:memory:/kubepods/a\n3:cpu:/\n0::/\n", "0::/kubepods/a\n"


@dataclass
class Meter:
    """Memory as a test says."""

    limit: int = 1_000
    now: int = 0
    looks: int = 0

    def used(self) -> int:
        self.looks += 1
        if self.now < 0:
            raise OSError("gone")
        return self.now


def written(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_the_limit_is_that_of_the_nearest_control_group(tmp_path: Path) -> None:
    own, tree = tmp_path / "own", tmp_path / "tree"
    own.write_text(V2)
    assert pressure.meter(0, own, tree) is None
    stat = {"memory__stat": "anon 5\ninactive_file 30\n"}
    written(tree / "kubepods", memory__max="4000", memory__current="700", **stat)
    written(tree / "kubepods" / "a", memory__max="max", memory__current="500", **stat)
    above = pressure.meter(0, own, tree)
    assert above is not None
    assert (above.limit, above.used()) == (4_000, 670)
    written(tree / "kubepods" / "a", memory__max="1000\n")
    found = pressure.meter(0, own, tree)
    assert found is not None
    assert (found.limit, found.used()) == (1_000, 470)


def test_groups_of_version_1_and_what_a_container_sees_of_them(tmp_path: Path) -> None:
    own, tree = tmp_path / "own", tmp_path / "tree"
    own.write_text(V1)
    files = {"memory__usage_in_bytes": "500", "memory__stat": "inactive_file 1\ntotal_inactive_file 40\n"}
    written(tree / "memory", memory__limit_in_bytes="9223372036854771712", **files)
    assert pressure.meter(0, own, tree) is None
    written(tree / "memory", memory__limit_in_bytes="1000")  # its own group stands at the top in a container
    found = pressure.meter(0, own, tree)
    assert found is not None
    assert (found.limit, found.used()) == (1_000, 460)
    assert pressure.meter(0, tmp_path / "none", tree) is None


def test_a_limit_that_is_named_holds_for_this_process() -> None:
    found = pressure.meter(1 << 30)
    assert found is not None
    assert found.limit == 1 << 30
    assert 1 << 20 < found.used() < 1 << 40


def test_streams_are_refused_above_one_mark_until_memory_is_below_another() -> None:
    moments = itertools.count(step=1.0)
    meter = Meter()
    marks = Pressure(meter, lambda: next(moments))
    found = []
    for meter.now in (0, 849, 850, 810, 799, 820, 900):
        found.append(bool(marks.refusal()))
    assert found == [False, False, True, True, False, False, True]
    meter.now = -1  # it cannot be measured: what was found last holds
    assert marks.refusal()
    text = {family.name: next(iter(family.samples)).value for family in marks.families()}
    assert text == {"pilot_memory_limit_bytes": 1_000, "pilot_memory_used_bytes": 900, "pilot_xds_shed_total": 4}


def test_many_that_come_at_once_share_a_look() -> None:
    meter = Meter(now=900)
    marks = Pressure(meter, lambda: 5.0)
    assert all(marks.refusal() for _ in range(100))
    assert (meter.looks, marks.shed) == (1, 100)


def test_without_a_limit_there_is_no_pressure() -> None:
    marks = Pressure(None, lambda: 0.0)
    assert not marks.refusal()
    assert not marks.look()
    assert [next(iter(family.samples)).value for family in marks.families()] == [0, 0, 0]


async def test_memory_that_stays_spent_ends_the_process_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "PERIOD", 0.0)
    moments = itertools.count(step=1.0)
    meter = Meter(now=980)
    marks = Pressure(meter, lambda: next(moments))
    assert not marks.look()
    meter.now = 900
    assert not marks.look()
    meter.now = 980
    stopped = asyncio.Event()
    watching = asyncio.create_task(marks.watch(stopped.set))
    await asyncio.wait_for(stopped.wait(), 10)
    assert meter.looks >= pressure.PATIENCE
    watching.cancel()


async def test_who_is_new_is_told_to_go_elsewhere_and_who_is_there_is_served() -> None:
    full = ""
    configuration = made.Fixed(made.targets(made.cluster("c")))
    async with running(AdsService(configuration, time.monotonic, full=lambda: full)) as found:
        address = f"localhost:{found.port}"
        async with grpc.aio.insecure_channel(address) as old, grpc.aio.insecure_channel(address) as new:
            there = ads_pb2_grpc.AggregatedDiscoveryServiceStub(old).DeltaAggregatedResources()
            await there.write(request())
            assert (await there.read()).type_url == names.CLUSTER
            full = "short of memory"
            for _ in range(2):  # the second over another connection: the first was told to go
                call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(new).DeltaAggregatedResources()
                assert await refusal(call) == (grpc.StatusCode.UNAVAILABLE, full)
            answer = request()
            answer.response_nonce = "1"
            await there.write(answer)
            configuration.set(made.cluster("c", timeout=2.0))
            assert (await there.read()).type_url == names.CLUSTER
            full = ""
            call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(new).DeltaAggregatedResources()
            await call.write(request())
            assert (await call.read()).type_url == names.CLUSTER


@contextlib.contextmanager
def group(controller: str, **files: str) -> Iterator[Path]:
    """A control group of version 1 of this test, below our own."""
    own = next(
        line.split(":", 2)[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if f":{controller}:" in line
    )
    folder = Path("/sys/fs/cgroup") / controller / own.strip("/") / f"istiod-{os.getpid()}"
    try:
        folder.mkdir()
        for name, value in files.items():
            (folder / f"{controller}.{name}").write_text(value)
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def within(folder: Path) -> tuple[str, str]:
    """Python's arguments to run istiod in a group from its start."""
    enter = f"open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
    return (
        "-c",
        f"import os, runpy, sys; {enter}; sys.argv[0] = 'istiod'; runpy.run_module('istiod', run_name='__main__')",
    )


@contextlib.asynccontextmanager
async def limited(home: Path, size: world.Size, folder: Path) -> AsyncIterator[tuple[Istiod, Crowd, Folder]]:
    identities.write(home, {(said["ns"], said["sa"]) for said in world.nodes(size)})
    config = Folder(home / "config")
    config.fill(size)
    istiod = Istiod(home, config.flags(home), within(folder))
    crowd = Crowd(home, size)
    try:
        await asyncio.to_thread(istiod.wait)
        yield istiod, crowd, config
    finally:
        await crowd.leave()
        processes.stop(istiod.process)


def metric(istiod: Istiod, name: str) -> float:
    with urllib.request.urlopen(istiod.ready_url.replace("ready", "metrics"), timeout=60) as answer:  # noqa: S310 (ours)
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def complete(crowd: Crowd) -> list[Member]:
    return [each for each in crowd.members if each.complete.is_set()]


async def enter(crowd: Crowd, port: int, members: Sequence[Member]) -> None:
    crowd._stays += [asyncio.create_task(member.stay(port)) for member in members]


def tighten(istiod: Istiod, folder: Path) -> None:
    """Let the group's limit be such that istiod is above the mark for new streams, and below that for its end."""
    between = (pressure.SHED + pressure.SPENT) / 2
    (folder / "memory.limit_in_bytes").write_text(str(int(metric(istiod, "pilot_memory_used_bytes") / between)))


@pytest.mark.root
@pytest.mark.parametrize(
    ("size", "early"),
    [
        pytest.param(world.Size(services=50, endpoints=2, proxies=80), 40, marks=pytest.mark.timeout(240)),
        pytest.param(
            world.Size(services=200, endpoints=5, proxies=2_000),
            0,
            marks=[pytest.mark.long, pytest.mark.timeout(1_800)],
        ),
    ],
    ids=str,
)
async def test_at_the_limit_of_memory_nobody_is_killed_and_who_is_served_stays_served(
    tmp_path: Path, size: world.Size, early: int
) -> None:
    """FT44, with 512 MiB; where some come ``early``, with about what istiod has once they are there."""
    with group("memory", limit_in_bytes=str(512 << 20)) as folder:
        async with limited(tmp_path, size, folder) as (istiod, crowd, config):
            port = int(istiod.address.rpartition(":")[2])
            alone = int(metric(istiod, "pilot_memory_used_bytes"))
            figures.say(f"{alone >> 20} MiB before anybody comes")
            shed = "pilot_xds_shed_total"
            if early:
                await enter(crowd, port, crowd.members[:early])
                await until(lambda: len(complete(crowd)) == early, "the first are served", 120)
                await asyncio.to_thread(tighten, istiod, folder)
            await enter(crowd, port, crowd.members[early:])

            async def settled() -> bool:
                before = len(complete(crowd))
                await asyncio.sleep(5)  # how fast they come is the machine's
                served = len(complete(crowd))
                return served == before and (
                    served == size.proxies or await asyncio.to_thread(metric, istiod, shed) > 0
                )

            async with asyncio.timeout(1_500):
                while not await settled():
                    pass
            there = complete(crowd)
            figures.say(f"{len(there)} of {size.proxies} served in {processes.rss(istiod.process.pid):.0f} MB")
            assert len(there) == (early or size.proxies), "nobody was served who came late"
            for member in there:
                member.forget()
            config.put(world.CHANGES["endpoint"](size, 1, 2))
            await until(lambda: all(each.got[names.ENDPOINT] for each in there), "all have the change", 120)
            assert not any(member.refused for member in there)
            istiod.check()
            assert int((folder / "memory.oom_control").read_text().split("oom_kill ")[1].split()[0]) == 0


@pytest.mark.root
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_with_a_fifth_of_a_core_changes_come_late_but_come(tmp_path: Path) -> None:
    """FT45: convergence within 30 s."""
    size = world.Size(services=100, endpoints=5, proxies=100)
    with group("cpu", cfs_quota_us="-1", cfs_period_us="100000") as folder:
        async with limited(tmp_path, size, folder) as (istiod, crowd, config):
            await crowd.come(istiod, lambda member: member.complete.wait())
            (folder / "cpu.cfs_quota_us").write_text("20000")
            longest = 0.0
            for turn in range(20):
                for member in crowd.members:
                    member.forget()
                since = time.monotonic()
                config.put(world.CHANGES["endpoint"](size, turn, turn + 1))
                await until(lambda: all(each.got[names.ENDPOINT] for each in crowd.members), "all have it", 60)
                longest = max(longest, time.monotonic() - since)
            figures.say(f"20 changes at 0.2 core: the last of {size.proxies} proxies after {longest:.1f} s at most")
            assert longest <= 30
            assert not any(member.refused for member in crowd.members)
