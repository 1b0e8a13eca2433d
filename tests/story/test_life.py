"""What dies comes back, or goes without a trace: proxies, the control plane, pods, the whole mesh."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from examples.demo.mesh import PATIENCE
from node import home, launcher
from tests.story import changes, shop, worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[shop.Running]:
    """A shop under load, with two pods of each version; all that it was is gone afterwards."""
    async with shop.opened() as found:
        prefix, folder = home.prefix_of(found.book.mesh.name), found.book.mesh.config.parent
        spaces = [path.stat().st_ino for path in home.namespaces(found.book.mesh.name)]
        assert spaces
        assert launcher.processes("net", spaces)
        more = changes.Shop(replicas=dict.fromkeys(changes.VERSIONS, 2))
        scaled = changes.text(more.version(version) for version in changes.VERSIONS)
        await found.apply(changes.Change(name="two of each", workloads=scaled, after=True))
        yield found
    assert not home.namespaces(found.book.mesh.name)
    assert not launcher.processes("net", spaces)
    assert not folder.exists()
    assert not mounted(str(folder))
    assert not mounted(prefix)


def mounted(text: str) -> bool:
    """Whether a mount of the machine speaks of this."""
    return text in Path("/proc/mounts").read_text()


def envoys(running: shop.Running, pod: str) -> list[int]:
    """The processes of Envoy in a pod."""
    namespace = Path(f"/proc/{running.book.mesh.pod(pod).containers['istio-proxy'].pid}/ns/net").stat().st_ino
    found = launcher.processes("net", [namespace])
    return [pid for pid in found if b"envoy-rev" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_a_pod_that_is_deleted_under_load_costs_no_request(running: shop.Running) -> None:
    for version in changes.VERSIONS:
        running.done.append((time.time(), f"delete a pod of {version}"))
        await running.book.mesh.kill(f"hello-{version}")
        await running.more(20)
        await running.book.mesh.ready(PATIENCE)
    await running.more(40)
    assert running.failed() == [], running.story()


async def test_a_control_plane_that_is_killed_under_load_costs_no_request(running: shop.Running) -> None:
    """Proxies go on with what they have; the next one takes them over, and what is changed then arrives."""
    before = {proxy["node"] for proxy in await running.book.proxies()}
    pid = running.book.mesh.pod("istio-system/istiod").containers["discovery"].pid
    running.done.append((time.time(), "kill istiod"))
    os.kill(pid, signal.SIGKILL)
    await running.more(40)

    async def back() -> bool:
        again = running.book.mesh.pod("istio-system/istiod").containers["discovery"].pid
        if again in {0, pid}:
            return False
        try:
            proxies = await running.book.proxies()
        except (OSError, aiohttp.ClientError):
            return False
        return {proxy["node"] for proxy in proxies} == before and all(proxy["settled"] for proxy in proxies)

    await worlds.until("all proxies are back at the control plane", back, 40)
    await running.more(40)
    rule = {"route": [changes.destination("v3")]}
    await running.apply(
        changes.Change(name="all to v3", files={"hello.yaml": changes.Shop(rules=[rule]).hello()}, after=True)
    )
    code, answer, _ = await running.book.mesh.exec("asker", ["curl", "-s", "http://hello:5000/hello"], "asker")
    assert (code, answer[:18]) == (0, "Hello version: v3,")
    assert running.failed() == [], running.story()


async def test_an_envoy_that_is_killed_is_back_within_5_s(running: shop.Running) -> None:
    (pid,) = envoys(running, "bin-v1")
    os.kill(pid, signal.SIGKILL)

    async def serves() -> bool:
        if pid in envoys(running, "bin-v1"):
            return False
        ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "2", "http://bin:8000/get"]
        return (await running.book.mesh.exec("asker", ask, "asker"))[1] == "200"

    assert await worlds.until("the pod answers again", serves) < 5
