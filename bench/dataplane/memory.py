"""Envoy's memory with more and more services in its configuration: the client's sidecar, which knows them all."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from bench import processes, world
from bench.dataplane.rig import OURS, PATIENCE, Rig
from bench.folder import Folder
from bench.processes import BenchError

ENDPOINTS: Final = 10
"""Of each service."""
_MB: Final = 2.0**20


async def lines(rig: Rig, counts: Sequence[int]) -> AsyncIterator[str]:
    """RSS and what Envoy has allocated, without services and with so many; then what a thousand more come to."""
    pod = f"{OURS}/client"
    yield f"{'services x ' + str(ENDPOINTS):16}{'RSS MB':>10}{'allocated MB':>14}"
    taken = [(0, *await _memory(rig, pod))]
    yield _line(*taken[-1])
    for count in sorted(counts):
        await asyncio.to_thread(_fill, rig.mesh.config, count)
        await _knows(rig, pod, count)
        await rig.settled()
        taken.append((count, *await _memory(rig, pod)))
        yield _line(*taken[-1])
    (least, *first), (most, *last) = taken[0], taken[-1]
    per = [(b - a) / (most - least) * 1000 for a, b in zip(first, last, strict=True)]
    yield f"per 1,000 services: {per[0]:.0f} MB RSS, {per[1]:.0f} MB allocated"


async def _knows(rig: Rig, pod: str, services: int) -> None:
    """Wait until a pod's Envoy has a cluster for each of them at least."""
    clock = asyncio.get_running_loop().time
    end = clock() + PATIENCE
    while True:
        said = await rig.admin(pod, "/stats?filter=^cluster_manager.active_clusters$")
        if int(said.rpartition(": ")[2] or 0) >= services:
            return
        if clock() > end:
            raise BenchError(f"waited {PATIENCE:g} s in vain for {services} services in {pod}: {said}")
        await asyncio.sleep(0.5)


def _fill(config: pathlib.Path, services: int) -> None:
    """Write Services, endpoints and pods to where istiod reads, beside what the mesh has there."""
    folder = config / "world"
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    beside = config / ".world"
    Folder(beside).fill(world.Size(services=services, endpoints=ENDPOINTS, proxies=0))
    beside.rename(folder)


async def _memory(rig: Rig, pod: str) -> tuple[float, float]:
    stats = json.loads(await rig.admin(pod, "/memory"))
    return processes.rss(rig.envoy(pod)), int(stats["allocated"]) / _MB


def _line(services: int, rss: float, allocated: float) -> str:
    return f"{services:<16}{rss:10.1f}{allocated:14.1f}"
