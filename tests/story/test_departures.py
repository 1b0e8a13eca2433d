"""Pods that end only when nobody sends to them any more (features row Z5): no request is lost, and nobody sleeps."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.demo.mesh import PATIENCE
from tests.story import changes, shop, worlds
from tests.story.changes import Raw

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
GRACE = 7.0
"""Seconds after which a departure of these pods is given up."""
SAID = "every proxy has acknowledged that this pod is gone, and no request is under way"


def departing(version: str) -> Raw:
    """Two pods of hello that end only when nobody sends to them any more."""
    made = changes.deployment("hello", version, f"istio/examples-helloworld-{version}", 5000, replicas=2)
    wish = 'proxyMetadata: {DRAIN_UNTIL_ACKNOWLEDGED: "true"}'
    made["spec"]["template"]["metadata"]["annotations"]["proxy.istio.io/config"] = wish
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[shop.Running]:
    """A shop under load whose clients inside try nothing twice."""
    async with shop.opened() as found:
        rule: Raw = {"route": [changes.destination()], "retries": {"attempts": 0}}
        made = changes.Shop(rules=[rule])
        pods = changes.text(departing(version) for version in changes.VERSIONS)
        await found.apply(changes.Change(name="departing pods", workloads=pods, after=True))
        await found.apply(changes.Change(name="no retries", files={"hello.yaml": made.hello()}, after=True))
        yield found


async def test_a_pod_that_ends_is_asked_until_everybody_knows_and_loses_no_request(running: shop.Running) -> None:
    mesh = running.book.mesh
    took: list[float] = []
    for version in changes.VERSIONS:
        running.done.append((time.time(), f"delete a pod of {version}"))
        name = await mesh.kill(f"hello-{version}")
        began = time.monotonic()
        await mesh.wait(lambda name=name: name not in names_of(running), PATIENCE, f"{name} is gone")
        took.append(time.monotonic() - began)
        assert SAID in said(running, name), said(running, name)
        await mesh.ready(PATIENCE)
    await running.more(40)
    assert running.failed() == [], running.story()
    assert min(took) < GRACE, "nobody waits for a time"


def names_of(running: shop.Running) -> set[str]:
    return {pod["metadata"]["name"] for pod in running.book.mesh.pods()}


def said(running: shop.Running, name: str) -> str:
    """What the agent of a pod that is gone has said."""
    (path,) = running.book.mesh.runtime.parent.glob(f"**/logs/*{name.rpartition('/')[2]}/istio-proxy.log")
    return path.read_text()
