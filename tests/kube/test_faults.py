"""What the watch does when the API server fails it (faults FT2 to FT5, FT11, FT12, FT20, FT29, FT30)."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from crds.diagnostic import Code
from crds.registry import KINDS
from e2e.harness.controlplane import Cluster
from istiod.kube import client as module
from istiod.kube.client import KubernetesClient
from tests import figures
from tests.kube.conftest import install
from tests.kube.faults import FaultProxy, is_watch, plural
from tests.kube.following import following, make, remove, until
from tests.kube.test_contract import as_account

pytestmark = pytest.mark.apiserver
Connect = Callable[[str], KubernetesClient]
RULE = {"spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]}}
RULES = "/apis/networking.istio.io/v1/namespaces/{}/virtualservices"


async def test_what_was_deleted_while_the_watch_was_lost_is_gone_after_it(
    proxy: FaultProxy, connect: Connect, client: KubernetesClient, namespace: str
) -> None:
    """FT3: the API server has forgotten the version that the watch wants to go on from."""
    names = [f"s{number}" for number in range(20)]
    await make(client, namespace, names)
    async with following(connect(proxy.kubeconfig), namespace) as world:
        await until(world.ready.is_set, "all is listed")
        assert world.names("Service", namespace) == set(names)
        proxy.watching.clear()
        await remove(client, namespace, names[:10])
        await make(client, namespace, ["new"])
        proxy.forge("services", 410, "Expired")
        proxy.watching.set()
        taken = await until(lambda: world.names("Service", namespace) == {*names[10:], "new"}, "the store is right", 20)
        figures.fault("FT3", f"nothing stale after {taken:.1f} s")
        assert taken < 5
        assert (world.passes("services"), world.passes("pods")) == (2, 1)


@pytest.mark.parametrize(
    "seconds",
    [8, pytest.param(figures.lasting(600), marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
async def test_an_api_server_that_was_away_is_followed_again_within_three_seconds(
    proxy: FaultProxy, connect: Connect, client: KubernetesClient, namespace: str, seconds: float
) -> None:
    """FT1: what is known serves on, and each kind goes on where it was or lists once."""
    await make(client, namespace, ["kept", "gone"])
    async with following(connect(proxy.kubeconfig), namespace) as world:
        await until(world.ready.is_set, "all is listed")
        lists = dict(proxy.lists)
        await proxy.stop()
        await remove(client, namespace, ["gone"])
        await make(client, namespace, ["new"])
        await asyncio.sleep(seconds)
        assert world.names("Service", namespace) == {"kept", "gone"}
        await proxy.start()
        taken = await until(lambda: world.names("Service", namespace) == {"kept", "new"}, "it has caught up")
        figures.fault("FT1", f"{seconds:g} s away: caught up {taken:.1f} s after, nothing emptied")
        assert taken <= 3
        assert all(proxy.lists[kind] <= count + 1 for kind, count in lists.items())


async def test_all_objects_of_a_kind_that_vanish_in_a_gap_are_gone(
    proxy: FaultProxy, connect: Connect, client: KubernetesClient, namespace: str
) -> None:
    await client.request("post", RULES.format(namespace), {"metadata": {"name": "only"}, **versioned()})
    async with following(connect(proxy.kubeconfig), namespace) as world:
        await until(world.ready.is_set, "all is listed")
        assert world.names("VirtualService", namespace) == {"only"}
        proxy.watching.clear()
        await client.request("delete", f"{RULES.format(namespace)}/only")
        proxy.forge("virtualservices", 410, "Expired")
        proxy.watching.set()
        await until(lambda: not world.names("VirtualService", namespace), "it is gone")


def versioned() -> dict[str, object]:
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", **RULE}


@pytest.mark.parametrize("code", [500, 504])
async def test_an_error_in_a_watch_starts_that_watch_again_and_no_other(
    proxy: FaultProxy, connect: Connect, client: KubernetesClient, namespace: str, code: int
) -> None:
    """FT4."""
    async with following(connect(proxy.kubeconfig), namespace) as world:
        await until(world.ready.is_set, "all is listed")
        proxy.forge("services", code, "InternalError")
        await until(lambda: world.passes("services") == 2, "it lists again")
        await make(client, namespace, ["after"])
        await until(lambda: world.names("Service", namespace) == {"after"}, "it follows again")
        assert all(one["passes"] <= 1 for one in world.watch.status() if one["kind"] != "services")


async def test_a_watch_through_which_nothing_comes_any_more_is_found_out(
    proxy: FaultProxy, connect: Connect, client: KubernetesClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FT5, with a second in place of a minute; TCP's own probes find a dead machine within 25 s."""
    monkeypatch.setattr(module, "INACTIVITY", 1.0)
    async with following(connect(proxy.kubeconfig), namespace) as world:
        await until(world.ready.is_set, "all is listed")
        proxy.watching.clear()
        await make(client, namespace, ["unseen"])
        await until(lambda: proxy.watches["services"] > 1, "the watch begins anew", 10)
        proxy.watching.set()
        await until(lambda: world.names("Service", namespace) == {"unseen"}, "it is seen", 10)


async def test_an_api_server_that_fails_often_is_not_asked_more_often(
    proxy: FaultProxy, connect: Connect, client: KubernetesClient, namespace: str
) -> None:
    """FT2: 30 % of calls fail, also those of a start; each kind lists at most twice more than it has to."""
    chance = random.Random(7)

    def refuse(_: web.Request) -> web.Response | None:
        if chance.random() < 0.3:
            status = chance.choice((500, 503, 429))
            headers = {"Retry-After": "1"} if status == 429 else {}
            return web.Response(status=status, text="injected", headers=headers)
        return None

    proxy.refuse = refuse
    async with following(connect(proxy.kubeconfig), namespace) as world:
        await until(world.ready.is_set, "all is listed", 60)
        first = dict(proxy.lists)
        await make(client, namespace, ["web"])
        await until(lambda: world.names("Service", namespace) == {"web"}, "it follows", 30)
        began = time.monotonic()
        while time.monotonic() - began < 10:
            for kind in ("services", "pods"):
                proxy.forge(kind, 500, "InternalError")
            await asyncio.sleep(5)
        extra = {
            kind: count - first.get(kind, 0) for kind, count in proxy.lists.items() if kind not in ("services", "pods")
        }
        figures.fault("FT2", f"at most {max(extra.values())} more listings of a kind")
        assert max(extra.values()) <= 2, extra


async def test_a_pause_that_the_server_asks_for_is_kept(proxy: FaultProxy, connect: Connect, namespace: str) -> None:
    asked: list[float] = []

    def refuse(request: web.Request) -> web.Response | None:
        if plural(request) != "services" or is_watch(request):
            return None
        asked.append(time.monotonic())
        return web.Response(status=429, headers={"Retry-After": "3"}) if len(asked) == 1 else None

    proxy.refuse = refuse
    async with following(connect(proxy.kubeconfig), namespace) as world:
        await until(world.ready.is_set, "all is listed")
    assert asked[1] - asked[0] >= 3


async def test_nothing_is_ready_before_the_last_listing_is_complete(
    proxy: FaultProxy, connect: Connect, namespace: str
) -> None:
    """FT11, FT12: blocked as a whole, then in one kind."""
    proxy.open.clear()
    proxy.delay["endpointslices"] = asyncio.Event()
    async with following(connect(proxy.kubeconfig), namespace) as world:
        await asyncio.sleep(1)
        assert not world.ready.is_set()
        proxy.open.set()
        await until(lambda: len(world.watch.waiting()) == 1, "one is left")
        assert world.watch.waiting() == ("endpointslices.discovery.k8s.io: being listed",)
        await asyncio.sleep(1)
        assert not world.ready.is_set()
        proxy.delay["endpointslices"].set()
        await until(world.ready.is_set, "all is listed")


async def test_an_invalid_object_that_nobody_checked_hurts_no_neighbour(
    client: KubernetesClient, namespace: str
) -> None:
    """FT20: the webhook was off."""
    for name, spec in (("bad", {"hosts": 3, "http": "x"}), ("good", RULE["spec"]), ("empty", None)):
        body = {**versioned(), "metadata": {"name": name}, "spec": spec}
        await client.request("post", RULES.format(namespace), body)
    async with following(client, namespace) as world:
        await until(world.ready.is_set, "all is listed")
        assert "good" in world.names("VirtualService", namespace)
        assert "bad" not in world.names("VirtualService", namespace)
        await until(lambda: any(f.key and f.key.name == "bad" for f in world.findings), "it is reported")


async def test_a_crd_that_is_deleted_and_made_again_concerns_its_kind_only(
    cluster: Cluster, client: KubernetesClient, namespace: str
) -> None:
    """FT29."""
    info = KINDS["networking.istio.io", "Sidecar"]
    head = {"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "s"}}
    body = {**head, "spec": {"egress": [{"hosts": ["./*"]}]}}
    path = f"/apis/networking.istio.io/v1/namespaces/{namespace}/sidecars"
    await client.request("post", path, body)
    async with following(client, namespace) as world:
        await until(world.ready.is_set, "all is listed")
        assert world.names("Sidecar", namespace) == {"s"}
        await asyncio.to_thread(cluster.kubectl, "delete", "crd", "sidecars.networking.istio.io")
        await until(lambda: not world.names("Sidecar", namespace), "its objects are gone", 60)
        await make(client, namespace, ["web"])
        await until(lambda: world.names("Service", namespace) == {"web"}, "others go on")
        await asyncio.to_thread(install, cluster, [info])
        await client.request("post", path, body)
        await until(lambda: world.names("Sidecar", namespace) == {"s"}, "it is back", 60)
        assert all(one["passes"] <= 1 for one in world.watch.status() if not str(one["kind"]).startswith("sidecars"))


async def test_a_crd_that_is_missing_at_the_start_is_reported_and_one_of_a_policy_is_waited_for(
    proxy: FaultProxy, connect: Connect, namespace: str
) -> None:
    missing = {"gateways", "authorizationpolicies", "wasmplugins"}
    proxy.refuse = lambda request: web.Response(status=404) if plural(request) in missing else None
    async with following(connect(proxy.kubeconfig), namespace) as world:
        await until(lambda: len(world.watch.waiting()) == 1, "one is left")
        assert world.watch.waiting()[0].startswith("authorizationpolicies.security.istio.io: ")
        await until(lambda: len(world.findings) == 2, "both that matter are reported")
        assert {f.code for f in world.findings} == {Code.UNWATCHED}
        missing.clear()
        await until(world.ready.is_set, "it begins as soon as it can")
        await until(lambda: not world.findings, "nothing is missing", 60)


ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {name}}}
rules:
- {{apiGroups: ["*"], resources: {resources}, verbs: [get, list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}
subjects: [{{kind: ServiceAccount, name: default, namespace: {name}}}]
"""


async def test_a_right_that_is_revoked_and_given_back_empties_nothing(
    cluster: Cluster, client: KubernetesClient, connect: Connect, namespace: str, tmp_path: Path
) -> None:
    """FT30."""
    most = sorted({info.plural for info in KINDS.values()} - {"services"})

    async def allow(resources: list[str]) -> None:
        await asyncio.to_thread(cluster.apply, ROLE.format(name=namespace, resources=json.dumps(resources)))

    await allow([*most, "services"])
    await make(client, namespace, ["kept"])
    limited = connect(await as_account(cluster, namespace, tmp_path))
    async with following(limited, namespace) as world:
        await until(world.ready.is_set, "all is listed")
        await allow(most)
        world.interrupt("services")
        await until(lambda: any("services" in f.message and "403" in f.message for f in world.findings), "it is told")
        assert world.names("Service", namespace) == {"kept"}
        await make(client, namespace, ["late"])
        await allow([*most, "services"])
        taken = await until(lambda: world.names("Service", namespace) == {"kept", "late"}, "it recovers", 60)
        figures.fault("FT30", f"recovered {taken:.1f} s after the right was back; 0 exits, nothing emptied")
        await until(lambda: not world.findings, "nothing is wrong any more")
    for kind in ("clusterrolebinding", "clusterrole"):
        await asyncio.to_thread(cluster.kubectl, "delete", kind, namespace)
