"""What we use of kopf's inside, held against a real API server: one of the two has moved when this fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness.controlplane import Cluster
from istiod.config.kubernetes import ApiError, Event, Resource, Verb
from istiod.kube import client as module
from istiod.kube import credentials
from istiod.kube.client import KubernetesClient
from tests.kube.faults import FaultProxy

pytestmark = pytest.mark.apiserver
MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")


def maps(namespace: str, fields: str = "") -> Resource:
    return Resource(group="", version="v1", plural="configmaps", kind="ConfigMap", namespace=namespace, fields=fields)


async def put(client: KubernetesClient, namespace: str, name: str) -> None:
    await client.request("post", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": name}})


@contextlib.asynccontextmanager
async def following(client: KubernetesClient, resource: Resource) -> AsyncIterator[Callable[[], Any]]:
    """A pass; the function gives its next event that is not a sign of life."""
    stop = asyncio.get_running_loop().create_future()

    async def following() -> Event:
        async with asyncio.timeout(20):
            while (event := await anext(events)).verb is Verb.ALIVE:
                pass
        return event

    async with contextlib.aclosing(client.events(resource, stop)) as events:
        yield following


def told(event: Event) -> tuple[Verb, str]:
    return event.verb, event.item.get("metadata", {}).get("name", "")


async def test_a_pass_lists_says_so_and_follows(client: KubernetesClient, namespace: str) -> None:
    resource = maps(namespace, "metadata.name!=kube-root-ca.crt")
    await put(client, namespace, "one")
    async with following(client, resource) as event:
        assert told(await event()) == (Verb.PRESENT, "one")
        assert told(await event()) == (Verb.LISTED, "")
        await put(client, namespace, "two")
        changed = await event()
        assert told(changed) == (Verb.CHANGED, "two")
        assert (changed.item["kind"], changed.item["apiVersion"]) == ("ConfigMap", "v1")
        await client.request("delete", f"/api/v1/namespaces/{namespace}/configmaps/one")
        assert told(await event()) == (Verb.DELETED, "one")


async def test_items_of_a_listing_say_their_kind(client: KubernetesClient, namespace: str) -> None:
    await put(client, namespace, "one")
    async with following(client, maps(namespace, "metadata.name=one")) as event:
        item = (await event()).item
    assert (item["kind"], item["apiVersion"]) == ("ConfigMap", "v1")


async def test_an_empty_collection_is_listed_too(client: KubernetesClient, namespace: str) -> None:
    async with following(client, maps(namespace, "metadata.name=none")) as event:
        assert told(await event()) == (Verb.LISTED, "")


async def test_a_listing_in_pages_is_complete(
    client: KubernetesClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for number in range(5):
        await put(client, namespace, f"m{number}")
    async with following(client, maps(namespace, "metadata.name!=kube-root-ca.crt")) as event:
        found = [await event() for _ in range(6)]
    assert [told(each)[1] for each in found] == ["m0", "m1", "m2", "m3", "m4", ""]


async def test_a_pass_ends_when_it_is_stopped(client: KubernetesClient, namespace: str) -> None:
    stop = asyncio.get_running_loop().create_future()
    verbs = []
    async with asyncio.timeout(20):
        async for event in client.events(maps(namespace), stop):
            verbs.append(event.verb)
            if event.verb is Verb.LISTED:
                asyncio.get_running_loop().call_later(0.1, stop.set_result, None)
    assert Verb.LISTED in verbs


async def test_an_unknown_kind_and_a_missing_right_are_told_apart_at_once(
    client: KubernetesClient,
    connect: Callable[[str], KubernetesClient],
    cluster: Cluster,
    namespace: str,
    tmp_path: Any,
) -> None:
    unknown = Resource(group="example.com", version="v1", plural="things", kind="Thing")
    with pytest.raises(ApiError, match=r"things\.example\.com: 404") as problem:
        await anext(client.events(unknown, asyncio.get_running_loop().create_future()))
    assert problem.value.status == 404
    powerless = connect(await as_account(cluster, namespace, tmp_path))
    with pytest.raises(ApiError, match="cannot list resource") as problem:
        await anext(powerless.events(MAPS, asyncio.get_running_loop().create_future()))
    assert (problem.value.status, problem.value.reason) == (403, "Forbidden")


async def as_account(cluster: Cluster, namespace: str, folder: Any, account: str = "default") -> str:
    """A kubeconfig with the token of a service account."""
    token = await asyncio.to_thread(cluster.token, account, namespace, "https://kubernetes.default.svc.cluster.local")
    text = cluster.kubeconfig.read_text()
    config = yaml.safe_load(text)
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = folder / f"{account}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return str(path)


async def test_requests_are_refused_with_the_servers_words(client: KubernetesClient, namespace: str) -> None:
    await put(client, namespace, "one")
    with pytest.raises(ApiError, match='"one" already exists') as problem:
        await put(client, namespace, "one")
    assert (problem.value.status, problem.value.reason) == (409, "AlreadyExists")


async def test_a_server_that_does_not_answer_in_time_is_not_reached(
    proxy: FaultProxy, connect: Callable[[str], KubernetesClient]
) -> None:
    proxy.open.clear()
    client = connect(proxy.kubeconfig)
    with pytest.raises(ApiError) as problem:
        await client.request("get", "/api/v1/namespaces", deadline=0.2)
    assert not problem.value.reached
    proxy.open.set()
    assert await client.request("get", "/api/v1/namespaces")


async def test_refused_credentials_are_read_again(cluster: Cluster, namespace: str, tmp_path: Any) -> None:
    good, path = await as_account(cluster, namespace, tmp_path), tmp_path / "changing"
    config = yaml.safe_load(await asyncio.to_thread(Path(good).read_text))
    token = config["users"][0]["user"]["token"]
    config["users"][0]["user"]["token"] = "expired"
    path.write_text(yaml.safe_dump(config))
    client = KubernetesClient(lambda: credentials.login(str(path)))
    asked = asyncio.create_task(client.request("get", "/apis/authorization.k8s.io/v1", deadline=30))
    await asyncio.sleep(0.5)
    config["users"][0]["user"]["token"] = token
    path.write_text(yaml.safe_dump(config))
    assert (await asked)["groupVersion"] == "authorization.k8s.io/v1"
    await client.close()
