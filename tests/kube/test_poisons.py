"""Objects that got past the webhook: they cost nobody else anything, and say themselves what is wrong (FT18, FT20)."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from crds.parse import parse
from crds.registry import KINDS
from e2e.harness.controlplane import Cluster, control_plane
from istiod.config.kubernetes import CONFLICT, ApiError
from istiod.kube.client import KubernetesClient
from tests.kube import poisons
from tests.kube.conftest import install
from tests.kube.following import becomes, until
from tests.kube.subscriber import Subscriber, subscribed
from tests.kube.test_discovery import Istiod, discovery

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120, func_only=True)]
SYSTEM, GOOD, EVIL = "istio-system", "good", "evil"
COUNT, SEED = 300, 11
PROBE = 20.0
"""Seconds after which the kubelet's probe would fail, of a machine that does much else beside."""
STRETCH = 0.5
"""Seconds of CPU that the loop's own thread may spend from one answer to the next: it took 3 to 6 where it did all."""
_TICK = os.sysconf("SC_CLK_TCK")
LONG = [pytest.mark.long, pytest.mark.timeout(600)]
REFUSED = (400, 413, 422)
_AT_ONCE = 8
NEIGHBOUR = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{timeout: 3s, route: [{destination: {host: web, subset: v1}}]}]}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """An API server of our own, without webhooks, whose definitions of Istio's kinds let everything by."""
    with control_plane(controllers=False) as made:
        install(made, [info for info in KINDS.values() if info.group.endswith(".istio.io")])
        for name in (SYSTEM, GOOD, EVIL):
            made.kubectl("create", "namespace", name)
        made.apply(NEIGHBOUR, GOOD)
        made.kubectl("create", "service", "clusterip", "web", "--tcp=80", "-n", EVIL)
        yield made


@asynccontextmanager
async def beside(kubeconfig: str, log: Path) -> AsyncIterator[tuple[Istiod, Subscriber]]:
    """istiod, and a proxy of the neighbour that has all it needs. At the end it was sent nothing more."""
    async with discovery(kubeconfig, SYSTEM, log) as istiod:
        await becomes(istiod.ready, lambda said: said[0] == 200, 60)
        async with subscribed(istiod.grpc, "app", GOOD) as proxy:
            await until(proxy.whole, "the neighbour has all")
            before, responses = dict(proxy.holds), proxy.responses
            yield istiod, proxy
            assert proxy.holds == before
            assert proxy.responses == responses
        async with subscribed(istiod.grpc, "new", GOOD) as another:
            await until(lambda: another.holds == before, "a new neighbour gets the same")
    assert "Traceback" not in await asyncio.to_thread(log.read_text)


async def store(client: KubernetesClient, items: Iterable[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Create objects in the namespace of the evil, some at a time; those that the API server itself does not refuse."""
    stored: dict[tuple[str, str], dict[str, Any]] = {}
    places = asyncio.Semaphore(_AT_ONCE)

    async def post(item: dict[str, Any]) -> None:
        async with places:
            try:
                await client.request("post", path(item["kind"]), item, deadline=60)
            except ApiError as error:
                if error.status not in (*REFUSED, CONFLICT):  # a conflict: it is there
                    raise
            else:
                stored[item["kind"], item["metadata"]["name"]] = item

    await asyncio.gather(*(post(item) for item in items))
    return stored


def path(kind: str, name: str = "") -> str:
    base = f"/apis/networking.istio.io/v1/namespaces/{EVIL}/{KINDS['networking.istio.io', kind].plural}"
    return f"{base}/{name}" if name else base


async def all_told(client: KubernetesClient, stored: Iterable[tuple[str, str]]) -> None:
    """Wait until all of them have a status, asking now and then: a listing of all is work for everybody."""
    wanted, found = set(stored), set[tuple[str, str]]()
    async with asyncio.timeout(80):
        while wanted - found:
            await asyncio.sleep(1)
            found |= set(await told(client, wanted - found))


async def told(client: KubernetesClient, stored: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Kind and name -> the conditions by type, of those objects that have them."""
    found = {}
    for kind in {kind for kind, _ in stored}:
        for item in (await client.request("get", path(kind)))["items"]:
            status = item.get("status") or {}
            if status.get("observedGeneration") == item["metadata"]["generation"]:
                found[kind, item["metadata"]["name"]] = {one["type"]: one for one in status["conditions"]}
    return found


async def test_hundreds_of_poisons_change_nothing_for_a_neighbour_and_say_what_is_wrong(
    client: KubernetesClient, kubeconfig: str, tmp_path: Path
) -> None:
    async with beside(kubeconfig, tmp_path / "log") as (istiod, _):
        stored = await store(client, poisons.generated(COUNT, SEED))
        assert len(stored) >= COUNT * 0.95
        await all_told(client, stored)
        assert await istiod.ready() == (200, "ok")
    conditions = await told(client, stored)
    for (kind, name), item in stored.items():
        parsed = parse({**item, "metadata": {**item["metadata"], "namespace": EVIL}})
        accepted = conditions[kind, name]["Accepted"]
        if parsed.object is None:
            assert accepted["status"] == "False", item
            assert "spec" in accepted["message"], accepted
    refused = [each for each in conditions.values() if each["Accepted"]["status"] == "False"]
    assert len(refused) > COUNT / 4


async def test_poisons_that_are_there_at_a_start_hinder_nobody(
    client: KubernetesClient, kubeconfig: str, tmp_path: Path
) -> None:
    """FT19: there is no last good version of anything."""
    await store(client, poisons.generated(COUNT, SEED))
    async with beside(kubeconfig, tmp_path / "log") as (istiod, _):
        assert await istiod.ready() == (200, "ok")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("many-routes", "True"),
        ("long-text", "False"),
        pytest.param("many-subsets", "True", marks=LONG),
        pytest.param("many-hosts", "True", marks=LONG),
    ],
)
async def test_an_object_as_large_as_can_be_holds_nobody_up(
    cluster: Cluster, client: KubernetesClient, kubeconfig: str, tmp_path: Path, name: str, status: str
) -> None:
    """FT21."""
    (item,) = [each for each in poisons.large() if each["metadata"]["name"] == name]
    key, text = (item["kind"], name), json.dumps(item)
    assert len(text) > poisons.LARGE * 0.9
    async with beside(kubeconfig, tmp_path / "log") as (istiod, _), asking(istiod) as (waits, spent):
        await asyncio.to_thread(cluster.kubectl, "create", "-n", EVIL, "-f", "-", stdin=text)
        await all_told(client, [key])
    conditions = (await told(client, [key]))[key]
    await client.request("delete", path(*key), deadline=60)
    assert conditions["Accepted"]["status"] == status, conditions
    assert max(waits) < PROBE
    assert max(spent) < STRETCH


@asynccontextmanager
async def asking(istiod: Istiod) -> AsyncIterator[tuple[list[float], list[float]]]:
    """How long istiod takes to answer the kubelet's probe, again and again, and its loop's CPU between two answers."""
    waits: list[float] = []
    spent: list[float] = []

    async def ask() -> None:
        before = cpu(istiod.process.pid)
        while True:
            began = time.monotonic()
            assert await istiod.ready() == (200, "ok")
            waits.append(time.monotonic() - began)
            now = cpu(istiod.process.pid)
            spent.append(now - before)
            before = now
            await asyncio.sleep(0.05)

    task = asyncio.create_task(ask())
    try:
        yield waits, spent
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait((task,))


def cpu(pid: int) -> float:
    """Seconds that the first thread of a process has spent, in which its event loop is."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK
