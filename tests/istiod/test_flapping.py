"""Endpoints that flap a hundred times a second (fault FT23): a real Envoy, files, a process that watches them."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from e2e.harness.ports import free_ports
from tests import figures
from tests.istiod import edge
from tests.story import load

pytestmark = pytest.mark.envoy
STEADY = ("127.0.1.1", "127.0.1.2")
FLAPPING = tuple(f"127.0.2.{number}" for number in range(1, 8))
DEAD = "127.0.3.1"
"""A pod that flaps, too, and whose app does not listen."""
RATE = 100
"""Changes in a second."""
MOST, AT_ONCE = 10, 3
"""Assignments in a second, and at the start beside those."""
QUIET = (
    "cluster_manager[.]cds[.]update_success",
    "listener_manager[.]lds[.]update_success",
    "http[.].*rds[.].*update_success",
)
"""Clusters, listeners and routes that the gateway took."""
REFUSED = "cluster[.].*web.*[.]upstream_cx_connect_fail"
ASSIGNMENTS = "cluster[.].*web.*[.]update_success"


class Flapping:
    """One endpoint changes its state at a time."""

    def __init__(self, seed: int, port: int) -> None:
        self._chance = random.Random(seed)
        self._port = port
        self._ready = dict.fromkeys((*FLAPPING, DEAD), True)

    def turn(self) -> edge.Document:
        address = self._chance.choice((*FLAPPING, DEAD))
        self._ready[address] = not self._ready[address]
        return self.now()

    def now(self) -> edge.Document:
        ready = [*STEADY, *(address for address, is_ready in self._ready.items() if is_ready)]
        return edge.endpoints(self._port, ready, [a for a, is_ready in self._ready.items() if not is_ready])


async def quiet(mesh: edge.Edge) -> dict[str, int]:
    found = {name: await mesh.proxy.stat(name) for name in QUIET}
    assert all(found.values()), found
    return found


@pytest.mark.parametrize("seconds", [6, pytest.param(30, marks=[pytest.mark.long])])
async def test_endpoints_that_flap_cost_no_more_than_ten_assignments_a_second_and_nothing_else(
    tmp_path: Path, seconds: int
) -> None:
    port, app_port = free_ports(2)
    flapping = Flapping(seconds, app_port)
    async with (
        edge.apps(app_port, (*STEADY, *FLAPPING)),
        edge.edge(tmp_path, 1, [flapping.now()], (port, app_port)) as mesh,
        load.over_http([("web", f"http://127.0.0.1:{port}/")]) as requests,
    ):
        before = await quiet(mesh)
        had = await mesh.proxy.stat(ASSIGNMENTS)
        assert had
        requests.each = 4
        async with load.running(requests):
            turns, started = 0, time.monotonic()
            while time.monotonic() < started + seconds:
                mesh.write(flapping.turn())
                turns += 1
                await asyncio.sleep(max(0.0, started + turns / RATE - time.monotonic()))  # their rate
            spent = time.monotonic() - started
            mesh.put(flapping.now())
            await mesh.agrees(30)
        taken = await mesh.proxy.stat(ASSIGNMENTS) - had
        assert turns > seconds * RATE / 4, "a machine too busy to flap"
        assert spent < taken <= MOST * (spent + 1) + AT_ONCE
        assert await quiet(mesh) == before
        refused = await mesh.proxy.stat(REFUSED)
        figures.fault(
            "FT23",
            f"{turns} changes in {spent:.1f} s, {taken} assignments ({taken / spent:.1f}/s),"
            f" {requests.total} requests, {len(requests.failures)} lost, {refused} connections refused by a dead pod",
        )
        assert requests.total > 10 * seconds
        assert not requests.failures
