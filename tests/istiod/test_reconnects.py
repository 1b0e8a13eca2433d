"""A thousand proxies that come at once: at the start, to a peer when their istiod dies, and from one address (FT13)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import statistics
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import identities, processes, world
from bench.folder import Folder
from bench.processes import Istiod
from tests import figures
from tests.istiod.crowd import Member
from wire import names

SMALL = world.Size(services=100, endpoints=2, proxies=200)
LARGE = world.Size(services=200, endpoints=5, proxies=1_000)
PATIENCE = 300.0
"""Seconds for all of a thousand on a machine that does much else: the bounds are on CPU, and the times are said."""
CPU = 0.06
"""Seconds of CPU that a proxy may cost the server: three times what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What it took until everybody was served. Seconds and MB.

    ``silence``: the most CPU that the server used while somebody else waited for an answer.
    """

    waits: list[float]
    cpu: float
    rss: float
    silence: float
    refused: int

    def __str__(self) -> str:
        count = len(self.waits)
        return (
            f"{count} served after p50 {statistics.median(self.waits):.1f} s, last {max(self.waits):.1f} s,"
            f" {self.cpu / count * 1e3:.1f} ms of CPU each, RSS at most {self.rss:.0f} MB,"
            f" {self.refused} tries refused, {self.silence:.2f} s of CPU at most before somebody else was answered"
        )


class Bystander:
    """Somebody else who asks the server something all the time, from a thread of its own.

    ``longest`` is the most CPU (seconds) that the server used before it answered: unlike time, that depends on nobody.
    """

    def __init__(self, istiod: Istiod) -> None:
        self._url, self._pid = istiod.ready_url, istiod.process.pid
        self._over = threading.Event()
        self.longest = 0.0

    @contextlib.contextmanager
    def asking(self) -> Iterator[Bystander]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.05):
            since = processes.cpu(self._pid)
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(self._url, timeout=60) as answer,  # noqa: S310 (our own URL on loopback)
            ):
                answer.read()
            self.longest = max(self.longest, processes.cpu(self._pid) - since)


class Crowd:
    """The proxies, where they are, and what they come to."""

    def __init__(self, home: Path, size: world.Size) -> None:
        contexts: dict[tuple[str, str], ssl.SSLContext] = {}
        self.members: list[Member] = []
        for number, said in enumerate(world.nodes(size)):
            identity = (said["ns"], said["sa"])
            if identity not in contexts:
                contexts[identity] = _context(home, *identity)
            address = f"127.1.{number // 250}.{number % 250 + 1}"
            self.members.append(Member(said=said, address=address, context=contexts[identity]))
        self._stays: list[asyncio.Task[None]] = []

    def join_addresses(self) -> None:
        """From now on all come from one address, as from behind a gateway."""
        for member in self.members:
            member.address = ""

    async def leave(self) -> None:
        """All connections are lost at once."""
        for task in self._stays:
            task.cancel()
        await asyncio.gather(*self._stays, return_exceptions=True)
        self._stays.clear()

    async def come(self, istiod: Istiod, served: Callable[[Member], Awaitable[object]]) -> Storm:
        """All come at once; each is served when ``served`` ends."""
        for member in self.members:
            member.forget()
        pid, port = istiod.process.pid, int(istiod.address.rpartition(":")[2])
        before, since = processes.cpu(pid), time.monotonic()

        async def wait(member: Member) -> float:
            await served(member)
            return time.monotonic() - since

        with Bystander(istiod).asking() as bystander:
            self._stays = [asyncio.create_task(member.stay(port)) for member in self.members]
            async with asyncio.timeout(PATIENCE):
                waits = await asyncio.gather(*(wait(member) for member in self.members))
            peak = processes.peak_rss(pid)
        return Storm(
            waits=sorted(waits),
            cpu=processes.cpu(pid) - before,
            rss=peak,
            silence=bystander.longest,
            refused=sum(len(member.refused) for member in self.members),
        )


def _context(home: Path, namespace: str, account: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(home / "root.pem")
    stem = str(home / "clients" / f"{namespace}.{account}")
    context.load_cert_chain(f"{stem}.crt", f"{stem}.key")
    context.set_alpn_protocols(["h2"])
    return context


@contextlib.asynccontextmanager
async def replicas(home: Path, folder: Folder) -> AsyncIterator[tuple[Istiod, Istiod]]:
    """Two control planes of one folder and one root."""
    other = home / "other"
    other.mkdir()
    for name in ("ca", "token.pem"):
        (other / name).symlink_to(home / name)
    with contextlib.ExitStack() as stack:
        made = []
        for place in (home, other):
            made.append(Istiod(place, folder.flags(place)))
            stack.callback(processes.stop, made[-1].process)
        for each in made:
            await asyncio.to_thread(each.wait)
        yield made[0], made[1]


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SMALL, marks=[pytest.mark.timeout(300)]),
        pytest.param(LARGE, marks=[pytest.mark.long, pytest.mark.timeout(1_200)]),
    ],
    ids=str,
)
async def test_all_proxies_that_come_at_once_are_served_and_get_only_what_they_lack(
    tmp_path: Path, size: world.Size
) -> None:
    identities.write(tmp_path, {(said["ns"], said["sa"]) for said in world.nodes(size)})
    folder = Folder(tmp_path / "config")
    folder.fill(size)
    async with replicas(tmp_path, folder) as (first, second):
        crowd = Crowd(tmp_path, size)
        try:
            started = await crowd.come(first, lambda member: member.complete.wait())
            figures.say(f"first: {started}")
            _check(started, size)
            whole = processes.rss(first.process.pid)
            await crowd.leave()
            first.process.kill()
            for turn, address in enumerate(("own addresses", "one address")):
                folder.put(world.CHANGES["endpoint"](size, turn, turn + 1))
                if turn:
                    crowd.join_addresses()
                storm = await crowd.come(second, lambda member: member.served.wait())
                figures.say(f"back, {address}: {storm}")
                _check(storm, size)
                assert storm.rss <= 2 * whole
                assert {tuple(member.got.items()) for member in crowd.members} == {((names.ENDPOINT, 1),)}
                assert not any(member.removed for member in crowd.members)
                await crowd.leave()
        finally:
            await crowd.leave()


def _check(storm: Storm, size: world.Size) -> None:
    assert storm.cpu <= CPU * size.proxies + 3
    assert storm.silence < 1.0
