"""The loop of the watch on a simulated API; what a real API server does to it is in tests/kube."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from crds.virtual_service import VirtualService
from istiod.config.kubernetes import Event, Resource, Verb
from istiod.config.protocols import Stopper
from istiod.config.store import ConfigStore
from istiod.watch import kinds, weight
from istiod.watch.kubernetes import ClusterWatch
from istiod.watch.objects import ObjectSet
from tests.watch.cluster import PLACE, ROOT, Raw, key_of, made

PORT = {"number": 443, "name": "https", "protocol": "HTTPS"}
SERVER = {"port": PORT, "hosts": ["*"], "tls": {"mode": "SIMPLE", "credentialName": "cert"}}
FRONT = made("Gateway", "front", "ingress", spec={"servers": [SERVER]})


class Api:
    """Objects, and an open watch for each kind that is followed."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Raw]] = {}
        self._watches: dict[str, asyncio.Queue[Event]] = {}

    async def events(self, resource: Resource, stop: Stopper) -> AsyncGenerator[Event]:
        """See ObjectApi."""
        queue = self._watches[resource.kind] = asyncio.Queue()
        stop.add_done_callback(lambda _: queue.put_nowait(Event(verb=Verb.ALIVE, item={})))
        for item in self.objects.get(resource.kind, {}).values():
            yield Event(verb=Verb.PRESENT, item=item)
        yield Event(verb=Verb.LISTED, item={})
        while not stop.done():
            yield await queue.get()

    async def heads(self, resource: Resource) -> AsyncGenerator[Raw]:
        """See ObjectApi."""
        for item in self.objects.get(resource.kind, {}).values():
            yield {"metadata": item["metadata"]}

    def put(self, item: Raw) -> None:
        """Make or change an object."""
        self.objects.setdefault(item["kind"], {})[item["metadata"]["name"]] = item
        self._tell(Verb.CHANGED, item)

    def delete(self, item: Raw) -> None:
        """Delete one."""
        del self.objects[item["kind"]][item["metadata"]["name"]]
        self._tell(Verb.DELETED, item)

    def _tell(self, verb: Verb, item: Raw) -> None:
        if item["kind"] in self._watches:
            self._watches[item["kind"]].put_nowait(Event(verb=verb, item=item))


class World:
    """A store that follows a simulated API."""

    def __init__(self) -> None:
        self.api = Api()
        self.objects = ObjectSet(PLACE)
        self.store = ConfigStore()
        self.reports: list[tuple[Diagnostic, ...]] = []
        self.ready = asyncio.Event()
        self.watch = ClusterWatch(self.api, self.objects, self.store, kinds.watched(ROOT), self.reports.append)

    async def holds(self, item: Raw, *, present: bool = True) -> None:
        await until(lambda: self.store.has(key_of(item)) is present)


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def following() -> AsyncIterator[World]:
    world = World()
    task = asyncio.create_task(world.watch.run(world.ready.set))
    try:
        await asyncio.wait_for(world.ready.wait(), 10)
        yield world
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_a_secret_that_was_made_anew_while_its_gateway_was_away_is_listed_when_the_gateway_is_back() -> None:
    old, new = (made("Secret", "cert", "ingress", uid=uid, data={"tls.crt": "eA=="}) for uid in ("1", "2"))
    async with following() as world:
        world.api.put(old)
        world.api.put(FRONT)
        await world.holds(old)
        world.api.delete(FRONT)
        await world.holds(FRONT, present=False)
        world.api.delete(old)
        await world.holds(old, present=False)
        world.api.put(new)
        world.api.put(FRONT)
        await world.holds(new)


async def test_findings_are_told_when_they_change_and_when_their_namespace_is_looked_at() -> None:
    selective = made("ConfigMap", "istio", ROOT, data={"mesh": "discoverySelectors: [{matchLabels: {mesh: 'yes'}}]"})
    async with following() as world:
        world.api.put(made("Namespace", "shop", labels={"mesh": "yes"}))
        world.api.put(made("WasmPlugin", "t", spec={"url": "a"}))
        await until(lambda: world.reports and len(world.reports[-1]) == 1)
        world.api.put(selective)
        await world.holds(selective)
        world.api.put(made("Namespace", "shop", labels={"mesh": "no"}))
        await until(lambda: world.reports[-1] == ())
        world.api.put(made("Namespace", "shop", labels={"mesh": "yes"}))
        await until(lambda: len(world.reports[-1]) == 1)
        assert [len(report) for report in world.reports] == [1, 0, 1]


async def test_who_writes_statuses_has_the_findings_of_an_object_that_is_observed_at_once() -> None:
    async with following() as world:
        poison = made("WasmPlugin", "t", spec={"url": "a"})
        world.api.put(poison)
        await until(lambda: key_of(poison) in world.objects.observed)
        world.watch.tell()
        assert [found.key for found in world.reports[-1]] == [key_of(poison)]
        told = len(world.reports)
        world.watch.tell()
        assert len(world.reports) == told


def large(last: str) -> Raw:
    routes = [{"match": [{"uri": {"exact": f"/{at}"}}], "route": [TO]} for at in (*range(weight.MOST // 4), last)]
    return made("VirtualService", "large", "shop", spec={"hosts": ["web"], "http": routes})


TO = {"destination": {"host": "web"}}


async def test_versions_of_a_large_object_are_taken_in_their_order_and_equal_ones_say_nothing() -> None:
    async with following() as world:
        told: list[ConfigKey] = []
        await world.holds(FRONT, present=False)
        world.store.listen(told.append)
        key = key_of(large("a"))
        for last in ("a", "b", "b", "c"):
            world.api.put(large(last))
        small = made("VirtualService", "small", "shop", spec={"hosts": ["web"], "http": [{"route": [TO]}]})
        world.api.put(small)
        await world.holds(small)
        item = world.store.get(key)
        assert isinstance(item, VirtualService)
        assert item.spec.http[-1].match[0].uri is not None
        assert item.spec.http[-1].match[0].uri.exact == "/c"
        assert told == [key, key, key, key_of(small)]
        world.api.delete(large("c"))
        await world.holds(large("c"), present=False)


async def test_large_objects_of_others_are_left_out_and_broken_ones_are_told() -> None:
    async with following() as world:
        other = large("a")
        other["metadata"]["labels"] = {"istio.io/rev": "another"}
        world.api.put(other)
        broken = large("b")
        broken["metadata"] = {"name": "broken", "namespace": "shop"}
        broken["spec"]["hosts"] = 1
        world.api.put(broken)
        await until(lambda: any(found.key == key_of(broken) for told in world.reports for found in told))
        assert not world.store.has(key_of(other))
        assert not world.store.has(key_of(broken))
