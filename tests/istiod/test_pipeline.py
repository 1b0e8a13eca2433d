from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref
from collections.abc import AsyncIterator, Iterable
from typing import cast

import pytest
import yaml

from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from crds.parse import parse
from istiod import pace, supervision
from istiod.config.protocols import Changed
from istiod.config.proxy import Peer, Proxy
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.pace import BURST, INTERVAL, LONGEST_REST
from istiod.pipeline import Pipeline
from istiod.push import Pushed
from tests import waiting
from wire import names, node

SHOP = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.0.9], conditions: {ready: true}}]
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.2, selector: {app: api}, ports: [{name: http, port: 8000}]}
"""
MORE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.0.9]}, {addresses: [10.244.0.10]}]
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{timeout: 3s, route: [{destination: {host: web}}]}]}
"""
WEB = "outbound|80||web.shop.svc.cluster.local"


def put(store: ConfigStore, text: str) -> None:
    for document in yaml.safe_load_all(text):
        found = parse(document).object
        assert found is not None
        store.apply(found)


def proxy(name: str) -> Proxy:
    claims = node.parse(f"sidecar~10.244.0.77~{name}.shop~shop.svc.cluster.local", {"NAMESPACE": "shop"})
    return Proxy(peer=Peer(address="ipv4:127.0.0.1:1", identity=None), node=claims)


class Told:
    """What one proxy was told."""

    def __init__(self) -> None:
        self.targets: list[ResourceSet] = []
        self.changes: list[Changed | None] = []
        self.heard = asyncio.Event()

    def __call__(self, target: ResourceSet, changed: Changed | None) -> None:
        self.targets.append(target)
        self.changes.append(changed)
        self.heard.set()


class World:
    """A store and its pipeline."""

    def __init__(self) -> None:
        self.store = ConfigStore()
        self.found: list[Diagnostic] = []
        self.built = asyncio.Event()
        self.pushes: list[Pushed] = []
        self.fails = 0
        self.pipeline = Pipeline(self.store, self.report, time.monotonic, on_push=self.pushes.append)

    def open(self) -> None:
        """All is listed; what ``run`` does next is done at once."""
        self.pipeline.open()
        self.pipeline.push()

    def report(self, found: Iterable[Diagnostic]) -> None:
        if self.fails:
            self.fails -= 1
            raise ValueError("a bug")
        self.found = list(found)
        self.built.set()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    task = asyncio.create_task(made.pipeline.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(told: Told, count: int) -> None:
    async with asyncio.timeout(5):
        while len(told.targets) < count:
            told.heard.clear()
            await told.heard.wait()


async def test_nobody_is_served_before_the_sources_have_listed(world: World) -> None:
    put(world.store, SHOP)
    assert not world.pipeline.ready
    with pytest.raises(RuntimeError, match="before the sources have listed"):
        world.pipeline.subscribe(proxy("a"), Told())
    world.pipeline.open()
    assert not world.pipeline.ready, "building is the pipeline's own"
    await waiting.until(lambda: world.pipeline.ready, "ready", 5)
    told = Told()
    world.pipeline.subscribe(proxy("a"), told)
    assert told.changes == [None]
    assert told.targets[0].get(names.CLUSTER, WEB) is not None


async def test_changes_before_the_listing_wait_for_it(world: World) -> None:
    put(world.store, SHOP)
    await asyncio.sleep(0.02)
    assert world.pipeline.context is None
    world.pipeline.open()
    async with asyncio.timeout(5):
        await world.built.wait()
    assert world.pipeline.context is not None


async def test_an_endpoint_change_says_which_endpoints_and_nothing_else(world: World) -> None:
    put(world.store, SHOP)
    world.open()
    told = Told()
    world.pipeline.subscribe(proxy("a"), told)
    assert told.targets[0].get(names.ENDPOINT, WEB) is not None
    put(world.store, MORE)
    assert world.pipeline.pending
    await until(told, 2)
    assert not world.pipeline.pending
    assert told.changes[1] == {names.ENDPOINT: frozenset({WEB})}
    assert told.targets[1].layers[names.CLUSTER] == told.targets[0].layers[names.CLUSTER]


async def test_a_route_change_says_which_route(world: World) -> None:
    put(world.store, SHOP)
    world.open()
    told = Told()
    world.pipeline.subscribe(proxy("a"), told)
    put(world.store, RULE)
    await until(told, 2)
    assert told.changes[1] == {names.ROUTE: frozenset({"80"})}
    assert told.targets[1].get(names.ROUTE, "8000") is told.targets[0].get(names.ROUTE, "8000")


async def test_replicas_share_one_target(world: World) -> None:
    put(world.store, SHOP)
    world.open()
    one, two = Told(), Told()
    world.pipeline.subscribe(proxy("a"), one)
    world.pipeline.subscribe(proxy("b"), two)
    assert one.targets[0] is two.targets[0]
    put(world.store, RULE)
    await until(two, 2)
    assert one.targets[1] is two.targets[1]
    assert one.changes[1] is two.changes[1]


async def test_who_left_is_told_nothing_more(world: World) -> None:
    put(world.store, SHOP)
    world.open()
    left, stayed = Told(), Told()
    subscription = world.pipeline.subscribe(proxy("a"), left)
    world.pipeline.subscribe(proxy("b"), stayed)
    subscription.close()
    subscription.close()
    put(world.store, RULE)
    await until(stayed, 2)
    assert len(left.targets) == 1


async def test_what_was_made_for_who_left_is_gone_although_nobody_collects(world: World) -> None:
    """Fault FT56: istiod's collector comes seldom."""
    put(world.store, SHOP)
    world.open()
    told = Told()
    subscription = world.pipeline.subscribe(proxy("a"), told)
    target = weakref.ref(told.targets[0])
    gc.collect()
    gc.disable()
    try:
        subscription.close()
        told.targets.clear()
        del subscription
        assert target() is None
    finally:
        gc.enable()


async def test_an_equal_object_reaches_nobody(world: World) -> None:
    put(world.store, SHOP)
    world.open()
    told = Told()
    world.pipeline.subscribe(proxy("a"), told)
    put(world.store, SHOP)
    world.store.apply(world.store.snapshot().of("", "Service")[ConfigKey("", "Service", "shop", "web")])
    put(world.store, RULE)
    await until(told, 2)
    assert told.changes[1] == {names.ROUTE: frozenset({"80"})}


async def test_a_proxy_whose_target_cannot_be_made_keeps_nobody_else_from_theirs() -> None:
    world = World()
    put(world.store, SHOP)
    world.open()
    told = Told()

    def broken(_: ResourceSet, changed: Changed | None) -> None:
        if changed is not None:
            raise ValueError("a bug")

    for listener in (broken, told, broken):
        world.pipeline.subscribe(proxy("a"), listener)
    put(world.store, RULE)
    with pytest.raises(ExceptionGroup, match="2 proxies"):
        world.pipeline.push()
    assert told.changes == [None, {names.ROUTE: frozenset({"80"})}]


class Fickle:
    """What a proxy claims, which cannot be told at times: the target that is made of it fails."""

    def __init__(self, whole: Proxy) -> None:
        self.peer = whole.peer
        self.broken = False
        self._node = whole.node

    @property
    def node(self) -> node.Node:
        if self.broken:
            raise ValueError("a bug")
        return self._node


async def test_a_target_that_could_not_be_made_is_made_later_although_nothing_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "FIRST_PAUSE", 0.05)
    put(world.store, SHOP)
    world.open()
    told, other, fickle = Told(), Told(), Fickle(proxy("a"))
    world.pipeline.subscribe(cast("Proxy", fickle), told)
    world.pipeline.subscribe(proxy("b"), other)
    fickle.broken = True
    put(world.store, RULE)
    await until(other, 2)
    await waiting.until(lambda: len(world.pushes) > 2, "it is tried again", 5)
    assert len(told.targets) == 1
    assert [type(each) for each in world.pushes[-1].failed] == [ValueError]
    put(world.store, MORE)
    await until(other, 3)
    fickle.broken = False
    await until(told, 2)
    assert told.changes[1] == {names.ROUTE: frozenset({"80"}), names.ENDPOINT: frozenset({WEB})}
    assert not world.pushes[-1].failed
    await asyncio.sleep(0)
    count = len(world.pushes)
    put(world.store, RULE.replace("3s", "4s"))
    await until(told, 3)
    assert len(world.pushes) == count + 1, "what is whole is not made again"


async def test_a_push_that_fails_is_made_again_although_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(supervision, "RESTART_DELAY", 0.05)
    world, told = World(), Told()
    put(world.store, SHOP)
    world.open()
    world.pipeline.subscribe(proxy("a"), told)
    task = asyncio.create_task(supervision.supervise("pipeline", world.pipeline.run))
    try:
        world.fails = 2
        put(world.store, RULE)
        await until(told, 2)
        assert world.fails == 0
    finally:
        task.cancel()


def test_what_fails_again_and_again_is_made_more_and_more_seldom() -> None:
    again = pace.Again()
    assert [again.after(whole=False) for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert again.after(whole=True) is None
    assert again.after(whole=False) == 1.0


async def test_sources_that_list_again_build_nothing_anew(world: World) -> None:
    put(world.store, SHOP)
    world.pipeline.open()
    async with asyncio.timeout(5):
        await world.built.wait()
    before = world.pipeline.context
    world.pipeline.open()
    await asyncio.sleep(0.02)
    assert world.pipeline.context is before


async def test_what_is_wrong_with_objects_is_reported(world: World) -> None:
    put(world.store, SHOP)
    put(world.store, RULE.replace("host: web", "host: nobody"))
    world.open()
    assert [found.code.value for found in world.found] == ["M0103"]


async def test_what_changes_a_hundred_times_a_second_is_told_ten_times_and_its_end_too(world: World) -> None:
    put(world.store, SHOP)
    world.open()
    told = Told()
    world.pipeline.subscribe(proxy("a"), told)
    started = time.monotonic()
    for turn in range(150):
        put(world.store, MORE.replace("10.244.0.10", f"10.244.1.{turn}"))
        await asyncio.sleep(max(0.0, started + turn / 100 - time.monotonic()))  # their rate
    await asyncio.sleep(2 * INTERVAL)
    assert not world.pipeline.pending
    assert set().union(*(changed for changed in told.changes if changed is not None)) == {names.ENDPOINT}
    count, seconds = len(told.targets) - 1, time.monotonic() - started
    assert BURST < count <= seconds / INTERVAL + BURST
    assert (last := told.targets[-1].get(names.ENDPOINT, WEB)) is not None
    assert b"10.244.1.149" in last.any_frame


async def test_a_few_changes_in_a_row_are_told_at_once(world: World) -> None:
    put(world.store, SHOP)
    world.open()
    told = Told()
    world.pipeline.subscribe(proxy("a"), told)
    for turn in range(BURST):
        put(world.store, MORE.replace("10.244.0.10", f"10.244.1.{turn}"))
        await until(told, turn + 2)
    assert len(told.targets) == 1 + BURST, "none was merged"


def test_rests_between_pushes() -> None:
    rest = pace.Pace()
    assert [rest.rest(0.01 * turn, 0.01 * turn + 0.002) for turn in range(BURST + 1)] == pytest.approx(
        [0.001, 0.001, INTERVAL - 0.022, 2 * INTERVAL - 0.032]
    )
    assert rest.rest(100.0, 100.0) == 0.0, "after a quiet time all is as it was"
    assert rest.rest(100.0, 101.0) == LONGEST_REST, "a long push is followed by a rest"
