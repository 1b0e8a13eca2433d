"""While etcd hangs or answers late, what is known stays, and what happened meanwhile is seen afterwards (FT7).

A leader change is in test_etcd_leader.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crds.registry import KINDS
from e2e.harness.controlplane import Cluster, control_plane
from istiod.kube.client import KubernetesClient
from tests import figures
from tests.kube.conftest import install
from tests.kube.following import following, make, remove, until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120, func_only=True)]
SPACE = "shop"
NAMES = [f"s{number}" for number in range(20)]
HANGS = 12.0
"""Seconds without an answer: longer than our own requests wait."""
SLOW, TURNS = 0.5, 20
"""Seconds by which a write is late, and for how many of them."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """An etcd of our own, which may be stopped."""
    with control_plane(controllers=False) as made:
        install(made, [info for info in KINDS.values() if info.group.endswith(".istio.io")])
        made.kubectl("create", "namespace", SPACE)
        yield made


def etcd(cluster: Cluster) -> int:
    """The process."""
    data = f"--data-dir={cluster.home / 'etcd'}".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if data in words and b"etcd" in words[0]:
            return int(path.parent.name)
    raise AssertionError("no etcd")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_an_etcd_that_hangs_or_is_slow_has_nothing_deleted_here(
    cluster: Cluster, client: KubernetesClient
) -> None:
    pid = etcd(cluster)
    await make(client, SPACE, NAMES)
    async with following(client, SPACE) as world:
        await until(world.ready.is_set, "all is listed", 60)
        least = len(NAMES)
        with stopped(pid):
            began = time.monotonic()
            while time.monotonic() - began < HANGS:
                least = min(least, len(world.names("Service", SPACE)))
                await asyncio.sleep(0.05)
        assert least == len(NAMES), "nothing is deleted because nobody answers"
        await remove(client, SPACE, NAMES[:5])
        await make(client, SPACE, ["after"])
        hung = await until(lambda: world.names("Service", SPACE) == {*NAMES[5:], "after"}, "it has caught up", 60)

        async def slow() -> None:
            for _ in range(TURNS):
                with stopped(pid):
                    await asyncio.sleep(SLOW)
                await asyncio.sleep(SLOW / 5)

        slowness = asyncio.create_task(slow())
        await make(client, SPACE, ["slowly"])
        await until(lambda: "slowly" in world.names("Service", SPACE), "it follows meanwhile", 60)
        await slowness
        assert world.names("Service", SPACE) == {*NAMES[5:], "after", "slowly"}
        passes = max(int(each["passes"]) for each in world.watch.status())
    figures.fault(
        "FT7",
        f"etcd stopped for {HANGS:g} s and {TURNS} times for {SLOW} s: 0 objects lost, caught up {hung:.1f} s after,"
        f" each kind listed at most {passes} times",
    )
    assert hung <= 5
