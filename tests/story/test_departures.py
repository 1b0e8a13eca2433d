"""Pods that end only when nobody sends to them any more (features row Z5): no request is lost, and nobody sleeps."""

from __future__ import annotations

import asyncio
import copy
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import pytest
import pytest_asyncio

from examples.demo.mesh import PATIENCE
from tests import figures
from tests.story import changes, shop, worlds
from tests.story.changes import Raw

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
HELLO = "hello=http://hello:5000/hello"
GRACE = 7.0
"""Seconds after which a departure of these pods is given up."""
DRAINING, BY_DEFAULT, AGAIN = "draining", "default", "503-again"
WAYS: dict[str, Raw] = {
    BY_DEFAULT: {},
    AGAIN: {"retries": {"attempts": 2, "retryOn": "connect-failure,refused-stream,unavailable,cancelled,503"}},
}
MOST = {DRAINING: 0.0, BY_DEFAULT: 0.001, AGAIN: 0.0001}
"""The shares of requests that may be lost when pods are deleted."""
SAID = "every proxy has acknowledged that this pod is gone, and no request is under way"


def departing(version: str, run: int = 0, *, draining: bool = True) -> Raw:
    """Two pods of hello that end only when nobody sends to them any more; without ``draining``, as Istio's do."""
    made = changes.deployment("hello", version, f"istio/examples-helloworld-{version}", 5000, replicas=2, run=run)
    wish = f'proxyMetadata: {{DRAIN_UNTIL_ACKNOWLEDGED: "{str(draining).lower()}"}}'
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
    mesh, before = running.book.mesh, running.failed()
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
    assert running.failed() == before, running.story()
    assert min(took) < GRACE, "nobody waits for a time"


@pytest.mark.timeout(120, func_only=True)
@pytest.mark.parametrize(
    ("rate", "versions"),
    [
        (40, changes.VERSIONS[:1]),
        pytest.param(500, changes.VERSIONS, marks=pytest.mark.long),
    ],
)
async def test_deployments_are_rolled_under_an_open_load_without_a_lost_request(
    running: shop.Running, rate: int, versions: Sequence[str], record_property: Callable[[str, object], None]
) -> None:
    """New pods of these versions; each request goes out at its time, nothing is tried twice, nobody sleeps."""
    mesh, storm = running.book.mesh, f"storm-{rate}"
    await begin(running, storm, rate)
    old = {name for name in names_of(running) if name.startswith(tuple(f"hello-{version}-" for version in versions))}
    began, known = time.monotonic(), of_hello(running)
    before = [counted(running, storm, what) for what in ("ok", "late")]
    running.done.append((time.time(), f"roll {', '.join(versions)}"))
    await mesh.apply(changes.text(departing(version, run=rate) for version in versions))
    await mesh.wait(lambda: not old & names_of(running), 120, "the old pods are gone")
    took = time.monotonic() - began
    await mesh.ready(PATIENCE)
    asked, late = (counted(running, storm, what) - was for what, was in zip(("ok", "late"), before, strict=True))
    failed = failures(running, storm)
    figures = f"{asked} requests in {took:.1f} s, {late} sent late, {len(failed)} failed, {len(old)} pods replaced"
    record_property("figures", figures)
    print(figures)  # noqa: T201 (for docs/departures.md)
    assert failed == [], running.story()
    assert of_hello(running) == known, running.story()
    assert all(SAID in said(running, name) for name in old)
    await mesh.delete("Pod", storm)


@pytest.mark.timeout(600, func_only=True)
@pytest.mark.parametrize(
    ("rate", "seconds", "way"),
    [
        (40, 4, DRAINING),
        pytest.param(50, 60, DRAINING, marks=pytest.mark.long),
        pytest.param(50, 60, BY_DEFAULT, marks=pytest.mark.long),  # the last two here: they change the pods
        pytest.param(50, 60, AGAIN, marks=pytest.mark.long),
    ],
)
async def test_pods_are_deleted_one_a_second_under_load_and_what_is_lost_is_counted(
    running: shop.Running, *, rate: int, seconds: int, way: str
) -> None:
    """FT24: nothing is lost with draining, nor without it where a rule has 503 tried again.

    By default only those are tried again that an app never had (decision 46): one in a thousand may have been under way
    in an app that ended.

    A pod goes each second, if another one of its version is ready: a busy machine takes longer to make new ones.
    """
    mesh, storm = running.book.mesh, f"deletions-{rate}-{way}"
    if way != DRAINING:
        await undrained(running, way, seconds)
    await begin(running, storm, rate)
    before, deleted, loop = counted(running, storm, "ok"), 0, asyncio.get_running_loop()
    chosen, began = random.Random(24), loop.time()
    for number in range(seconds):
        await asyncio.sleep(max(0.0, began + number - loop.time()))
        running.done.append((time.time(), f"delete pod {number}"))
        deleted += await deletion(running, chosen)
    await mesh.ready(PATIENCE)
    asked = counted(running, storm, "ok") - before
    lost = failures(running, storm)
    share = len(lost) / (asked + len(lost))
    figures.fault("FT24", f"{len(lost)} of {asked} lost ({share:.3%}) {way}, {deleted} pods deleted in {seconds} s")
    assert deleted >= seconds / 10
    assert share <= MOST[way], [kinds(lost), *lost[:5], running.story()]
    await mesh.delete("Pod", storm)


@pytest.mark.timeout(300, func_only=True)
async def test_a_pod_that_ends_unknown_to_all_others_loses_no_request_by_default(running: shop.Running) -> None:
    """FT24: istiod stands still for two seconds of requests, so that the others go on sending to the pod.

    Its app has ended: what its sidecar answers, the callers' try elsewhere by Istio's default retries. When the sidecar
    ends itself, after five seconds, nobody sends to it any more: what it had in hand then would be lost.
    """
    mesh, storm, rate = running.book.mesh, "unknown", 40
    await undrained(running, BY_DEFAULT, 1)
    await begin(running, storm, rate)
    istiod = mesh.pod("istio-system/istiod").containers["discovery"].pid
    before, known = counted(running, storm, "ok"), len(running.outside.failures)

    async def went_on() -> bool:
        return counted(running, storm, "ok") >= before + 2 * rate

    os.kill(istiod, signal.SIGSTOP)
    try:
        name = await mesh.kill("hello-v1")
        await worlds.until("two seconds of requests", went_on)
    finally:
        os.kill(istiod, signal.SIGCONT)
    await mesh.wait(lambda: name not in names_of(running), 30, f"{name} is gone")
    asked = counted(running, storm, "ok") - before
    refused = [line for line in worlds.logged(mesh)[f"default/{name.rpartition('/')[2]}"] if " 503 URX,UF " in line]
    lost = [*failures(running, storm), *map(str, running.outside.failures[known:])]
    figures.fault("FT24", f"{len(lost)} of {asked} lost, {len(refused)} refused by a sidecar whose app had ended")
    assert refused
    assert lost == [], running.story()
    await mesh.delete("Pod", storm)


async def undrained(running: shop.Running, way: str, run: int) -> None:
    """Have pods that end as Istio's do, and a rule that has requests tried again in one of the ways."""
    rule: Raw = {"route": [changes.destination()], **WAYS[way]}
    files = {"hello.yaml": changes.Shop(rules=[rule]).hello()}
    pods = changes.text(departing(version, run, draining=False) for version in changes.VERSIONS)
    await running.apply(changes.Change(name="no draining", files=files, workloads=pods, after=True))


async def begin(running: shop.Running, storm: str, rate: int) -> None:
    """Start a pod that asks hello so many times a second, and wait until it does."""
    await running.book.mesh.apply(changes.text([storming(storm, rate)]))
    await running.book.mesh.ready(PATIENCE)

    async def begun() -> bool:
        return counted(running, storm, "ok") > rate

    await worlds.until("the storm has begun", begun, 60)


def failures(running: shop.Running, storm: str) -> list[str]:
    """What a pod that asks says of requests that failed."""
    return [line for line in running.book.mesh.logs(storm, storm).splitlines() if line.startswith("FAIL")]


def kinds(lost: Iterable[str]) -> Counter[str]:
    """How often requests failed in which way: what follows the time."""
    return Counter(line.split(" ", 2)[2] for line in lost)


async def deletion(running: shop.Running, chosen: random.Random) -> bool:
    """Delete a pod of hello, if another one of its version is ready; whether there was one."""
    hello = [each for each in running.book.mesh.pods() if each["metadata"]["labels"].get("app") == "hello"]
    ready = [each for each in hello if is_ready(each)]
    versions = Counter(each["metadata"]["labels"]["version"] for each in ready)
    possible = [each["metadata"]["name"] for each in ready if versions[each["metadata"]["labels"]["version"]] > 1]
    if possible:
        await running.book.mesh.kill(chosen.choice(sorted(possible)))
    return bool(possible)


def is_ready(pod: Raw) -> bool:
    """Whether traffic goes to a pod, and it is not ending."""
    said = {each["type"]: each["status"] for each in pod["status"].get("conditions") or ()}
    return said.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def of_hello(running: shop.Running) -> list[str]:
    """What went wrong with the service that is rolled; others share the machine with the storm."""
    return [line for line in running.failed() if "hello" in line]


def storming(name: str, rate: int) -> Raw:
    """A pod that asks hello so many times a second."""
    made: Raw = {**copy.deepcopy(shop.ASKER)}
    made["metadata"] |= {"name": name, "labels": {"app": name}}
    made["spec"] = {"containers": [{"name": name, "image": shop.LOAD, "args": [f"--rate={rate}", HELLO]}]}
    return made


def counted(running: shop.Running, pod: str, what: str) -> int:
    """The newest count of this sort in the log of a pod that asks."""
    found = [line for line in running.book.mesh.logs(pod, pod).splitlines() if line.startswith(f"{what} ")]
    return int(found[-1].partition(" ")[2]) if found else 0


def names_of(running: shop.Running) -> set[str]:
    return {pod["metadata"]["name"] for pod in running.book.mesh.pods()}


def said(running: shop.Running, name: str) -> str:
    """What the agent of a pod that is gone has said."""
    (path,) = running.book.mesh.runtime.parent.glob(f"**/logs/*{name.rpartition('/')[2]}/istio-proxy.log")
    return path.read_text()
