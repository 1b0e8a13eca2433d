"""Meshes that stories run on, and what they wait for."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

from examples.demo import traffic
from examples.demo.mesh import PATIENCE, RULES, BookInfo
from node import network
from node.mesh import Mesh
from node.options import Options
from wire import names

MESH_SETTINGS = RULES / "mesh.yaml"
"""Access logs on, injection in the namespace default."""
_FLAGS = re.compile(r'^\[[^\]]+\] "[^"]*" (?P<status>\d+) (?P<flags>\S+) ')


@contextlib.asynccontextmanager
async def world(files: Iterable[Path | str], options: Options | None = None) -> AsyncIterator[BookInfo]:
    """A mesh of these files (YAML texts are applied too), with a client of its gateway; ends it at the end."""
    given = list(files)
    async with Mesh([each for each in given if isinstance(each, Path)], options) as mesh:
        for each in given:
            if isinstance(each, str):
                await mesh.apply(each)
        await mesh.ready(PATIENCE)
        gateway = await mesh.forward_gateway()
        debug = await mesh.forward("istiod", names.DEBUG_PORT, namespace=names.ROOT_NAMESPACE)
        async with traffic.Client(f"http://127.0.0.1:{gateway}") as client:
            found = BookInfo(mesh=mesh, client=client, debug=f"http://127.0.0.1:{debug}")
            await found.told()
            yield found


def runs_here() -> str:
    """Why a mesh cannot run here, "" if it can."""
    return network.missing()


async def until(what: str, holds: Callable[[], Awaitable[object]], deadline: float = 20.0) -> float:
    """Wait until something holds; the seconds it took. Asserts that it does within the deadline."""
    started = time.monotonic()
    while not await holds():
        assert time.monotonic() - started < deadline, f"not within {deadline} s: {what}"
        await asyncio.sleep(0.05)
    return time.monotonic() - started


def logged(mesh: Mesh) -> dict[str, list[str]]:
    """Pod (NAMESPACE/NAME) -> the lines of its proxy's access log so far, also of pods that are gone."""
    found = {}
    for path in sorted(mesh.config.parent.glob("logs/*/istio-proxy.log")):
        lines = [line for line in path.read_text(errors="replace").splitlines() if _FLAGS.match(line)]
        found[path.parent.name.replace("_", "/", 1)] = lines
    return found


def faults(mesh: Mesh) -> list[str]:
    """Lines of access logs with a 5xx, or with a response flag that says that configuration was missing."""
    found = []
    for pod, lines in logged(mesh).items():
        for line in lines:
            seen = _FLAGS.match(line)
            if seen and (seen["status"].startswith("5") or _bad(seen["flags"])):
                found.append(f"{pod}: {line}")
    return found


def _bad(flags: str) -> bool:
    """No cluster, no route, no healthy upstream, upstream connection failure."""
    return not {"NC", "NR", "UH", "UF"}.isdisjoint(flags.split(","))
