"""istiod in a control group that is too small for all who come, and for itself (fault FT44)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import identities, processes, world
from bench.folder import Folder
from bench.processes import Fleet, Istiod
from istiod import pressure
from tests import figures
from tests.istiod.test_pressure import complete, enter, group, limited, metric, within
from tests.waiting import until

ROOT = Path(__file__).parents[2]
FLEET = ROOT / "build/fleet"
LIMIT = 512 << 20
CHANGES = 10
LASTS = figures.lasting(600)
"""Seconds for which those that are refused come again and again."""


def kills(folder: Path) -> int:
    return int((folder / "memory.oom_control").read_text().split("oom_kill ")[1].split()[0])


@pytest.fixture
def fleet_program() -> Path:
    """The fake proxies of the bench."""
    if not FLEET.is_file():
        if shutil.which("go") is None:
            pytest.skip("the fleet (bench/fleet) is not built, and there is no Go")
        subprocess.run(["make", "-s", str(FLEET.relative_to(ROOT))], cwd=ROOT, check=True, timeout=900)
    return FLEET


@dataclass(slots=True)
class Crowded:
    """What is seen of them; ``most`` is the most memory that istiod said it used."""

    istiod: Istiod
    fleet: Fleet
    config: Folder
    size: world.Size
    most: float = 0.0

    async def full(self) -> bool:
        """Whether somebody was refused, or all are served."""
        self.istiod.check()
        self.most = max(self.most, await asyncio.to_thread(metric, self.istiod, "pilot_memory_used_bytes"))
        return await self.shed() > 0 or await self.served() == self.size.proxies

    async def shed(self) -> int:
        """How often a stream was refused."""
        return int(await asyncio.to_thread(metric, self.istiod, "pilot_xds_shed_total"))

    async def served(self) -> int:
        """How many have had a whole configuration."""
        return await asyncio.to_thread(self.fleet.complete)

    async def change(self, turn: int) -> float:
        """Change endpoints; seconds until all have it that had a whole configuration."""
        served, began, told = await self.served(), time.monotonic(), time.time_ns()
        self.config.put(world.CHANGES["endpoint"](self.size, turn, turn + 1))

        async def arrived() -> bool:
            await self.full()
            found = await asyncio.to_thread(self.fleet.marker, "eds", turn + 1, told)
            return bool(found and found["n"] >= served)

        await until(arrived, f"all {served} that are served have change {turn + 1}", 120)
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def crowded(home: Path, size: world.Size, folder: Path, program: Path) -> AsyncIterator[Crowded]:
    """A control plane in the group, which has read everything, and the fleet that comes to it at once."""
    nodes = list(world.nodes(size))
    identities.write(home, {(said["ns"], said["sa"]) for said in nodes})
    (home / "nodes.jsonl").write_text("\n".join(map(json.dumps, nodes)))
    config = Folder(home / "config")
    config.fill(size)
    with contextlib.ExitStack() as stack:
        istiod = Istiod(home, config.flags(home), within(folder))
        stack.callback(processes.stop, istiod.process)
        await asyncio.to_thread(istiod.wait)
        figures.say(f"{int(metric(istiod, 'pilot_memory_used_bytes')) >> 20} MiB before anybody comes")
        fleet = Fleet(home, program, istiod.address, size.proxies, "delta")
        stack.callback(processes.stop, fleet.process)
        yield Crowded(istiod, fleet, config, size)


@pytest.mark.root
@pytest.mark.long
@pytest.mark.timeout(2_400)
async def test_of_two_thousand_that_are_too_many_those_that_came_first_stay_served(
    tmp_path: Path, fleet_program: Path
) -> None:
    size = world.Size(services=1_000, endpoints=10, proxies=2_000)
    with group("memory", limit_in_bytes=str(LIMIT)) as folder:
        async with crowded(tmp_path, size, folder, fleet_program) as seen:
            since = time.monotonic()
            await until(seen.full, "new streams are refused, or all are served", 1_200)
            came = time.monotonic() - since
            while time.monotonic() < since + came + LASTS:
                await seen.full()
                await asyncio.sleep(1)  # the time for which those that are refused come again
            slowest = max([await seen.change(turn) for turn in range(CHANGES)])
            again, served = time.monotonic() - since - came, await seen.served()
            figures.fault(
                "FT44",
                f"512 MiB and 2,000 proxies of 1,000 services with 10,000 endpoints: {served} were served within"
                f" {came:.0f} s, then streams were refused {await seen.shed()} times in {again:.0f} s;"
                f" memory at most {int(seen.most) >> 20} MiB; {CHANGES} changes, each at all that are served"
                f" within {slowest:.1f} s; no OOM kill",
            )
            assert served > 0
            assert seen.most < pressure.SPENT * LIMIT
            seen.istiod.check()
            assert kills(folder) == 0


@pytest.mark.root
@pytest.mark.long
@pytest.mark.timeout(240)
async def test_memory_that_stays_spent_ends_istiod_in_order(tmp_path: Path) -> None:
    size = world.Size(services=50, endpoints=2, proxies=20)
    with group("memory", limit_in_bytes=str(LIMIT)) as folder:
        async with limited(tmp_path, size, folder) as (istiod, crowd, _):
            port = int(istiod.address.rpartition(":")[2])
            await enter(crowd, port, crowd.members)
            await until(lambda: len(complete(crowd)) == size.proxies, "all are served", 120)
            spent = (pressure.SPENT + 1) / 2

            def ended() -> bool:
                with contextlib.suppress(OSError):  # it has just ended; or the kernel cannot take pages back so fast
                    used = metric(istiod, "pilot_memory_used_bytes")
                    (folder / "memory.limit_in_bytes").write_text(str(int(used / spent)))
                return istiod.process.poll() is not None

            async def over() -> bool:
                await asyncio.sleep(pressure.PERIOD)  # between two looks of its own
                return await asyncio.to_thread(ended)

            await until(over, "it has ended", 120)
            assert istiod.process.returncode == 0
            assert kills(folder) == 0
            assert "memory is spent" in (tmp_path / "istiod.log").read_text()
            told = [
                next((why for why in member.refused if why.startswith("status 14")), "") for member in crowd.members
            ]
            assert all(told), "each was told to go elsewhere"
