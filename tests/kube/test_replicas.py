"""Replicas as processes: who writes while a leader is stopped (FT49, FT50), and when webhooks are trusted (FT43)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from crds.registry import KINDS
from e2e.harness.controlplane import Cluster, control_plane
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.kube.lease import DURATION
from tests.kube.conftest import install
from tests.kube.faults import FaultProxy
from tests.kube.following import becomes, until
from tests.kube.test_discovery import Istiod, discovery, free_port
from tests.kube.test_writers import configuration

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120, func_only=True)]
SYSTEM, SHOP = "istio-system", "shop"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/istio-leader"
RULES = f"/apis/networking.istio.io/v1/namespaces/{SHOP}/virtualservices"
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
INJECTOR = "istio-sidecar-injector"
COUNT, BEGUN = 30, 3
READ = ("GET", "HEAD")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """An API server of our own: the Lease and the webhooks of the whole cluster are at stake."""
    with control_plane(controllers=False) as made:
        install(made, [info for info in KINDS.values() if info.group.endswith(".istio.io")])
        for name in (SYSTEM, SHOP):
            made.kubectl("create", "namespace", name)
        made.kubectl("create", "service", "clusterip", "web", "--tcp=80", "-n", SHOP)
        yield made


class Recorded:
    """A replica behind a proxy of its own, and what it wrote: method and path."""

    def __init__(self, proxy: FaultProxy, istiod: Istiod) -> None:
        self.istiod = istiod
        self.proxy = proxy
        self.writes: list[tuple[str, str]] = []
        self.looks = 0
        proxy.refuse = self._record

    def statuses(self) -> int:
        return sum(path.endswith("/status") for _, path in self.writes)

    def _record(self, request: web.Request) -> web.Response | None:
        if "/leases/" in request.path:
            self.looks += request.path == LEASE and request.method == "GET"
        elif request.method not in READ and "/tokenreviews" not in request.path:
            self.writes.append((request.method, request.path))
        return None


@asynccontextmanager
async def replica(
    kubeconfig: str, folder: Path, name: str, webhooks: str = "", secure: str = "127.0.0.1:0"
) -> AsyncIterator[Recorded]:
    """A replica."""
    async with (
        FaultProxy.between(kubeconfig, folder / f"{name}.kubeconfig") as proxy,
        discovery(
            proxy.kubeconfig, SYSTEM, folder / f"{name}.log", webhooks=webhooks, pod=name, secure=secure
        ) as istiod,
    ):
        yield Recorded(proxy, istiod)


async def serves(one: Recorded) -> None:
    await becomes(one.istiod.ready, lambda said: said == (200, "ok"), 60)


async def leads(client: KubernetesClient, name: str, seconds: float) -> None:
    """Wait until a replica holds the Lease."""

    async def holder() -> str:
        return str((await client.request("get", LEASE))["spec"].get("holderIdentity", ""))

    await becomes(holder, lambda found: found.startswith(name), seconds)


def rule(number: int) -> dict[str, Any]:
    spec = {"hosts": [f"h{number}.example"], "http": [{"route": [{"destination": {"host": "web"}}]}]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": f"rule-{number}"},
        "spec": spec,
    }


async def statuses(client: KubernetesClient) -> dict[str, tuple[str, Any]]:
    """Name of each rule that has a status -> its version and what it says."""
    items = (await client.request("get", RULES))["items"]
    return {
        one["metadata"]["name"]: (one["metadata"]["resourceVersion"], one["status"]["conditions"])
        for one in items
        if "status" in one
    }


@pytest.mark.parametrize("more", [0, pytest.param(45, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
async def test_a_leader_that_was_stopped_while_it_wrote_changes_nothing_when_it_goes_on(
    client: KubernetesClient, kubeconfig: str, tmp_path: Path, more: int
) -> None:
    """FT49, FT50: another leads and finishes; nobody undoes what the other wrote."""
    async with replica(kubeconfig, tmp_path, "first") as first:
        await serves(first)
        await leads(client, "first", 30)
        async with replica(kubeconfig, tmp_path, "second") as second:
            await serves(second)
            for number in range(COUNT):
                await client.request("post", RULES, rule(number))
            await until(lambda: first.statuses() >= BEGUN, "the first writes statuses")
            os.kill(first.istiod.process.pid, signal.SIGSTOP)
            assert first.statuses() < COUNT
            await leads(client, "second", DURATION * 3)
            await becomes(lambda: statuses(client), lambda found: len(found) == COUNT, 60)
            await asyncio.sleep(more)
            written, looks, before = len(first.writes), first.looks, await statuses(client)
            os.kill(first.istiod.process.pid, signal.SIGCONT)
            await until(lambda: first.looks >= looks + 3, "the first has looked at the Lease again")
            assert first.writes[written:] == []
            assert await statuses(client) == before
            assert {one["type"]: one["status"] for _, said in before.values() for one in said} == {
                "Accepted": "True",
                "InUse": "True",
                "Conflicts": "False",
                "RejectedByEnvoy": "False",
            }
            assert first.statuses() + second.statuses() <= 2 * COUNT
    for number in range(COUNT):
        await client.request("delete", f"{RULES}/rule-{number}")


async def test_no_replica_is_ready_before_the_api_server_trusts_its_webhooks(
    client: KubernetesClient, kubeconfig: str, tmp_path: Path
) -> None:
    """Pods that are made in between would be refused. Only one of the two may write, the other sees that it is done."""
    await client.request("post", HOOKS, configuration("MutatingWebhookConfiguration", INJECTOR, None))
    waits = f"waiting for MutatingWebhookConfiguration {INJECTOR}: its caBundle is not ours yet\n"
    first_port, second_port = (f"127.0.0.1:{free_port()}" for _ in range(2))
    async with (
        replica(kubeconfig, tmp_path, "first", first_port) as first,
        replica(kubeconfig, tmp_path, "second", second_port) as second,
    ):
        for one in (first, second):
            one.proxy.refuse = lambda request: (
                web.Response(status=503) if request.method == "PATCH" and HOOKS in request.path else None
            )
        for one in (first, second):
            await becomes(one.istiod.ready, lambda said: said == (503, waits), 60)
        for one in (first, second):
            one.proxy.refuse = lambda _: None
        await serves(first)
        assert await bundle(client) != "eA=="
        await serves(second)


async def test_a_bundle_that_is_wiped_is_back_within_five_seconds_and_ends_no_service(
    client: KubernetesClient, kubeconfig: str, tmp_path: Path
) -> None:
    """FT43."""
    async with replica(kubeconfig, tmp_path, "only", f"127.0.0.1:{free_port()}") as only:
        await serves(only)
        right = await bundle(client)
        hooks = configuration("MutatingWebhookConfiguration", INJECTOR, None)["webhooks"]
        await client.request("patch", f"{HOOKS}/{INJECTOR}", {"webhooks": hooks}, kind=MERGE_PATCH)
        assert await only.istiod.ready() == (200, "ok")
        await becomes(lambda: bundle(client), lambda found: found == right, 5)


async def bundle(client: KubernetesClient) -> str:
    """What the first webhook of the injector trusts."""
    found = await client.request("get", f"{HOOKS}/{INJECTOR}")
    return str(found["webhooks"][0]["clientConfig"].get("caBundle", ""))
