"""A leader that has a fifth of a core keeps its Lease, though another waits for it, and goes on serving (FT45)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crds.registry import KINDS
from e2e.harness.controlplane import Cluster, control_plane
from istiod.kube.client import KubernetesClient
from tests import figures
from tests.istiod.test_pressure import group
from tests.kube.conftest import install
from tests.kube.following import becomes, make
from tests.kube.test_discovery import Istiod, discovery
from tests.kube.test_replicas import LEASE, SHOP, SYSTEM, leads

pytestmark = [pytest.mark.apiserver, pytest.mark.root, pytest.mark.long, pytest.mark.timeout(4_500, func_only=True)]
LASTS = figures.lasting(3_600)
SERVICES = 200
TURN = 5.0
"""Seconds between two changes."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """An API server of our own: the Lease of the whole cluster is at stake."""
    with control_plane(controllers=False) as made:
        install(made, [info for info in KINDS.values() if info.group.endswith(".istio.io")])
        for name in (SYSTEM, SHOP):
            made.kubectl("create", "namespace", name)
        yield made


async def served(istiod: Istiod) -> int:
    found = await istiod.clusters()
    return len(found) if isinstance(found, list) else 0


async def holder(client: KubernetesClient) -> tuple[str, int]:
    """Who has the Lease, and how often it has changed hands."""
    spec = (await client.request("get", LEASE))["spec"]
    return str(spec["holderIdentity"]), int(spec.get("leaseTransitions", 0))


async def test_a_leader_with_a_fifth_of_a_core_keeps_its_lease_and_serves_changes(
    client: KubernetesClient, kubeconfig: str, tmp_path: Path
) -> None:
    await make(client, SHOP, (f"web-{number}" for number in range(SERVICES)))
    with group("cpu", cfs_quota_us="-1", cfs_period_us="100000") as folder:
        async with discovery(kubeconfig, SYSTEM, tmp_path / "slow.log", pod="slow") as slow:
            await becomes(slow.ready, lambda said: said == (200, "ok"), 300)
            await leads(client, "slow", 60)
            async with discovery(kubeconfig, SYSTEM, tmp_path / "waits.log", pod="waits") as waits:
                await becomes(waits.ready, lambda said: said == (200, "ok"), 300)
                (folder / "cgroup.procs").write_text(str(slow.process.pid))
                (folder / "cpu.cfs_quota_us").write_text("20000")
                try:
                    await _lasts(client, slow)
                    throttled = (folder / "cpu.stat").read_text().split()
                    assert int(throttled[throttled.index("nr_throttled") + 1]) > 0, "it would have taken more"
                finally:
                    (folder / "cpu.cfs_quota_us").write_text("-1")


async def _lasts(client: KubernetesClient, slow: Istiod) -> None:
    """Change something again and again; nobody else may lead, and each change is served."""
    before, count, longest = await holder(client), await served(slow), 0.0
    turns, began = 0, time.monotonic()
    while time.monotonic() < began + LASTS:
        turns += 1
        since = time.monotonic()
        await make(client, SHOP, [f"late-{turns}"])
        count += 1
        await becomes(lambda: served(slow), count.__le__, 60)
        longest = max(longest, time.monotonic() - since)
        assert await holder(client) == before
        await asyncio.sleep(max(0.0, since + TURN - time.monotonic()))
    figures.fault(
        "FT45",
        f"a leader at 0.2 of a core for {LASTS:.0f} s, another waiting: no Lease lost; "
        f"{turns} new services, served after {longest:.1f} s at most",
    )
    assert longest <= 30
