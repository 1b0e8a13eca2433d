"""``python -m bench.attackers KIND``: clients of a control plane that mean no good, for ``bench.floods``.

A process of its own, so that what they cost is counted apart, and at a lower priority than the control plane: what is
measured is what istiod does about them, not how two programs share a machine. All but those of the raw handshakes have
certificates of the mesh, each kind from a few addresses of loopback. What they did is written to a file now and then.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import os
import pathlib
import secrets
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import hpack
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from bench import world
from istiod.grpcserver import frames
from tests.grpcserver.wire import HEAD, message, parse
from tests.istiod.crowd import METHOD, Member, Stream
from wire import names

NICE: Final = 10
ADDRESSES: Final = 8
"""How many addresses of loopback the attackers of a kind come from."""
BURST: Final = 2_000
"""Frames of a flood at once: twice what istiod's budget takes."""
CALLS: Final = 190
"""Calls over a connection: a few more, and istiod ends it."""
SPEED: Final = 1_000
"""Bytes a second that a slow client takes."""
NAMES: Final = 20_000
"""Names in a huge request: as many as may be."""
_PERIOD, _CHANCE = 0.25, secrets.SystemRandom()
_FLOODS: Final[Mapping[str, bytes]] = {
    "pings": frames.frame(frames.PING, 0, 0, bytes(8)),
    "settings": frames.settings({}),
    "empties": frames.frame(frames.DATA, 0, 1),
    "windows": frames.window_update(0, 1),
}


@dataclass(slots=True, kw_only=True)
class Attack:
    """Where to, and as whom: the pods of a world from the ``first`` on. ``tally`` counts what was done."""

    home: pathlib.Path
    port: int
    pages: int
    nodes: list[dict[str, Any]]
    tally: collections.Counter[str] = field(default_factory=collections.Counter)
    contexts: dict[str, ssl.SSLContext] = field(default_factory=dict)

    def node(self, number: int) -> dict[str, Any]:
        """What the attacker of this number says of itself."""
        return self.nodes[number % len(self.nodes)]

    def context(self, number: int) -> ssl.SSLContext:
        """Its certificate."""
        said = self.node(number)
        name = f"{said['ns']}.{said['sa']}"
        if name not in self.contexts:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            made.check_hostname = False
            made.load_verify_locations(self.home / "root.pem")
            stem = str(self.home / "clients" / name)
            made.load_cert_chain(f"{stem}.crt", f"{stem}.key")
            made.set_alpn_protocols(["h2"])
            self.contexts[name] = made
        return self.contexts[name]

    def to(self, number: int) -> dict[str, Any]:
        """Arguments of a connection under TLS."""
        return {"ssl": self.context(number), "server_hostname": "istiod", "local_addr": (host(number), 0)}


def host(number: int) -> str:
    """The address that it comes from."""
    return f"127.2.0.{1 + number % ADDRESSES}"


def call(stream: int = 1) -> bytes:
    """The head of a call of xDS."""
    block = hpack.Encoder().encode([*HEAD[:2], (":path", METHOD), *HEAD[3:]])
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)


def first_request(said: Mapping[str, Any], **metadata: Any) -> discovery_pb2.DeltaDiscoveryRequest:
    """What an Envoy of this pod asks for first."""
    asked = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER)
    pod, space = said["pod"], said["ns"]
    asked.node.id = f"sidecar~{said['ip']}~{pod}.{space}~{space}.svc.cluster.local"
    told = {"NAMESPACE": space, "LABELS": said["labels"], "SERVICE_ACCOUNT": said["sa"], **metadata}
    json_format.ParseDict(told, asked.node.metadata)
    return asked


class Still(asyncio.Protocol):
    """A delta stream with a window of nothing: it answers pings and takes what it is told to take."""

    def __init__(self, attack: Attack, number: int) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken = 0
        self._asked = first_request(attack.node(number)).SerializeToString()
        self._raw = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Call, and ask for clusters."""
        self._transport = cast("asyncio.Transport", transport)
        opening = frames.PREFACE + frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0})
        self._transport.write(opening + call() + frames.frame(frames.DATA, 0, 1, message(self._asked)))

    def take(self, count: int) -> None:
        """Let so many more bytes come."""
        self._transport.write(frames.window_update(0, count) + frames.window_update(1, count))

    def data_received(self, data: bytes) -> None:
        """Answer what asks whether it is there."""
        found, self._raw = parse(self._raw + data)
        for frame in found:
            if frame.kind == frames.DATA:
                self.taken += len(frame.payload)
            elif frame.kind in {frames.SETTINGS, frames.PING} and not frame.flags:
                payload = frame.payload if frame.kind == frames.PING else b""
                self._transport.write(frames.frame(frame.kind, frames.ACK, 0, payload))

    def connection_lost(self, _: Exception | None) -> None:
        """It was cut."""
        if not self.over.done():
            self.over.set_result(None)


async def _still(attack: Attack, number: int, speed: int) -> None:
    made, to = Still(attack, number), attack.to(number)
    _, client = await asyncio.get_running_loop().create_connection(lambda: made, "127.0.0.1", attack.port, **to)
    since = time.monotonic()
    attack.tally["connected"] += 1
    while not client.over.done():
        if speed:
            client.take(speed)
        await asyncio.wait((client.over,), timeout=1.0)
    attack.tally["cut"] += 1
    attack.tally["connected"] -= 1
    attack.tally["longest_ms"] = max(attack.tally["longest_ms"], int((time.monotonic() - since) * 1e3))
    await asyncio.sleep(_CHANCE.uniform(0.5, 1.5))


async def stuck(attack: Attack, number: int) -> None:
    """Answers pings and reads nothing (FT14); cut, it comes back as an Envoy does."""
    await _still(attack, number, 0)


async def slow(attack: Attack, number: int) -> None:
    """Takes a kilobyte a second (FT15)."""
    await _still(attack, number, SPEED)


async def half(attack: Attack, number: int) -> None:
    """A handshake that never ends (SEC24)."""
    opened = await asyncio.open_connection("127.0.0.1", attack.port, local_addr=(host(number), 0))
    await _held(attack, opened, b"\x16\x03\x01\x02\x00\x01")


async def idle(attack: Attack, number: int) -> None:
    """A connection without a call (SEC24)."""
    opened = await asyncio.open_connection("127.0.0.1", attack.port, **attack.to(number))
    await _held(attack, opened, frames.PREFACE + frames.settings({}))


async def _held(attack: Attack, opened: tuple[asyncio.StreamReader, asyncio.StreamWriter], said: bytes) -> None:
    reader, writer = opened
    writer.write(said)
    attack.tally["connected"] += 1
    with contextlib.suppress(OSError):
        while await reader.read(4_096):
            pass
    attack.tally["connected"] -= 1
    attack.tally["cut"] += 1
    writer.close()
    await asyncio.sleep(_CHANCE.uniform(0.5, 1.5))


async def shakes(attack: Attack, number: int) -> None:
    """One handshake after the other."""
    await _said(attack, number, b"")


async def refused(attack: Attack, number: int) -> None:
    """More calls of one identity than there may be, without a request (SEC24)."""
    said = b"".join(call(1 + 2 * each) for each in range(CALLS))
    await _said(attack, 0, frames.PREFACE + frames.settings({}) + said, host(number), CALLS)


async def resets(attack: Attack, number: int) -> None:
    """Calls that are given up at once: rapid reset (SEC26)."""
    said = b"".join(call(1 + 2 * each) + frames.reset(1 + 2 * each, frames.ErrorCode.CANCEL) for each in range(CALLS))
    await _said(attack, number, frames.PREFACE + frames.settings({}) + said)


def flood(kind: str) -> Callable[[Attack, int], Awaitable[None]]:
    """Frames that cost their sender nothing, until the connection is ended (SEC26)."""

    async def run(attack: Attack, number: int) -> None:
        said = frames.PREFACE + frames.settings({}) + call() + _FLOODS[kind] * BURST
        await _said(attack, number, said, answers=BURST)

    return run


async def _said(attack: Attack, number: int, said: bytes, address: str = "", answers: int = 0) -> None:
    """Say it and read until the server ends it, or has nothing to say for a while; then come again."""
    to = attack.to(number) | ({"local_addr": (address, 0)} if address else {})
    reader, writer = await asyncio.open_connection("127.0.0.1", attack.port, **to)
    attack.tally["connections"] += 1
    attack.tally["connected"] = attack.tally["connections"]
    try:
        if said:
            writer.write(said)
            attack.tally["frames"] += answers or CALLS
            async with asyncio.timeout(1.0):
                while await reader.read(65_536):
                    pass
                attack.tally["ended"] += 1
    except (OSError, TimeoutError):
        attack.tally["broken"] += 1
    finally:
        writer.transport.abort()


class Attacker(Member):
    """A client with a call of its own that asks for clusters, and does harm then."""

    attack: Attack

    def begin(self, stream: Stream) -> None:
        """Ask for clusters."""
        self.stream = stream
        self.attack.tally["connected"] += 1
        stream.say(first_request(self.said))


class Refuser(Attacker):
    """Refuses what it gets, and says so again and again (FT17)."""

    def hear(self, stream: Stream, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        """Refuse it."""
        self.attack.tally["responses"] += 1
        stream.say(_refusal(response.type_url, response.nonce))

    async def repeat(self) -> None:
        """A refusal of nothing, ninety times a second: a few less than it may say."""
        for number in itertools.count():
            await asyncio.sleep(1 / 90)
            if (stream := self.stream) is not None and not stream.over.done():
                stream.say(_refusal(names.CLUSTER, f"{number}"))
                self.attack.tally["frames"] += 1


def _refusal(type_url: str, nonce: str) -> discovery_pb2.DeltaDiscoveryRequest:
    """Of a response, with many words."""
    refusal = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
    refusal.error_detail.message = "refused " + "x" * 2_000
    return refusal


async def refusals(attack: Attack, number: int) -> None:
    """See Refuser."""
    member = Refuser(said=attack.node(number), address=host(number), context=attack.context(number))
    member.attack = attack
    await asyncio.gather(member.stay(attack.port), member.repeat())


class Glutton(Attacker):
    """Asks for as many names as may be asked for, which do not exist (FT16, SEC22)."""

    def hear(self, stream: Stream, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        """It answers nothing."""

    async def repeat(self) -> None:
        """Other names each time; those before are given up."""
        for turn in itertools.count():
            await asyncio.sleep(0.5)
            if (stream := self.stream) is None or stream.over.done() or stream.waiting:
                continue
            asked = discovery_pb2.DeltaDiscoveryRequest(type_url=names.ENDPOINT)
            asked.resource_names_subscribe.extend(f"{turn}-{each:060}" for each in range(NAMES))
            asked.resource_names_unsubscribe.extend(f"{turn - 1}-{each:060}" for each in range(NAMES))
            stream.say(asked)
            self.attack.tally["frames"] += 1


async def requests(attack: Attack, number: int) -> None:
    """See Glutton."""
    member = Glutton(said=attack.node(number), address=host(number), context=attack.context(number))
    member.attack = attack
    await asyncio.gather(member.stay(attack.port), member.repeat())


async def labels(attack: Attack, number: int) -> None:
    """Values for labels and lines for the log, another each time: versions, paths, refused streams (FT60)."""
    for turn in itertools.count():
        asked = first_request(attack.node(number), ISTIO_VERSION=f"1.{number}.{turn}")
        asked.node.id = asked.node.id if turn % 2 else f"nobody-{number}-{turn}"
        said = frames.PREFACE + frames.settings({}) + call()
        said += frames.frame(frames.DATA, 0, 1, message(asked.SerializeToString()))
        await _said_once(attack, number, said)
        for each in range(50):
            await _page(attack, f"/{number}-{turn}-{each}")


async def _said_once(attack: Attack, number: int, said: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", attack.port, **attack.to(number))
    attack.tally["connected"] += 1
    writer.write(said)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await reader.read(65_536)
    writer.transport.abort()


async def _page(attack: Attack, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", attack.pages)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: istiod\r\nUser-Agent: a{path}\r\nConnection: close\r\n\r\n".encode())
    with contextlib.suppress(OSError):
        await reader.read()
    attack.tally["frames"] += 1
    writer.close()


KINDS: Final[Mapping[str, Callable[[Attack, int], Awaitable[None]]]] = {
    "stuck": stuck,
    "slow": slow,
    "half": half,
    "idle": idle,
    "shakes": shakes,
    "refused": refused,
    "resets": resets,
    **{kind: flood(kind) for kind in _FLOODS},
    "refusals": refusals,
    "requests": requests,
    "labels": labels,
}


async def run(attack: Attack, kind: str, count: int, status: pathlib.Path) -> None:
    """So many of a kind, each again and again, until cancelled."""

    async def again(number: int) -> None:
        while True:
            try:
                await KINDS[kind](attack, number)
            except OSError:
                attack.tally["turned away"] += 1
                await asyncio.sleep(_CHANCE.uniform(0.2, 0.6))

    tasks = [asyncio.create_task(again(number)) for number in range(count)]
    while not any(task.done() for task in tasks):
        beside = status.with_suffix(".new")
        beside.write_text(json.dumps(attack.tally))
        beside.replace(status)
        await asyncio.sleep(_PERIOD)
    await asyncio.gather(*tasks)  # says why


def main() -> int:
    """Until it is ended."""
    top = argparse.ArgumentParser(prog="bench.attackers", description=__doc__)
    top.add_argument("kind", choices=tuple(KINDS))
    top.add_argument("home", type=pathlib.Path, help="where the certificates are")
    top.add_argument("port", type=int)
    top.add_argument("pages", type=int, help="port of readiness and metrics")
    top.add_argument("size", type=world.parse_size, help="services,endpoints,attackers")
    top.add_argument("first", type=int, help="the first of their pods")
    top.add_argument("status", type=pathlib.Path)
    asked = top.parse_args()
    size = asked.size
    os.nice(NICE)
    pods = list(world.nodes(replace(size, proxies=size.services * size.endpoints)))[asked.first :]
    attack = Attack(home=asked.home, port=asked.port, pages=asked.pages, nodes=pods)
    asyncio.run(run(attack, asked.kind, size.proxies, asked.status))
    return 0


if __name__ == "__main__":
    sys.exit(main())
