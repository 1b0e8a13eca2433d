"""A gateway's Secret is deleted, spoilt, replaced by one that is over, and mended, under load (fault FT58)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from tests.behaviour import pki
from tests.behaviour import rig as rigs
from tests.behaviour.cases_gateway import ROUTED
from tests.behaviour.client import Reply, trusting
from tests.behaviour.rig import Rig
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]
MENDED = 2.0
"""Seconds from the mended Secret to the first connection with it."""
HOSTS = ("a.example", "b.example")
SERVER = (
    "{{port: {{number: $gwtls, name: {0}, protocol: HTTPS}}, hosts: [{0}], tls: {{mode: SIMPLE, credentialName: {1}}}}}"
)
GATEWAY = f"""kind: Gateway
spec:
  selector: {{app: gw}}
  servers:
  - {SERVER.format("a.example", "a")}
  - {SERVER.format("b.example", "b")}
{ROUTED}"""
SECRET = """
---
kind: Secret
metadata: {{name: {0}}}
type: kubernetes.io/tls
data: {{tls.crt: {1}, tls.key: {2}}}
"""
OWN = SECRET.format("b", "$b_example_crt", "$b_example_key")
GOOD = SECRET.format("a", "$a_example_crt", "$a_example_key")
FAULTS = {
    "deleted": "",
    "no PEM": SECRET.format("a", "bm8gUEVN", "bm8gUEVN"),
    "empty": SECRET.format("a", '""', '""'),
    "the key of another": SECRET.format("a", "$a_example_crt", "$b_example_key"),
    "expired": SECRET.format("a", "$over_crt", "$over_key"),
}


@dataclass(slots=True)
class Callers:
    """Fresh connections to both hosts, one after the other."""

    rig: Rig
    good: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    async def ask(self, host: str) -> Reply:
        return await self.rig.ask(port="gwtls", host=host, tls=trusting(self.rig.path("roots.pem")))

    async def run(self, host: str) -> None:
        while True:
            back = await self.ask(host)
            if (back.status, back.certificate) == (200, (host,)):
                self.good[host] += 1
            else:
                self.bad.append(f"{time.strftime('%X')} {host}: {back}")
            await asyncio.sleep(0.02)

    async def more(self, count: int) -> None:
        """Wait for so many further answers of each host."""
        wanted = {host: self.good[host] + count for host in HOSTS}

        async def come() -> bool:
            return bool(self.bad) or all(self.good[host] >= wanted[host] for host in HOSTS)

        await until(come, "more answers", 20)
        assert self.bad == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def callers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callers]:
    async with rigs.running(Path(tmp_path_factory.mktemp("rig"))) as rig:
        ended = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
        rig.strangers.issue("over", ends=ended)
        rig.texts |= pki.encoded(rig.folder, "over")
        await rig.settle(rig.read(GATEWAY + OWN + GOOD))
        made = Callers(rig)
        tasks = [asyncio.create_task(made.run(host)) for host in HOSTS]
        yield made
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def told(rig: Rig) -> list[str]:
    return [finding for finding in rig.findings() if " spec.servers: Secret a in default" in finding]


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_a_secret_was_serves_on_is_told_and_gives_way_to_a_good_one(callers: Callers, fault: str) -> None:
    rig = callers.rig
    await callers.more(5)
    await rig.settle(rig.read(GATEWAY + OWN + FAULTS[fault]))
    await callers.more(10)
    (said,) = told(rig)
    assert said.endswith("its version before goes on serving")

    before = rig.roots.issue("a.example").serial_number
    rig.texts |= pki.encoded(rig.folder, "a.example")
    documents = rig.read(GATEWAY + OWN + GOOD)
    started = time.monotonic()
    await rig.settle(documents)
    while await shown(rig) != before:
        assert time.monotonic() - started < MENDED
    assert told(rig) == []
    await callers.more(5)


async def shown(rig: Rig) -> int:
    """The serial number of a.example's certificate as a new connection has it."""
    context = trusting(rig.path("roots.pem"))
    _, writer = await asyncio.open_connection("127.0.0.1", rig.ports["gwtls"], ssl=context, server_hostname="a.example")
    with contextlib.closing(writer):
        return int(writer.get_extra_info("ssl_object").getpeercert()["serialNumber"], 16)
