"""What is made before istiod says that it is ready, so that a thousand proxies at once find it (decision 33)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from istiod import pipeline
from tests import waiting
from tests.istiod.test_pipeline import SHOP, Told, World, proxy, put
from wire import names

PODS = """
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: a, security.istio.io/tlsMode: istio}}
status: {phase: Running, podIP: 10.244.0.50, podIPs: [{ip: 10.244.0.50}]}
"""
WEB = "outbound|80||web.shop.svc.cluster.local"
OTHER = """
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop, creationTimestamp: "2024-01-01T00:00:00Z"}
spec: {clusterIP: 10.96.0.9, selector: {app: other}, ports: [{name: http, port: 80, targetPort: 7070}]}
---
apiVersion: v1
kind: Pod
metadata: {name: zoe, namespace: shop, labels: {app: other, security.istio.io/tlsMode: istio}}
status: {phase: Running, podIPs: [{ip: 10.0.0.70}]}
"""


@contextlib.asynccontextmanager
async def started(*texts: str) -> AsyncIterator[World]:
    """A mesh that has just become ready."""
    world = World()
    task = asyncio.create_task(world.pipeline.run())
    try:
        for text in texts:
            put(world.store, text)
        world.pipeline.open()
        await waiting.until(lambda: world.pipeline.ready, "ready", 5)
        yield world
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_what_pods_with_sidecars_will_ask_for_is_made_before_we_are_ready() -> None:
    async with started(SHOP, PODS) as world:
        before = dict(world.pipeline.compiled)
        assert before[names.CLUSTER]
        told = Told()
        world.pipeline.subscribe(proxy("another"), told)
        found = told.targets[0]
        assert found.get(names.ENDPOINT, WEB) is not None
        assert found.get(names.ROUTE, "80") is not None
        own = {name for layer in found.layers[names.CLUSTER][1:] for name in layer}
        made = {type_url: count - before.get(type_url, 0) for type_url, count in world.pipeline.compiled.items()}
        assert made[names.CLUSTER] <= len(own), "what is not its own is there already"
        assert made[names.ENDPOINT] == made[names.ROUTE] == 0


@pytest.mark.parametrize("seconds", [pipeline.AHEAD, 0.0])
async def test_the_own_part_of_each_workload_is_made_too_as_far_as_there_is_time(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(pipeline, "AHEAD", seconds)
    async with started(SHOP, PODS, OTHER) as world:
        before = world.pipeline.compiled[names.LISTENER]
        told = Told()
        world.pipeline.subscribe(proxy("zoe"), told)
        assert told.targets[0].get(names.CLUSTER, "inbound|7070||") is not None
        assert world.pipeline.compiled[names.LISTENER] - before == (0 if seconds else 1)
