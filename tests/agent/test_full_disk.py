"""A disk that fills up below a running agent and its Envoy: logs are dropped, the service goes on (fault FT46)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import figures
from tests.agent import pod as support
from tests.agent.test_ends import ask
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.root]
SIZE = "4m"
REQUESTS = 200
LIFE = 4
"""Seconds of a certificate: some are renewed while the disk is full."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, on which all is that a pod may write."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(disk: Path) -> None:
    """Until not a byte is left, neither in the last page of a log."""
    with (disk / "filler").open("ab", buffering=0) as filler:
        for size in (64 * 1024, 1):
            try:
                while True:
                    filler.write(b"x" * size)
            except OSError:
                continue
    assert os.statvfs(disk).f_bavail == 0


async def test_a_disk_that_fills_up_below_a_running_pod_costs_no_request(disk: Path) -> None:
    environment = {"SECRET_TTL": f"{LIFE}s", "OUTPUT_CERTS": str(disk / "certs")}
    async with support.istiod() as control, support.pod(disk, control, **environment) as pod:
        control.serve.set()
        await until(pod.ready, "the proxy is ready")
        assert await ask(control.listener_port) == ""
        await until(lambda: (disk / "stdout").stat().st_size > 0, "there is a log of requests")
        await asyncio.to_thread(fill, disk)
        asked = len(control.tokens)
        wrong = [said for _ in range(REQUESTS) if (said := await ask(control.listener_port))]
        await until(lambda: len(control.tokens) >= asked + 2, "two certificates are renewed all the same", 60)
        assert await ask(control.listener_port) == ""
        killed = pod.envoy_pid()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: pod.envoy_pid() not in (0, killed), "another Envoy runs")
        await until(pod.ready, "it has its configuration and its certificate")
        assert await ask(control.listener_port) == ""
        assert os.statvfs(disk).f_bavail == 0
        (disk / "filler").unlink()
        before = (disk / "stdout").stat().st_size
        assert await ask(control.listener_port) == ""
        await until(lambda: (disk / "stdout").stat().st_size > before, "requests are logged again")
        figures.fault(
            "FT46",
            f"{len(wrong)} of {REQUESTS} requests lost on a full disk; two certificates renewed, Envoy started again",
        )
        assert wrong == []
        pod.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(pod.process.wait(), 30) == 0
