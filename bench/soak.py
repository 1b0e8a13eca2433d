"""``python -m bench.soak``: hours of changes, and whether memory, tasks and file descriptors stay flat (FT56, FT57).

istiod is a process of its own that reads a folder and serves over mTLS. Services come and go with their pods, endpoints
flap, rules and policies change, proxies leave and come back, some with nothing in their hands, and certificates are
signed. At the end all that was made is deleted: then istiod has to be as it was before, and every proxy has to hold
what an istiod that has just started gives to a proxy that has just started.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import pathlib
import random
import re
import ssl
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import identities, processes, signings, world
from bench.churn import SIZE, Churn
from bench.folder import Folder
from bench.processes import BenchError, Istiod
from istiod.ca import tokens
from protos import ca_pb2
from tests.istiod.crowd import Member

RATE: Final = 50
"""Changes in a second."""
SLOPE: Final = 100.0
"""Bytes a second that memory may grow by after the first hour (row FT56)."""
LONG: Final = 2 * 3600.0
"""Seconds from which a run is judged by that slope: in less, a page more or less is a slope."""
GROWTH: Final = 0.05
"""Part of itself that memory may grow by in a shorter run, after its first third."""
WAVES: Final = 3
"""Tasks and descriptors by which two peaks may differ: who comes and goes is drawn."""
LINGER: Final = 80.0
"""Seconds after which nothing of what went is on its way out: clusters stay for 60 s (istiod.ads.stream), proxies that
went without a word for 15 (istiod.ads.holders)."""
PATIENCE: Final = 60.0
"""Seconds in which a proxy that has just started has all."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_FIGURES: Final = {
    "tasks": "python_asyncio_tasks",
    "descriptors": "process_open_fds",
    "kept": "xds_cache_size",
    "proxies": "pilot_xds{",
}


Held = dict[str, dict[str, str]]
"""Versions that a proxy has, by type URL and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """istiod at one moment. ``at``: seconds since the changes began; ``rss`` in bytes; ``kept``: compiled resources.

    ``changes``: how many there had been.
    """

    at: float
    rss: float
    tasks: int
    descriptors: int
    kept: int
    proxies: int
    changes: int = 0

    def __str__(self) -> str:
        return (
            f"{self.rss / 2**20:.1f} MB, {self.tasks} tasks, {self.descriptors} descriptors,"
            f" {self.kept} resources, {self.proxies} proxies"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run came to. ``wrong`` is empty where all stayed as it was."""

    lines: tuple[str, ...]
    wrong: tuple[str, ...]


def seconds(text: str) -> float:
    """``90s``, ``20m`` or ``8h`` in seconds.

    Raises:
        ValueError: it is no such time.
    """
    found = re.fullmatch(r"([1-9]\d*)([smh])", text)
    if found is None:
        raise ValueError(f"{text} is no time such as 90s, 20m or 8h")
    return float(int(found[1]) * _UNITS[found[2]])


def slope(samples: Sequence[Sample]) -> float:
    """Bytes a second by which memory grew, by least squares."""
    count = len(samples)
    at = sum(each.at for each in samples) / count
    rss = sum(each.rss for each in samples) / count
    spread = sum((each.at - at) ** 2 for each in samples)
    return sum((each.at - at) * (each.rss - rss) for each in samples) / spread if spread else 0.0


def settled(samples: Sequence[Sample]) -> float:
    """From when on nothing may grow: a third of the changes, not of the time: a busy machine takes few of them."""
    if samples[-1].at >= LONG:
        return 3600.0
    return next(each.at for each in samples if each.changes >= samples[-1].changes / 3)


def judge(samples: Sequence[Sample], before: Sample, after: Sample) -> Iterator[str]:
    """What did not stay as it was. The first hour, in shorter runs the first third, is for caches to fill."""
    length = samples[-1].at
    begin = settled(samples)
    late = [each for each in samples if each.at >= begin]
    grows = slope(late)
    if length >= LONG and grows > SLOPE:
        yield f"memory grows by {grows:.0f} bytes a second"
    grown = grows * (length - begin) / late[0].rss
    if length < LONG and grown > GROWTH:
        yield f"memory grew by {grown:.1%} after the first third"
    middle = [each for each in late if each.at < begin + (length - begin) / 2]
    for name in ("tasks", "descriptors"):
        earlier, later = (max((getattr(each, name) for each in part), default=0) for part in (middle, late))
        if later > earlier + WAVES:
            yield f"{name}: at most {earlier} in the middle, {later} later"
        if getattr(after, name) != getattr(before, name):
            yield f"{name}: {getattr(before, name)} at rest before, {getattr(after, name)} after"
    if after.kept != before.kept:
        yield f"compiled resources: {before.kept} before, {after.kept} after"


async def every(pause: float, part: Callable[[], Awaitable[None]], end: float) -> None:
    """Do ``part`` each ``pause`` seconds until the monotonic time ``end``.

    What a busy machine does not come to is left out: made up for, a run of minutes would take hours there.
    """
    due = time.monotonic() + pause
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await part()
        due = max(due + pause, time.monotonic())


class Soak:
    """One run."""

    def __init__(self, home: pathlib.Path, seed: int, say: Callable[[str], None]) -> None:
        self._home = home
        self._say = say
        self._chance = random.Random(seed)  # noqa: S311 (changes are drawn, no keys)
        self._folder = Folder(home / "config")
        self._folder.fill(SIZE)
        self.churn = Churn(self._folder, seed)
        identities.write(home, {(said["ns"], said["sa"]) for said in world.nodes(SIZE)})
        self._members = [self._member(said) for said in world.nodes(SIZE)]
        self._stays: list[asyncio.Task[None]] = []
        self._istiod = Istiod(home, self._folder.flags(home))
        self._began = time.monotonic()
        self.signed = self.unsigned = 0
        self.reconnects = 0

    async def run(self, length: float) -> Verdict:
        """Change for so many seconds, then look.

        Raises:
            BenchError: istiod ended, or does not come to rest.
        """
        try:
            await asyncio.to_thread(self._istiod.wait)
            self._stays = [asyncio.create_task(each.stay(self._port())) for each in self._members]
            await self._all_complete(self._members)
            self._warm_up()
            before = await self._rest()
            self._say(f"before: {before}")
            samples = await self._change(length)
            self.churn.restore()
            after = await self._rest()
            self._say(f"after:  {after}")
            differences = await self._truth()
        finally:
            for task in self._stays:
                task.cancel()
            await asyncio.gather(*self._stays, return_exceptions=True)
            processes.stop(self._istiod.process)
        return self._verdict(samples, before, after, differences)

    def _verdict(self, samples: Sequence[Sample], before: Sample, after: Sample, differences: list[str]) -> Verdict:
        late = [each for each in samples if each.at >= settled(samples)]
        made = self.churn.counts
        cycles = made["services that came and went"]
        most = max(each.rss for each in samples) / 2**20
        lines = (
            f"{samples[-1].at:.0f} s, {made.total() - cycles} changes, {cycles} services came and went",
            f"{self.reconnects} reconnects, {self.signed} certificates, {self.unsigned} refused or late",
            f"memory: {before.rss / 2**20:.1f} MB before, at most {most:.1f}, {after.rss / 2**20:.1f} after",
            f"memory after {settled(samples):.0f} s: {slope(late):+.0f} bytes a second",
            f"tasks {before.tasks} and {after.tasks}, descriptors {before.descriptors} and {after.descriptors}",
            f"compiled resources {before.kept} and {after.kept}; {len(differences)} differences to a fresh start",
        )
        wrong = list(judge(samples, before, after))
        if differences:
            wrong.append(f"{len(differences)} resources differ, such as {differences[0]}")
        return Verdict(lines=lines, wrong=tuple(wrong))

    def _port(self, istiod: Istiod | None = None) -> int:
        return int((istiod or self._istiod).address.rpartition(":")[2])

    def _warm_up(self) -> None:
        """What is loaded at its first use is there before anything is compared."""
        for _ in range(20):
            self.churn.step()
        self.churn.restore()
        self.churn.counts.clear()

    async def _change(self, length: float) -> list[Sample]:
        self._began = time.monotonic()
        samples: list[Sample] = []
        parts: tuple[tuple[float, Callable[[], Awaitable[None]]], ...] = (
            (1 / RATE, self._one),
            (2.0, self._reconnect),
            (1.0, self._sign),
            (max(1.0, length / 2000), lambda: self._look(samples)),
        )
        async with asyncio.TaskGroup() as tasks:
            for pause, part in parts:
                tasks.create_task(every(pause, part, self._began + length))
        return samples

    async def _one(self) -> None:
        self.churn.step()

    async def _look(self, samples: list[Sample]) -> None:
        samples.append(await self._sample())
        if len(samples) % 60 == 0:
            self._say(f"{samples[-1].at:6.0f} s: {samples[-1]}")

    async def _reconnect(self) -> None:
        at = self._chance.randrange(len(self._members))
        self._stays[at].cancel()
        await asyncio.gather(self._stays[at], return_exceptions=True)
        if self._chance.random() < 0.5:
            self._members[at] = self._member(self._members[at].said)
        self._stays[at] = asyncio.create_task(self._members[at].stay(self._port()))
        self.reconnects += 1

    async def _sign(self) -> None:
        said = self._chance.choice(self._members).said
        stem = self._home / "clients" / f"{said['ns']}.{said['sa']}.key"
        key = serialization.load_pem_private_key(stem.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 (bench.identities made it)
        account = tokens.Account(namespace=said["ns"], service_account=said["sa"])
        token = tokens.mint(key, account, dt.datetime.now(dt.UTC))
        credentials = grpc.ssl_channel_credentials((self._home / "root.pem").read_bytes())
        async with grpc.aio.secure_channel(self._istiod.address, credentials) as channel:
            create = channel.unary_unary(
                signings.METHOD,
                request_serializer=ca_pb2.IstioCertificateRequest.SerializeToString,
                response_deserializer=ca_pb2.IstioCertificateResponse.FromString,
            )
            request = ca_pb2.IstioCertificateRequest(csr=signings.csr(), validity_duration=86_400)
            try:
                await create(request, metadata=(("authorization", f"Bearer {token}"),), timeout=60)
            except grpc.aio.AioRpcError:  # an agent asks again: of a machine without time, too
                self.unsigned += 1
            else:
                self.signed += 1

    async def _sample(self) -> Sample:
        self._istiod.check()
        text = await asyncio.to_thread(_read, self._istiod.ready_url.replace("/ready", "/metrics"))
        found = {name: int(_value(text, metric)) for name, metric in _FIGURES.items()}
        rss = processes.rss(self._istiod.process.pid) * 2**20
        return Sample(at=time.monotonic() - self._began, rss=rss, changes=self.churn.counts.total(), **found)

    async def _rest(self) -> Sample:
        """A look when all are connected, nothing lingers any more, and two looks in a row are alike."""
        last, end = None, time.monotonic() + 300 + LINGER
        await asyncio.sleep(LINGER)
        while time.monotonic() < end:
            await asyncio.sleep(10)
            now = await self._sample()
            shape = (now.tasks, now.descriptors, now.kept, now.proxies)
            if shape == last and now.proxies == SIZE.proxies:
                return now
            last = shape
        raise BenchError(f"istiod does not come to rest: {last}")

    async def _truth(self) -> list[str]:
        """Resources that a proxy holds otherwise than one that starts now, at an istiod that starts now, would."""
        other = self._home / "other"
        other.mkdir()
        for part in ("ca", "token.pem"):
            (other / part).symlink_to(self._home / part)
        fresh = Istiod(other, self._folder.flags(other))
        try:
            await asyncio.to_thread(fresh.wait)
            members = [self._member(each.said) for each in self._members]
            stays = [asyncio.create_task(each.stay(self._port(fresh))) for each in members]
            await self._all_complete(members)
            differences = await self._compared(members)
            for task in stays:
                task.cancel()
            await asyncio.gather(*stays, return_exceptions=True)
        finally:
            processes.stop(fresh.process)
        return differences

    async def _compared(self, fresh: Sequence[Member]) -> list[str]:
        """Differences that stay: what names only what came last is still on its way to those that are fresh."""
        end = time.monotonic() + PATIENCE
        while True:
            pairs = zip(self._members, fresh, strict=True)
            found = [each for one, other in pairs for each in _differences(one.held, other.held)]
            if not found or time.monotonic() > end:
                return found
            await asyncio.sleep(1)

    async def _all_complete(self, members: Sequence[Member]) -> None:
        async with asyncio.timeout(300):
            for each in members:
                await each.complete.wait()

    def _member(self, said: Mapping[str, Any]) -> Member:
        stem = str(self._home / "clients" / f"{said['ns']}.{said['sa']}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self._home / "root.pem")
        context.load_cert_chain(f"{stem}.crt", f"{stem}.key")
        context.set_alpn_protocols(["h2"])
        return Member(said=said, address="", context=context)


def _differences(one: Held, other: Held) -> Iterator[str]:
    """Type and name of each resource that the two hold otherwise."""
    for kind in one.keys() | other.keys():
        ours, theirs = one.get(kind, {}), other.get(kind, {})
        for name in ours.keys() | theirs.keys():
            if ours.get(name) != theirs.get(name):
                yield f"{kind.rpartition('.')[2]} {name}: {ours.get(name)}, at a fresh start {theirs.get(name)}"


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 (our own URL on loopback)
        return str(answer.read().decode())


def _value(text: str, metric: str) -> float:
    """The sum of a metric's samples."""
    lines = (line for line in text.splitlines() if line.startswith(metric))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def run(length: float, seed: int, say: Callable[[str], None]) -> Verdict:
    """One run in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="soak-") as place:

        async def whole() -> Verdict:
            return await Soak(pathlib.Path(place), seed, say).run(length)

        return asyncio.run(whole())


def main() -> int:
    """Run; 1 where something grew or differs."""
    top = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    top.add_argument("length", nargs="?", default="8h", type=seconds, help="such as 90s, 20m, 8h")
    top.add_argument("--seed", type=int, default=1)
    asked = top.parse_args()
    try:
        verdict = run(asked.length, asked.seed, lambda line: print(line, flush=True))
    except (BenchError, TimeoutError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    print(*verdict.lines, *(f"WRONG: {each}" for each in verdict.wrong), sep="\n")
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
