"""A real Envoy under random changes of its target, cut streams and replaced control planes; all from one seed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from e2e.harness.ports import free_ports
from istiod.ads.server import AdsService
from istiod.ads.session import Shared
from istiod.ads.stream import Timing
from istiod.ads.subscription import Unsure
from istiod.config import resource
from istiod.config.resource import Resource, ResourceSet
from tests.ads import made, real_envoy
from tests.ads.real_envoy import RunningEnvoy
from tests.ads.serving import Running
from tests.waiting import until
from wire import names

TIMING = Timing(linger=2.5, patience=0.5, gate=2.0, hold=2.0, forgo=3.0)
"""Envoy drains for a second in these tests."""
CLUSTERS = ("c0", "c1", "c2", "c3")
FILTERS = ("x0", "x1")
"""Filters of listeners whose configurations come by discovery, as others come and go."""
Dump = dict[str, dict[str, Any]]
MESSAGES: dict[str, type[Message]] = {
    names.CLUSTER: cluster_pb2.Cluster,
    names.LISTENER: listener_pb2.Listener,
    names.ROUTE: route_pb2.RouteConfiguration,
    names.ENDPOINT: endpoint_pb2.ClusterLoadAssignment,
    names.EXTENSION: extension_pb2.TypedExtensionConfig,
}


class Link:
    """A TCP relay in front of the control plane of the moment: cuts its streams, and moves them to another one."""

    def __init__(self) -> None:
        self.target = 0
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, to = await asyncio.open_connection("127.0.0.1", self.target)
            self._open |= {writer, to}
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, to))
                both.create_task(self._pump(there, writer))
            self._open -= {writer, to}
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


def without_chains(name: str, port: int) -> Resource:
    """A listener that Envoy refuses, and can print: config_dump fails on one with an unknown type."""
    return resource.make(
        name, names.LISTENER, made.bytes_of(listener_pb2.Listener(name=name, address=made.address(port)))
    )


@dataclass
class Ground:
    """What does not change: two apps, three ports for listeners."""

    apps: tuple[int, int]
    ports: list[int]

    def draw(self, chance: random.Random) -> list[Resource]:
        """A consistent target; l0 is always there and leads somewhere."""
        clusters = sorted(chance.sample(CLUSTERS, chance.randint(1, len(CLUSTERS))))
        found = [made.cluster(name, timeout=float(chance.randint(1, 3))) for name in clusters]
        found += [made.endpoints(name, chance.choice(self.apps)) for name in clusters]
        found += [made.route(name, chance.choice(clusters)) for name in ("r0", "r1")]
        found += [made.mutation(name, chance.choice("abc")) for name in FILTERS]
        for at in (0, 1, 2):
            if at == 0 or chance.random() < 0.5:
                filters = chance.sample(FILTERS, chance.choice((0, 0, 1, 2)))
                found.append(made.listener(f"l{at}", self.ports[at], chance.choice(("r0", "r1")), *filters))
        if chance.random() < 0.2:
            found.append(without_chains("bad", self.ports[3]))
        return found


@dataclass
class Sequence:
    """One seed's life: an Envoy, one control plane after another, and what went wrong for its requests."""

    seed: int
    delta: bool
    ground: Ground
    link: Link
    shared: dict[tuple[str, str, str], Resource] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    async def start_server(self, target: list[Resource]) -> None:
        self.configuration = made.Fixed(made.targets(*self.same(target)))
        self.server = AdsService(self.configuration, time.monotonic, shared=Shared(timing=TIMING))
        self.running = Running(self.server)
        self.link.target = self.running.port

    def same(self, resources: list[Resource]) -> list[Resource]:
        """Equal resources as the same objects, as the compiler gives them."""
        return [self.shared.setdefault((r.type_url, r.name, r.version), r) for r in resources]

    async def run(self, envoy: RunningEnvoy) -> None:
        chance = random.Random(self.seed)
        await until(lambda: envoy.answers_ok(self.ground.ports[0]), "the first configuration")
        requests = asyncio.create_task(self._requests())
        for _ in range(chance.randint(3, 7)):
            await asyncio.sleep(chance.choice((0.0, 0.01, 0.05, 0.3)))  # drawn, like the events
            await self._event(chance)
        await self._compare(envoy)
        requests.cancel()
        assert not self.failures, f"seed {self.seed}: {self.failures[:5]} of {len(self.failures)}"
        assert await envoy.total("no_cluster") == 0, f"seed {self.seed}: 503 NC"

    async def _event(self, chance: random.Random) -> None:
        event = chance.choices(("change", "cut", "replace"), (6, 2, 2))[0]
        if event == "change":
            self.configuration.set(*self.same(self._draw(chance)))
            return
        await self._calm()
        streams = set(self.server._connections)
        if event == "replace":
            before, streams = self.running, set()
            now = [r for t in self.configuration.target.layers for r in self.configuration.target.of(t)]
            other = self.delta and chance.random() < 0.5
            await self.start_server(self._draw(chance) if other else now)
            await before.stop(0.1)
        self.link.cut()
        if not self.delta:  # what vanishes before its first answers vanishes at once (docs/limits.md)
            await until(lambda: self._is_back(streams), "it is back")

    def _is_back(self, before: set[int]) -> bool:
        now = self.server._connections.keys()
        return bool(now) and not now & before and self._all_is_said()

    def _draw(self, chance: random.Random) -> list[Resource]:
        """A target. A cluster whose refusal names nobody is for delta only (docs/limits.md)."""
        found = self.ground.draw(chance)
        if chance.random() < 0.1 and self.delta:
            found.append(made.cluster("bad", timeout=-1.0))
        return found

    async def _calm(self) -> None:
        """Wait while a refusal is under way: what Envoy has of it is not said after a reconnect."""
        if not self.delta:
            await until(self._all_is_said, "nothing is under way")
            return
        await until(lambda: not self._refusing(), "the guilty one is found")

    def _refusing(self) -> bool:
        """Whether the bad one is on its way, or another of a refused response; the target may be without it by now."""
        streams = [c.session._stream for c in self.server._connections.values()]
        return any(
            any("bad" in flight.items for flight in sub.flights)
            or any(isinstance(held, Unsure) for held in sub.overlay.values())
            for stream in streams
            for sub in stream.subscriptions.values()
        )

    def _all_is_said(self) -> bool:
        streams = [c.session._stream for c in self.server._connections.values()]
        return all(
            names.ROUTE in stream.subscriptions
            and not any(sub.flights or sub.search.groups for sub in stream.subscriptions.values())
            and not any(
                name != "bad" and stream.target.get(sub.type_url, name) is not None
                for sub in stream.subscriptions.values()
                for name in sub.overlay
            )
            for stream in streams
        )

    async def _requests(self) -> None:
        """One request after another, on a kept connection and on new ones."""
        url = f"http://127.0.0.1:{self.ground.ports[0]}/"
        new = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession() as kept, aiohttp.ClientSession(connector=new) as fresh:
            while True:
                for http in (kept, fresh):
                    await self._request(http, url, strict=http is fresh)
                await asyncio.sleep(0.01)  # their rate

    async def _request(self, http: aiohttp.ClientSession, url: str, *, strict: bool) -> None:
        try:
            async with http.get(url) as response:
                if response.status != 200:
                    self.failures.append(f"{time.monotonic():.2f} {response.status} {await response.text()}")
        except aiohttp.ClientError as error:
            if strict:  # a kept connection may close between two requests
                self.failures.append(repr(error))

    async def _compare(self, envoy: RunningEnvoy) -> None:
        wanted = expected(self.configuration.target)
        got: Dump = {}

        async def equal() -> bool:
            nonlocal got
            got = await dumped(envoy)
            return got == wanted

        try:
            await until(equal, "the target is served")
        except AssertionError as error:
            differ = {kind: (wanted[kind], got[kind]) for kind in wanted if wanted[kind] != got[kind]}
            raise AssertionError(f"seed {self.seed}, delta={self.delta}: wanted and got {differ}") from error


def expected(target: ResourceSet) -> Dump:
    """What Envoy should show of a target, in ``dumped``'s terms. What no listener asks for by name is not there."""
    found = {kind: {r.name: _plain(r) for r in target.of(kind) if r.name != "bad"} for kind in MESSAGES}
    for kind in (names.ROUTE, names.EXTENSION):
        used = target.named(kind, names.LISTENER)
        found[kind] = {name: each for name, each in found[kind].items() if name in used}
    found[names.ENDPOINT] = {name: _ports(found[names.ENDPOINT][name]) for name in found[names.CLUSTER]}
    return found


def _plain(made_resource: Resource) -> Any:
    (framed,) = discovery_pb2.DiscoveryResponse.FromString(made_resource.any_frame).resources
    message = MESSAGES[made_resource.type_url].FromString(framed.value)
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _ports(assignment: Any) -> Any:
    return [
        endpoint["endpoint"]["address"]["socket_address"]["port_value"]
        for locality in assignment.get("endpoints", ())
        for endpoint in locality["lb_endpoints"]
    ]


async def dumped(envoy: RunningEnvoy) -> Dump:
    """What Envoy serves. Whatever is still warming stands under a name of its own."""
    dump = json.loads(await envoy.admin("/config_dump?include_eds"))
    clusters, listeners, routes, endpoints, extensions = (
        next((c for c in dump["configs"] if c["@type"].endswith(f".{kind}ConfigDump")), {})
        for kind in ("Clusters", "Listeners", "Routes", "Endpoints", "Ecds")
    )
    return {
        names.CLUSTER: _named(clusters, "dynamic_active_clusters", "cluster")
        | {f"warming {name}": c for name, c in _named(clusters, "dynamic_warming_clusters", "cluster").items()},
        names.LISTENER: {
            f"{prefix}{each['name']}": _untyped(each[state]["listener"])
            for each in listeners.get("dynamic_listeners", ())
            for state, prefix in (("active_state", ""), ("warming_state", "warming "))
            if state in each
        },
        names.ROUTE: _named(routes, "dynamic_route_configs", "route_config"),
        names.EXTENSION: _named(extensions, "ecds_filters", "ecds_filter"),
        names.ENDPOINT: {
            each["endpoint_config"]["cluster_name"]: _ports(each["endpoint_config"])
            for each in endpoints.get("dynamic_endpoint_configs", ())
        },
    }


def _named(config: Any, group: str, kind: str) -> dict[str, Any]:
    return {each[kind]["name"]: _untyped(each[kind]) for each in config.get(group, ())}


def _untyped(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if name != "@type"}


@contextlib.asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    async with real_envoy.app("one") as one, real_envoy.app("two") as two:
        yield Ground((one, two), free_ports(4))


async def play(seed: int, folder: Path, *, delta: bool) -> None:
    """One sequence from the first configuration to the comparison with the last target."""
    link = Link()
    async with ground() as there, link.listening() as port:
        sequence = Sequence(seed, delta, there, link)
        await sequence.start_server(there.draw(random.Random(-seed)))
        try:
            async with real_envoy.envoy(folder, port, delta=delta) as envoy:
                await sequence.run(envoy)
        finally:
            await sequence.running.stop(0.1)
