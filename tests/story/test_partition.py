"""A real Envoy and istiod that do not reach each other, in both directions or in one (fault FT48)."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests import figures
from tests.story import changes, shop, worlds
from wire import names

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.long,
    pytest.mark.timeout(2_400, func_only=True),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
ENDED, CAUGHT_UP = 40.0, 5.0
PATIENCE = 5.0
"""Seconds that a look at a busy machine may be late."""
LASTS = figures.lasting(600)
THERE, BACK = ("OUTPUT", "--dport"), ("INPUT", "--sport")
WAYS = {"both ways": (THERE, BACK), "to istiod only": (THERE,), "from istiod only": (BACK,)}
POD = "asker"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[shop.Running]:
    """A shop under load."""
    async with shop.opened() as found:
        yield found


def inside(running: shop.Running, *command: str) -> str:
    """Run something in the pod's network; what it says."""
    pid = running.book.mesh.pod(POD).containers["istio-proxy"].pid
    return subprocess.run(
        ["nsenter", "-t", str(pid), "-n", *command], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


@contextlib.contextmanager
def dropped(running: shop.Running, way: str) -> Iterator[None]:
    """Packets between a pod and istiod are lost, in the pod's namespace, until the block ends."""

    def each(action: str) -> None:
        for chain, port in WAYS[way]:
            inside(running, "iptables", "-w", action, chain, "-p", "tcp", port, str(names.CA_PORT), "-j", "DROP")

    each("-I")
    try:
        yield
    finally:
        each("-D")


async def here(running: shop.Running) -> bool:
    """Whether istiod has a stream of the pod."""
    return any(f"~{POD}." in proxy["node"] for proxy in await running.book.proxies())


@pytest.mark.parametrize("way", WAYS)
async def test_a_partition_ends_the_stream_costs_no_request_and_is_caught_up_with(
    running: shop.Running, way: str
) -> None:
    await running.settled()
    running.done.append((time.time(), f"nothing passes {way}"))
    with dropped(running, way):
        began = time.monotonic()

        async def given_up() -> bool:
            return not inside(running, "ss", "-Htn", "state", "established", "dport", "=", f":{names.CA_PORT}")

        async def gone() -> bool:
            return not await here(running)

        ended = await worlds.until("Envoy has given the stream up", given_up, 120)
        await worlds.until("istiod has, too", gone, 120)
        forgotten = time.monotonic() - began
        rule = {"route": [changes.destination("v3")]}
        shop.write(running.book.mesh.config / "hello.yaml", changes.Shop(rules=[rule]).hello())
        await asyncio.sleep(max(0.0, began + LASTS - time.monotonic()))  # the fault lasts
        await running.more(40)

    async def follows() -> bool:
        mine = [proxy for proxy in await running.book.proxies() if f"~{POD}." in proxy["node"]]
        return bool(mine) and all(proxy["settled"] for proxy in mine)

    caught_up = await worlds.until("it has what was changed meanwhile", follows, 60)
    await running.more(40)
    failed = running.failed()
    figures.fault(
        "FT48",
        f"{way}: Envoy ended the stream after {ended:.1f} s, istiod after {forgotten:.1f} s; "
        f"caught up {caught_up:.1f} s after, {len(failed)} requests lost",
    )
    assert failed == [], running.story()
    assert ended <= ENDED + PATIENCE
    assert forgotten <= ENDED + PATIENCE
    assert caught_up <= CAUGHT_UP + PATIENCE
    shop.write(running.book.mesh.config / "hello.yaml", changes.start().files["hello.yaml"])
