"""Work in a thread of its own: whoever waits for it, and what is left of it (fault FT21)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import time
from collections.abc import Iterator

import pytest

from crds.parse import parse
from istiod import apart
from istiod.apart import Apart
from istiod.config.protocols import Changed
from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.pipeline import QUICK, Pipeline
from tests import waiting
from tests.istiod import test_shuffles as worlds
from tests.mesh import fleet
from wire import names

SPEC = {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]}
KINDS = (names.CLUSTER, names.LISTENER, names.ROUTE, names.ENDPOINT)


def versions(target: ResourceSet) -> dict[str, dict[str, str]]:
    return {kind: {each.name: each.version for each in target.of(kind)} for kind in KINDS}


async def test_the_loop_goes_on_beside_the_work() -> None:
    made, going = Apart("test"), threading.Event()

    async def turn() -> None:
        going.set()

    async with made.lock:
        assert made.busy
        beside = asyncio.create_task(turn())
        assert await made.run(lambda: going.wait(20))
        await beside
    assert not made.busy


async def test_a_bug_of_the_work_is_the_callers() -> None:
    made = Apart("test")

    def work() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await made.run(work)
    assert gc.get_threshold()[1] < 1_000


async def test_who_is_cancelled_hears_so_when_the_work_is_over() -> None:
    made, going, done = Apart("test"), threading.Event(), threading.Event()

    def work() -> None:
        going.set()
        done.wait(20)

    task = asyncio.create_task(made.run(work))
    await waiting.until(going.is_set, "the work has begun")
    for _ in range(3):  # a time-out, and whoever waits for it
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
    done.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_only_young_garbage_is_looked_for_meanwhile_and_what_much_was_made_of_no_more() -> None:
    made, usual, frozen, done = Apart("test"), gc.get_threshold(), gc.get_freeze_count(), threading.Event()
    try:
        gc.set_threshold(10_000, 10, 10)
        other = asyncio.create_task(apart.beside(lambda: (done.wait(20), gc.get_threshold())))
        young, old, _ = await made.run(gc.get_threshold)
        assert (young, old > 1_000_000) == (10_000, True)
        kept = await made.run(lambda: [[] for _ in range(apart.MANY + 100_000)])
        done.set()
        assert (await other)[1][1] > 1_000_000, "the first to be ready leaves it so for the other"
        assert gc.get_threshold() == (10_000, 10, 10)
        assert gc.get_freeze_count() > frozen + len(kept) / 2
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


async def test_steps_are_gone_through_in_slices() -> None:
    turns, now = [0], [0.0]

    async def count() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    def steps() -> Iterator[None]:
        for _ in range(100):
            now[0] += apart.SLICE / 5
            yield

    task = asyncio.create_task(count())
    await apart.sliced(steps(), lambda: now[0])
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert 10 <= turns[0] <= 25


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
RULE = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "web"}, "spec": SPEC}


class Told:
    """What one proxy was told, and what it holds by that."""

    def __init__(self) -> None:
        self.holds: dict[str, dict[str, str]] = {}
        self.target: ResourceSet | None = None

    def __call__(self, target: ResourceSet, changed: Changed | None) -> None:
        new = versions(target)
        for kind in KINDS:
            held = self.holds.setdefault(kind, {})
            for name in {*held, *new[kind]} if changed is None else changed.get(kind, ()):
                held.pop(name, None)
                if name in new[kind]:
                    held[name] = new[kind][name]
        self.target = target


async def joined(pipeline: Pipeline, proxy: Proxy) -> Told:
    """A proxy that is told of its targets, and waits for what it has to, as the streams do."""
    told, made = Told(), []
    while (ahead := pipeline.ahead(proxy)) is not None:
        made.append(await ahead())
    pipeline.subscribe(proxy, told)
    return told


@pytest.mark.parametrize("seed", range(2))
async def test_what_is_made_apart_is_what_is_made_at_once_whenever_changes_and_proxies_come(seed: int) -> None:
    chance = random.Random(seed)
    objects = worlds.objects(seed)
    chance.shuffle(objects)
    store = ConfigStore()
    pipeline = Pipeline(store, lambda _: None, time.monotonic)
    running = asyncio.create_task(pipeline.run())
    for item in objects[: len(objects) // 2]:
        store.apply(item)
    pipeline.open()
    await waiting.until(lambda: pipeline.ready, "ready")
    told = [await joined(pipeline, worlds.PROXIES[0])]
    for turn, item in enumerate(objects[len(objects) // 2 :]):
        store.apply(item)
        if chance.random() < 0.3:
            store.remove(chance.choice(objects[: len(objects) // 2]).key)
        if turn in (1, 3):
            told.append(await joined(pipeline, worlds.PROXIES[len(told)]))
        await asyncio.sleep(chance.choice((0, 0, 0.003, 0.02)))
    await waiting.until(lambda: not pipeline.pending, "all is told")
    running.cancel()
    await asyncio.wait((running,))
    fresh = ConfigStore()
    direct = Pipeline(fresh, lambda _: None, time.monotonic)
    for item in store.snapshot():
        fresh.apply(item)
    direct.push()
    for each, proxy in zip(told, worlds.PROXIES, strict=True):
        assert each.target is not None
        assert versions(each.target) == versions(direct.target(proxy)) == each.holds


async def test_a_build_that_fails_sees_its_changes_again() -> None:
    store = ConfigStore()
    pipeline = Pipeline(store, lambda _: None, time.monotonic)
    pipeline.push()
    service, rule = parse(SERVICE).object, parse(RULE).object
    assert service is not None
    assert rule is not None
    wrong = rule.model_copy(update={"spec": None})
    pipeline.open()
    store.apply(wrong)
    for _ in range(2):
        with pytest.raises(AttributeError):
            await pipeline.run()
        assert pipeline.pending
        store.apply(service)
    with pytest.raises(AttributeError):
        pipeline.push()
    store.remove(wrong.key)
    pipeline.push()
    assert not pipeline.pending
    context = pipeline.context
    assert context is not None
    assert len(context.model.registry.services) == 1


async def test_nobody_subscribes_while_a_mesh_is_built() -> None:
    store, done = ConfigStore(), threading.Event()
    pipeline = Pipeline(store, lambda _: None, time.monotonic)
    pipeline.open()
    pipeline.push()
    first, second, third = worlds.PROXIES
    told = Told()
    pipeline.subscribe(first, told)
    before = pipeline.target(first)

    async def hold() -> None:
        async with pipeline._apart.lock:
            await pipeline._apart.run(lambda: done.wait(20))

    held, running = asyncio.create_task(hold()), asyncio.create_task(pipeline.run())
    for item in worlds.objects(1):
        store.apply(item)
    await asyncio.sleep(0.05)
    for refused in (lambda: pipeline.subscribe(second, Told()), lambda: pipeline.target(second), pipeline.push):
        with pytest.raises(RuntimeError, match=r"is being built|under way"):
            refused()
    assert pipeline.target(first) is before
    waiters = [asyncio.create_task(joined(pipeline, proxy)) for proxy in (second, third, third)]
    await asyncio.sleep(0.05)
    assert pipeline.pending
    assert not any(each.done() for each in waiters)
    done.set()
    await asyncio.gather(held, *waiters)
    await waiting.until(lambda: not pipeline.pending, "all is told")
    assert told.target is pipeline.target(first) is not before
    running.cancel()
    await asyncio.wait((running,))


async def test_who_leaves_while_others_are_told_is_told_nothing_more() -> None:
    store = ConfigStore()
    pipeline = Pipeline(store, lambda _: None, time.monotonic)
    pipeline.push()
    told = Told()
    leaving = pipeline.subscribe(worlds.PROXIES[0], told)
    for item in worlds.objects(1):
        store.apply(item)
    begun = pipeline._begin()
    made = begun.make()
    leaving.close()
    pipeline._take(begun, made)
    assert len(list(pipeline._tell(made, []))) == 1
    assert told.target is not None
    assert not told.holds[names.CLUSTER].keys() - {
        "BlackHoleCluster",
        "PassthroughCluster",
        "InboundPassthroughCluster",
    }


async def test_endpoints_go_out_at_once_as_long_as_that_is_quick() -> None:
    now, step = [0.0], [2 * QUICK]

    def clock() -> float:
        now[0] += step[0]
        return now[0]

    store = ConfigStore()
    pipeline = Pipeline(store, lambda _: None, clock)
    pipeline.push()
    slices = [fleet.parsed(fleet.slice_of("a", fleet.backend(f"10.1.0.{at}"))) for at in range(1, 4)]
    apart_too = []
    for item in slices:
        store.apply(item)
        await pipeline._made(pipeline._begin())
        apart_too.append(not pipeline._quick)
        step[0] = 0.0
    assert apart_too == [True, False, False], "one that was made apart and quick brings them back"
