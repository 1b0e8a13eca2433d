"""What a proxy refused at one replica: told by the leader, known to all, and still known when all start again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from istiod.kube import records
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.kube.records import SecretRecords
from tests.kube.following import becomes, until
from tests.kube.test_discovery import Istiod, discovery
from wire import names

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120, func_only=True)]
WORDS = "no such thing"


class Proxy:
    """A client that holds clusters, and refuses a version of one."""

    def __init__(self, call: Any, cluster: str) -> None:
        self._call = call
        self._cluster = cluster
        self.versions: list[str] = []
        self.refused: list[str] = []
        self.refuses = False

    async def run(self) -> None:
        while (response := await self._call.read()) is not grpc.aio.EOF:
            brought = {resource.name: resource.version for resource in response.resources}
            answer = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER, response_nonce=response.nonce)
            if self._cluster in brought and self.refuses:
                answer.error_detail.message = WORDS
                self.refused.append(brought[self._cluster])
            elif self._cluster in brought:
                self.versions.append(brought[self._cluster])
            await self._call.write(answer)


@contextlib.asynccontextmanager
async def proxy(istiod: Istiod, cluster: str) -> AsyncIterator[Proxy]:
    async with grpc.aio.insecure_channel(istiod.grpc) as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        asked = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER)
        asked.node.id = "sidecar~10.0.0.1~app.shop~shop.svc.cluster.local"
        await call.write(asked)
        made = Proxy(call, cluster)
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class World:
    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.rules = f"/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules"
        self.cluster = f"outbound|80||web.{namespace}.svc.cluster.local"

    async def make(self) -> None:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"ports": [{"port": 80, "name": "http"}], "clusterIP": "None"},
        }
        await self.client.request("post", f"/api/v1/namespaces/{self.namespace}/services", service)

    async def limit(self, seconds: int, *, new: bool) -> None:
        spec = {"host": "web", "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": f"{seconds}s"}}}}
        if new:
            body = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "web"}}
            await self.client.request("post", self.rules, {**body, "spec": spec})
        else:
            await self.client.request("patch", f"{self.rules}/web", {"spec": spec}, kind=MERGE_PATCH)

    async def condition(self) -> tuple[str, str, str]:
        """Status and message of RejectedByEnvoy, and the object's version."""
        found = await self.client.request("get", f"{self.rules}/web")
        for each in found.get("status", {}).get("conditions", ()):
            if each["type"] == "RejectedByEnvoy":
                return each["status"], each.get("message", ""), found["metadata"]["resourceVersion"]
        return "", "", ""

    async def records(self) -> int:
        secrets = await self.client.request("get", f"/api/v1/namespaces/{self.namespace}/secrets")
        found = [each for each in secrets["items"] if each["metadata"]["name"] == "istio-last-good"]
        return sum(len(each.get("data") or {}) for each in found)

    async def holder(self) -> str:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/istio-leader"
        return str((await self.client.request("get", path))["spec"].get("holderIdentity", ""))


async def served(istiod: Istiod) -> None:
    await becomes(istiod.ready, lambda said: said[0] == 200, 60)


async def test_what_one_replica_writes_the_other_has_and_nobody_undoes_it(
    client: KubernetesClient, namespace: str
) -> None:
    wishes: list[dict[str, bytes | None]] = [{"refused-0": b"\x00"}, {"refused-1": b"\x01"}]
    both = [SecretRecords(client, namespace, "istio-last-good") for _ in wishes]
    for each in both:
        await each.load()
        assert each.items == {}

    def due(i: int) -> dict[str, bytes | None]:
        return {name: raw for name, raw in wishes[i].items() if both[i].items.get(name) != raw}

    tasks = [asyncio.create_task(each.run(partial(due, i))) for i, each in enumerate(both)]
    await until(lambda: all(len(each.items) == 2 for each in both), "both have both")
    wishes[:] = [{"refused-1": None}, {}]
    await until(
        lambda: all(each.items == {"refused-0": b"\x00"} for each in both), "one takes away what the other wrote"
    )
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    body = {"data": {"rubbish": "AAAA"}}
    path = f"/api/v1/namespaces/{namespace}/secrets/istio-last-good"
    secret = await client.request("patch", path, body, kind=MERGE_PATCH)
    assert secret["type"] == "istio.io/last-good"
    again = SecretRecords(client, namespace, "istio-last-good")
    await again.load()
    assert again.items == {"refused-0": b"\x00", "rubbish": b"\x00\x00\x00"}


def test_what_is_no_value_counts_as_empty() -> None:
    assert records.kept({"data": {"a": "AA==", "b": "?", "c": None}}) == {"data": {"a": b"\x00", "b": b"", "c": b""}}
    assert records.kept({"data": "none"}) == {"data": {}}


@pytest.mark.long
async def test_replicas_share_what_is_refused_and_a_restart_changes_nothing(
    kubeconfig: str, client: KubernetesClient, namespace: str, tmp_path: Path
) -> None:
    world = World(client, namespace)
    await world.make()
    async with discovery(kubeconfig, namespace, tmp_path / "first", pod="first") as first:
        await served(first)
        await becomes(world.holder, lambda who: who.startswith("first"), 30)
        async with (
            discovery(kubeconfig, namespace, tmp_path / "second", pod="second") as second,
        ):
            await served(second)
            async with proxy(second, world.cluster) as old:
                await becomes(_versions(old), lambda found: len(found) == 1, 30)
                old.refuses = True
                await world.limit(7, new=True)
                await becomes(world.condition, lambda said: said[0] == "True", 30)
                status = await world.condition()
                assert WORDS in status[1]
                assert await world.records() == 1
            async with proxy(first, world.cluster) as new:
                await becomes(_versions(new), bool, 30)
                assert new.versions == old.versions, "the last good, at another replica"
    async with discovery(kubeconfig, namespace, tmp_path / "third", pod="third") as third:
        await served(third)
        await becomes(world.holder, lambda who: who.startswith("third"), 30)
        async with proxy(third, world.cluster) as new:
            await becomes(_versions(new), bool, 30)
            assert new.versions == old.versions, "the last good, after a restart"
            await client.request("post", world.rules, {**_other(), "spec": {"host": "other.example"}})
            await becomes(lambda: _written(world), bool, 30)
            assert await world.condition() == status, "the status did not flap"
            await mended(world, new)


async def mended(world: World, new: Proxy) -> None:
    """The object changes: the new version goes out, and nothing is kept."""
    await world.limit(8, new=False)
    await becomes(_versions(new), lambda found: len(found) == 2, 30)
    await becomes(world.condition, lambda said: said[0] == "False", 30)
    await becomes(world.records, lambda count: count == 0, 30)


def _other() -> dict[str, Any]:
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "other"}}


async def _written(world: World) -> bool:
    """Whether the third has written statuses."""
    return "status" in await world.client.request("get", f"{world.rules}/other")


def _versions(of: Proxy) -> Any:
    async def versions() -> list[str]:
        return list(of.versions)

    return versions
