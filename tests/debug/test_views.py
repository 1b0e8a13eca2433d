"""The debug pages of a running istiod, after known objects and with a real client (features row D16)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from istiod.debug import server
from tests.debug.plane import SHOP, Client, Plane, serving
from tests.waiting import until
from wire import names

pytestmark = pytest.mark.asyncio(loop_scope="module")
MORE = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec: {selector: {matchLabels: {app: web}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-sidecar-injector, namespace: istio-system}
data: {config: "policy: enabled", values: "{global: {hub: h, tag: t}}"}
"""
HOST = "web.shop.svc.cluster.local"
OF_PROXY = ("config_dump", "ecdsz", "edsz", "ndsz", "sidecarz")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Plane, Client]]:
    folder = tmp_path_factory.mktemp("plane")
    async with serving(folder, SHOP + MORE) as plane, plane.client() as client:
        await client.ask(names.CLUSTER)
        await client.answer(await client.read())
        yield plane, client


async def test_every_page_that_is_listed_answers_with_json(world: tuple[Plane, Client]) -> None:
    plane, client = world
    listed = await plane.json("/debug/list")
    index = await plane.text("/debug")
    assert set(OF_PROXY) < set(listed)
    await plane.text("/debug/config_distribution?resource=Pod/shop/web", status=400)
    await plane.text("/debug/config_distribution?resource=Sidecar/shop/absent", status=404)
    for name in (each for each in listed if each != "config_distribution"):  # istioctl's tests ask for it
        if name in OF_PROXY:
            await plane.text(f"/debug/{name}", status=400)
            await plane.text(f"/debug/{name}?proxyID=absent.shop", status=404)
        found = await plane.json(f"/debug/{name}" + ("?proxyID=web-1.shop" if name in OF_PROXY else ""))
        assert isinstance(found, dict | list)
        await plane.text(f"/debug/{name}?surprise=1", status=400)
        assert f'href="/debug/{name}"' in index
    assert index.index('href="/debug/page/"') < index.index(f'href="/debug/{listed[0]}"'), "the one for people is first"
    assert client


async def test_pages_that_make_no_sense_say_why(world: tuple[Plane, Client]) -> None:
    plane, _ = world
    for name, reason in server.ABSENT.items():
        assert reason in await plane.text(f"/debug/{name}", status=501)


async def test_no_page_changes_anything(world: tuple[Plane, Client]) -> None:
    """SEC31: pages are read; there is nothing to stop, drain, clear or push from the network."""
    plane, _ = world
    for path in (
        "/debug",
        "/metrics",
        *(f"/debug/{name}" for name in [*await plane.json("/debug/list"), *server.ABSENT]),
    ):
        assert (await plane.post(path))[0] == 405
    for path in ("/quitquitquit", "/drain", "/debug/pprof/", "/debug/quitquitquit"):
        assert (await plane.post(path))[0] == 404
    for page in ("cachez?clear=true", "adsz?push=true"):
        await plane.text(f"/debug/{page}", status=400)


async def test_endpoints_are_shown_by_service_shard_and_proxy(world: tuple[Plane, Client]) -> None:
    plane, client = world
    by_service = {each["svc"]: each["ep"] for each in await plane.json("/debug/endpointz")}
    assert set(by_service) == {f"{HOST}:http", "idle.shop.svc.cluster.local:http", "idle.shop.svc.cluster.local:tcp"}
    (only,) = by_service[f"{HOST}:http"]
    assert only["Endpoint"]["Addresses"] == ["10.244.0.9"]
    assert (only["Endpoint"]["EndpointPort"], only["ServicePort"]["port"]) == (8080, 80)
    assert only["Endpoint"]["ServiceAccount"] == "spiffe://cluster.local/ns/shop/sa/web"
    shards = (await plane.json("/debug/endpointShardz"))[HOST]["shop"]
    assert shards["Shards"] == {"Kubernetes/Kubernetes": [only["Endpoint"]]}
    instances = await plane.json("/debug/instancesz")
    assert [each["Service"]["Hostname"] for each in instances[client.node]] == [HOST]


async def test_a_proxys_scope_and_the_newest_push_are_shown(world: tuple[Plane, Client]) -> None:
    plane, client = world
    scope = await plane.json("/debug/sidecarz?proxyID=web-1.shop")
    assert f"shop/{HOST}" in scope["services"]
    assert "inbound|8080||" in scope["inbound"]["clusters"]
    policies = (await plane.json("/debug/authorizationz"))["authorization_policies"]
    assert [each["name"] for each in policies["namespace_to_policies"]["shop"]] == ["closed"]
    assert (await plane.json("/debug/inject"))["config"] == "policy: enabled"
    assert {"Group": "networking.istio.io", "Version": "v1", "Kind": "Gateway"} in await plane.json("/debug/resourcesz")
    plane.write(SHOP.replace("idle", "lazy"))
    await client.answer(await client.read())

    async def over() -> bool:
        return bool((await plane.json("/debug/push_status"))["proxiesTold"])

    await until(over, "a push that told a proxy")
    push = await plane.json("/debug/push_status")
    assert push["changes"] >= 1
    assert {"build", "compile", "diff", "hand_over"} <= set(push["secondsByStage"])
    assert push["Start"] < push["End"]
    assert json.dumps(await plane.json("/debug/list"), indent=2) == (await plane.text("/debug/list?pretty"))
