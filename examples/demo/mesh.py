"""The demo's mesh: BookInfo and its gateway, reachable from this machine, and what istiod says of convergence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from examples.demo import traffic
from node.mesh import Mesh
from node.options import Options
from wire import names

BOOKINFO = pathlib.Path(__file__).resolve().parent.parent / "bookinfo"
RULES = BOOKINFO / "networking"
FILES = (
    RULES / "mesh.yaml",
    BOOKINFO / "bookinfo.yaml",
    RULES / "destination-rules.yaml",
    RULES / "gateway.yaml",
    RULES / "reviews-v1.yaml",
)
PATIENCE = 120.0
"""Seconds that the mesh gets to come up, and any single condition to come true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookInfo:
    """A running mesh, a client of its gateway, and the address of the control plane's debug pages."""

    mesh: Mesh
    client: traffic.Client
    debug: str

    async def proxies(self) -> list[dict[str, Any]]:
        """What /debug/syncz says: each connected proxy, its target number, whether it has ACKed all of it, and when."""
        return await self._page("syncz")

    async def _page(self, name: str) -> list[dict[str, Any]]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.debug}/debug/{name}") as response:
            found: list[dict[str, Any]] = await response.json()
            return found

    async def metrics(self) -> str:
        """What istiod says to Prometheus."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.debug}/metrics") as response:
            return await response.text()

    async def told(self) -> None:
        """Wait until every proxy knows which pods are ready: a pod is ready a moment before the others hear of it.

        Raises:
            TimeoutError: not within PATIENCE seconds.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                if await self._all_told():
                    return
                await asyncio.sleep(0.02)

    async def _all_told(self) -> bool:
        published = (json.loads(file.read_text()) for file in self.mesh.runtime.glob("EndpointSlice.*"))
        known = (each for each in await self._page("configz") if each["kind"] == "EndpointSlice")
        return serving(published) == serving(known) and all(proxy["settled"] for proxy in await self.proxies())

    async def converge(self, change: str | pathlib.Path) -> float:
        """Apply a change of configuration; the seconds from its file's change to the last ACK of any proxy.

        Raises:
            TimeoutError: not all proxies ACKed within PATIENCE seconds.
        """
        before = await self._targets()
        started = time.monotonic()
        await self.mesh.apply(change)
        return await self._taken(before) - started

    async def withdraw(self, kind: str, name: str) -> None:
        """Delete an object that some proxy's configuration comes from, and wait until all have taken that.

        Raises:
            TimeoutError: not all proxies ACKed within PATIENCE seconds.
        """
        before = await self._targets()
        await self.mesh.delete(kind, name)
        await self._taken(before)

    async def _targets(self) -> dict[str, int]:
        """How often each proxy's configuration has changed."""
        return {proxy["node"]: proxy["target"] for proxy in await self.proxies()}

    async def _taken(self, before: dict[str, int]) -> float:
        """Wait for the ACKs of a change after these; the time of the last one."""
        async with asyncio.timeout(PATIENCE):
            while True:
                now = await self.proxies()
                moment = time.monotonic()
                moved = any(proxy["target"] > before.get(proxy["node"], 0) for proxy in now)
                if moved and all(proxy["settled"] for proxy in now):
                    return moment - min(float(proxy["acked"]) for proxy in now)
                await asyncio.sleep(0.02)


def serving(slices: Iterable[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Namespace, name and address of each endpoint that is ready."""
    return {
        (each["metadata"]["namespace"], each["metadata"]["name"], address)
        for each in slices
        for endpoint in each["endpoints"]
        if endpoint["conditions"]["ready"]
        for address in endpoint["addresses"]
    }


@contextlib.asynccontextmanager
async def bookinfo(port: int = 0, name: str = "", debug_port: int = 0) -> AsyncIterator[BookInfo]:
    """Bring BookInfo up; gateway and debug pages answer on these ports of the loopback (0: a free one).

    Raises:
        node.errors.MeshError: no root, missing programs, or pods that do not become ready.
        OSError: one of the ports is taken.
    """
    async with Mesh(FILES, Options(name=name)) as mesh:
        gateway = await mesh.forward_gateway(port)  # before anybody waits: a port may be taken
        debug = await mesh.forward("istiod", names.DEBUG_PORT, namespace=names.ROOT_NAMESPACE, host_port=debug_port)
        await mesh.ready(PATIENCE)
        async with traffic.Client(f"http://127.0.0.1:{gateway}") as client:
            found = BookInfo(mesh=mesh, client=client, debug=f"http://127.0.0.1:{debug}")
            await found.told()
            yield found
