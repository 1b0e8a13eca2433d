"""Of three etcds another one leads, and one is gone for good: nothing is deleted here, and nothing is missed (FT7)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from crds.registry import KINDS
from e2e.harness import tools
from e2e.harness.controlplane import Cluster, control_plane
from e2e.harness.ports import free_ports
from e2e.harness.process import Program, running, wait
from istiod.kube.client import ApiError, KubernetesClient
from tests import figures
from tests.kube.conftest import install
from tests.kube.following import Following, following, make, until

pytestmark = [pytest.mark.apiserver, pytest.mark.long, pytest.mark.timeout(240, func_only=True)]
SPACE = "shop"
MEMBERS = 3
TRANSFERS = 5


@dataclass(frozen=True, slots=True)
class Member:
    """One etcd."""

    program: Program
    url: str

    def ask(self, path: str, **body: str) -> Any:
        """What its gateway answers; None where it does not."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())  # noqa: S310 (our own)
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310 (our own)
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def status(self) -> tuple[str, str]:
        """Its own number and its leader's; "" where there is none."""
        found = self.ask("/v3/maintenance/status") or {}
        return str(found.get("header", {}).get("member_id", "")), str(found.get("leader", ""))

    def leads(self) -> bool:
        own, leader = self.status()
        return own == leader != ""


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    """Etcds that elect a leader."""
    home, program = tmp_path_factory.mktemp("etcds"), tools.find()["etcd"]
    ports = free_ports(2 * MEMBERS)
    clients, peers = ([f"http://127.0.0.1:{port}" for port in half] for half in (ports[:MEMBERS], ports[MEMBERS:]))
    together = ",".join(f"m{number}={url}" for number, url in enumerate(peers))
    with ExitStack() as stack:
        found = []
        for number, (client, peer) in enumerate(zip(clients, peers, strict=True)):
            flags = {
                "name": f"m{number}",
                "data-dir": str(home / f"m{number}"),
                "listen-client-urls": client,
                "advertise-client-urls": client,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": together,
                "unsafe-no-fsync": "true",
                "log-level": "warn",
            }
            command = [program, *(f"--{key}={value}" for key, value in flags.items())]
            found.append(Member(stack.enter_context(running(f"m{number}", command, home / f"m{number}.log")), client))
        wait("one of them leads", lambda: any(each.leads() for each in found), [each.program for each in found])
        yield found


@pytest.fixture(scope="module")
def cluster(members: list[Member]) -> Iterator[Cluster]:
    """An API server that knows all of them."""
    with control_plane(controllers=False, flags={"etcd-servers": ",".join(each.url for each in members)}) as made:
        install(made, [info for info in KINDS.values() if info.group.endswith(".istio.io")])
        made.kubectl("create", "namespace", SPACE)
        yield made


@dataclass(slots=True)
class Writer:
    """Makes one Service after the other, and looks whether one that was seen is ever missing."""

    client: KubernetesClient
    world: Following
    made: list[str] = field(default_factory=list)
    refused: int = 0
    missed: set[str] = field(default_factory=set)

    async def run(self) -> None:
        seen: set[str] = set()
        while True:
            name = f"s{len(self.made)}"
            try:
                await make(self.client, SPACE, [name])
                self.made.append(name)
            except ApiError as error:  # while nobody leads; what was refused may be stored all the same
                self.refused += 1
                if error.status == 409:
                    self.made.append(name)
            known = self.world.names("Service", SPACE)
            self.missed |= seen - known
            seen |= known
            await asyncio.sleep(0.05)

    async def more(self, what: str) -> None:
        """Wait until some more are made, and all of these are known."""
        least = len(self.made) + 5
        await until(lambda: len(self.made) >= least, f"writes go on after {what}", 60)
        await until(lambda: set(self.made[:least]) <= self.world.names("Service", SPACE), f"all come after {what}", 60)


async def leader(members: list[Member], other_than: Member | None = None) -> Member:
    """Who leads now."""
    for _ in range(600):
        for each in members:
            if each is not other_than and await asyncio.to_thread(each.leads):
                return each
        await asyncio.sleep(0.1)  # between two looks
    raise AssertionError("nobody leads")


@contextmanager
def stopped(member: Member) -> Iterator[None]:
    os.kill(member.program.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(member.program.process.pid, signal.SIGCONT)


async def test_another_leader_and_a_member_that_is_gone_delete_nothing_and_nothing_is_missed(
    cluster: Cluster, client: KubernetesClient, members: list[Member]
) -> None:
    assert cluster.server
    async with following(client, SPACE) as world:
        await until(world.ready.is_set, "all is listed", 60)
        writer = Writer(client, world)
        writing = asyncio.create_task(writer.run())
        await writer.more("the start")
        for number in range(TRANSFERS):
            before = await leader(members)
            other = members[(members.index(before) + 1) % MEMBERS]
            before.ask("/v3/maintenance/transfer-leadership", targetID=other.status()[0])
            assert await leader(members, before) is other
            await writer.more(f"transfer {number}")
        frozen = await leader(members)
        with stopped(frozen):
            await leader(members, frozen)
            await writer.more("a leader that hangs")
        await writer.more("its return")
        gone = await leader(members)
        gone.program.process.kill()
        await leader(members, gone)
        await writer.more("a leader's end")
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
        passes = max(int(each["passes"]) for each in world.watch.status())
    assert writer.missed == set()
    figures.fault(
        "FT7",
        f"of {MEMBERS} etcds another led {TRANSFERS + 2} times (asked to, by one that hung, by one that was killed):"
        f" 0 of {len(writer.made)} objects lost, {writer.refused} writes refused meanwhile,"
        f" each kind listed at most {passes} times",
    )
