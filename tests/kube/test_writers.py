"""What the control plane writes into a real cluster: CA, roots, caBundle, Lease, statuses; and TokenReview."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jwt
import pytest

from crds import diagnostic
from crds.diagnostic import Code
from crds.key import NETWORKING, ConfigKey
from e2e.harness.controlplane import Cluster
from istiod.ca import keystore
from istiod.ca.authority import self_signed
from istiod.cluster import Cluster as Source
from istiod.config.kubernetes import ApiError
from istiod.config.protocols import UnavailableError
from istiod.config.store import ConfigStore
from istiod.kube import root_certificates, secrets, token_review
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.kube.lease import DURATION, PERIOD, VALID, Candidate, Leader
from istiod.kube.root_certificates import NAME, RootCertificates
from istiod.kube.status_writer import Sources, StatusWriter
from istiod.kube.token_review import DEADLINE, TokenReviewVerifier
from istiod.kube.webhooks import Ours, WebhookBundles, Wishes
from istiod.settings import ClusterSettings, Settings
from istiod.source import View
from istiod.supervision import SettingsError, now
from tests.kube.faults import FaultProxy
from tests.kube.following import becomes, following, until
from wire.ca import OWN_CA, PLUGGED_IN
from wire.spiffe import Identity

pytestmark = pytest.mark.apiserver
Connect = Callable[[str], KubernetesClient]


def alone(client: KubernetesClient) -> Leader:
    return Leader(client, Candidate(namespace="", name="", identity=""), alone=True)


@contextlib.asynccontextmanager
async def running(*parts: Callable[[], Any]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(part()) for part in parts]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def settings(kubeconfig: str, namespace: str) -> Settings:
    return Settings(config_dirs=(), cluster=ClusterSettings(kubeconfig=kubeconfig, namespace=namespace))


async def test_replicas_that_start_together_share_one_ca(kubeconfig: str, namespace: str) -> None:
    replicas = [Source(settings(kubeconfig, namespace)) for _ in range(4)]
    found = await asyncio.gather(*(replica.authority() for replica in replicas))
    assert len({authority.roots for authority in found}) == 1
    for replica in replicas:
        await replica.close()


async def test_the_users_own_ca_wins_and_one_that_cannot_be_used_is_said(
    client: KubernetesClient, kubeconfig: str, namespace: str
) -> None:
    own, users = (self_signed(name, now()) for name in ("own", "users"))
    assert await secrets.create(client, namespace, OWN_CA, "Opaque", keystore.pack(own))
    assert not await secrets.create(client, namespace, OWN_CA, "Opaque", keystore.pack(users))
    assert await secrets.create(client, namespace, PLUGGED_IN, "Opaque", keystore.pack(users))
    source = Source(settings(kubeconfig, namespace))
    assert (await source.authority()).roots == users.roots.decode()
    path = f"/api/v1/namespaces/{namespace}/secrets/{PLUGGED_IN}"
    await client.request("patch", path, {"data": {keystore.KEY: None}}, kind=MERGE_PATCH)
    with pytest.raises(SettingsError, match=f"Secret {PLUGGED_IN} has no ca-key.pem"):
        await source.authority()
    await source.close()


async def test_the_trust_domain_is_that_of_the_meshs_settings(
    client: KubernetesClient, kubeconfig: str, namespace: str
) -> None:
    body = {"metadata": {"name": "istio"}, "data": {"mesh": "trustDomain: example.org"}}
    await client.request("post", f"/api/v1/namespaces/{namespace}/configmaps", body)
    source = Source(settings(kubeconfig, namespace))
    await source.authority()
    assert source.trust_domain == "example.org"
    await source.close()


async def test_every_namespace_has_the_roots_also_after_somebody_changed_them(
    client: KubernetesClient, namespace: str
) -> None:
    namespaces = [namespace, "kube-system"]
    wishes = root_certificates.Wishes(
        namespaces=lambda: namespaces, roots=lambda: "the roots", owner=lambda: None, listed=lambda: True
    )
    writer = RootCertificates(client, alone(client), wishes)
    path = f"/api/v1/namespaces/{namespace}/configmaps/{NAME}"

    async def said() -> Any:
        try:
            return (await client.request("get", path))["data"]["root-cert.pem"]
        except ApiError:
            return None

    async def eventually(text: str) -> None:
        await becomes(said, lambda now: now == text, 10)

    async with running(writer.collection.follow, writer.writer.run):
        await eventually("the roots")
        await client.request("patch", path, {"data": {"root-cert.pem": "forged"}}, kind=MERGE_PATCH)
        await eventually("the roots")
        await client.request("delete", path)
        await eventually("the roots")
        with pytest.raises(ApiError):
            await client.request("get", f"/api/v1/namespaces/kube-system/configmaps/{NAME}")


def configuration(kind: str, name: str, revision: str | None) -> dict[str, Any]:
    service = {"service": {"name": "istiod", "namespace": "istio-system", "path": "/x"}, "caBundle": "eA=="}
    webhook = {
        "name": "rev.validation.istio.io",
        "clientConfig": service,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
        "rules": [{"apiGroups": ["none.example"], "apiVersions": ["v1"], "resources": ["x"], "operations": ["CREATE"]}],
    }
    labels = {"istio.io/rev": revision} if revision else {}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "webhooks": [webhook, {**webhook, "name": "second.validation.istio.io"}],
    }


async def test_our_webhooks_get_the_roots_back_within_seconds(client: KubernetesClient, namespace: str) -> None:
    """A25, FT43; another revision's configuration, and a stranger's, are left alone."""
    base = "/apis/admissionregistration.k8s.io/v1"
    made = {
        f"{namespace}-ours": ("MutatingWebhookConfiguration", "blue"),
        f"{namespace}-tag": ("ValidatingWebhookConfiguration", "blue"),
        f"{namespace}-named": ("ValidatingWebhookConfiguration", None),
        f"{namespace}-theirs": ("MutatingWebhookConfiguration", "green"),
        f"{namespace}-stranger": ("ValidatingWebhookConfiguration", None),
    }
    paths = {name: f"{base}/{kind.lower()}s/{name}" for name, (kind, _) in made.items()}
    for name, (kind, revision) in made.items():
        await client.request("post", f"{base}/{kind.lower()}s", configuration(kind, name, revision))
    ours = Ours(
        revision="blue",
        names=frozenset({f"{namespace}-named"}),
        hosts=frozenset({"istiod.istio-system.svc"}),
    )
    answering = False
    wishes = Wishes(roots=lambda: "the roots", strict=lambda: answering)
    bundles = WebhookBundles(client, alone(client), ours, wishes)
    wanted = base64.b64encode(b"the roots").decode()

    async def said(name: str) -> set[tuple[str, str]]:
        found = await client.request("get", paths[name])
        return {(one["clientConfig"].get("caBundle", ""), one["failurePolicy"]) for one in found["webhooks"]}

    async def eventually(name: str, policy: str) -> None:
        await becomes(lambda: said(name), lambda now: now == {(wanted, policy)}, 5)

    async with running(*(one.follow for one in bundles.collections), bundles.writer.run):
        for name in ("ours", "tag", "named"):
            await eventually(f"{namespace}-{name}", "Ignore")
        kind, revision = made[f"{namespace}-ours"]
        again = configuration(kind, f"{namespace}-ours", revision)
        again["webhooks"][1]["clientConfig"].pop("caBundle")
        again["metadata"]["resourceVersion"] = (await client.request("get", paths[f"{namespace}-ours"]))["metadata"][
            "resourceVersion"
        ]
        await client.request("put", paths[f"{namespace}-ours"], again)
        await eventually(f"{namespace}-ours", "Ignore")
        answering = True
        await eventually(f"{namespace}-tag", "Fail")
        for name in ("theirs", "stranger"):
            assert await said(f"{namespace}-{name}") == {("eA==", "Ignore")}
    for path in paths.values():
        await client.request("delete", path)


class Clock:
    def __init__(self) -> None:
        self.jump = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.jump


async def test_one_of_two_leads_and_hands_over_when_it_goes(client: KubernetesClient, namespace: str) -> None:
    first, second = (
        Leader(client, Candidate(namespace=namespace, name="istio-leader", identity=name)) for name in ("a", "b")
    )
    async with running(second.run):
        task = asyncio.create_task(first.run())
        await until(lambda: first.holds or second.holds, "one leads")
        await asyncio.sleep(PERIOD * 2)
        assert first.holds != second.holds
        if first.holds:
            task.cancel()
            await asyncio.wait((task,))
            assert await until(lambda: second.holds, "the other leads", PERIOD * 4) < DURATION
        else:
            task.cancel()
            await asyncio.wait((task,))
            assert second.holds


async def test_a_leader_that_was_stopped_is_fenced_before_anything_else(
    client: KubernetesClient, namespace: str
) -> None:
    """FT50: while it does not run, time goes on; what it finds first is that it leads no more."""
    clock = Clock()
    leader = Leader(client, Candidate(namespace=namespace, name="istio-leader", identity="a"), clock)
    async with running(leader.run):
        await until(lambda: leader.holds, "it leads")
        clock.jump += VALID + PERIOD
        assert not leader.holds
        await until(lambda: leader.holds, "it leads again, after a renewal")


async def test_a_holder_that_vanished_is_followed_after_its_lease(client: KubernetesClient, namespace: str) -> None:
    """FT49: nobody compares clocks of machines: what counts is that the Lease does not change."""
    gone = Leader(client, Candidate(namespace=namespace, name="istio-leader", identity="gone"))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            task = asyncio.create_task(gone.run())
            await until(lambda: gone.holds, "it leads")
            gone._until = 0.0  # so that it gives nothing back
            task.cancel()
            await asyncio.wait((task,))
    clock = Clock()
    heir = Leader(client, Candidate(namespace=namespace, name="istio-leader", identity="heir"), clock)
    async with running(heir.run):
        await asyncio.sleep(PERIOD * 2)
        assert not heir.holds
        clock.jump = DURATION
        await until(lambda: heir.holds, "it leads")


async def test_the_api_server_judges_tokens(
    client: KubernetesClient, cluster: Cluster, proxy: FaultProxy, connect: Connect, namespace: str
) -> None:
    verifier = TokenReviewVerifier(client, "example.org")
    token = await asyncio.to_thread(cluster.token, "default", namespace)
    assert await verifier.verify(token) == Identity("example.org", namespace, "default")
    other = await asyncio.to_thread(cluster.token, "default", namespace, "https://kubernetes.default.svc.cluster.local")
    assert await verifier.verify(other) is None
    assert await verifier.verify("nonsense") is None
    assert await verifier.verify("x" * 20_000) is None
    slow = TokenReviewVerifier(connect(proxy.kubeconfig), "example.org")  # fault FT40
    assert await slow.verify(token) == Identity("example.org", namespace, "default")
    moment = jwt.decode(token, options={"verify_signature": False})["exp"] - 1.0
    last = TokenReviewVerifier(connect(proxy.kubeconfig), "example.org", clock=lambda: moment)
    assert await last.verify(token) == Identity("example.org", namespace, "default")
    proxy.open.clear()
    moment += 0.5
    assert await last.verify(token) == Identity("example.org", namespace, "default")
    moment += 1.0
    with pytest.raises(UnavailableError):  # an answer is kept no longer than its token lives
        await last.verify(token)
    assert await slow.verify(token) == Identity("example.org", namespace, "default")
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        await slow.verify(other)
    assert time.monotonic() - began < DEADLINE + 1


async def test_a_pod_that_is_gone_proves_nobody_after_ten_seconds(client: KubernetesClient, namespace: str) -> None:
    """SEC14. The API server itself remembers for 10 s whom it has judged."""
    assert token_review.KEPT <= 10
    core = f"/api/v1/namespaces/{namespace}"
    spec = {"containers": [{"name": "app", "image": "app"}], "schedulerName": "none"}
    pod = await client.request("post", f"{core}/pods", {"metadata": {"name": "web"}, "spec": spec})
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": pod["metadata"]["uid"]}
    wanted = {"spec": {"audiences": ["istio-ca"], "expirationSeconds": 3600, "boundObjectRef": bound}}
    made = await client.request("post", f"{core}/serviceaccounts/default/token", wanted)
    token, ahead = made["status"]["token"], 0.0
    verifier = TokenReviewVerifier(client, "example.org", clock=lambda: time.time() + ahead)
    assert await verifier.verify(token) == Identity("example.org", namespace, "default")
    await client.request("delete", f"{core}/pods/web?gracePeriodSeconds=0")
    ahead += 9.0
    assert await verifier.verify(token) is not None  # not asked anew
    ahead += 1.1

    async def proves_nobody() -> bool:
        nonlocal ahead
        ahead += token_review.KEPT
        return await verifier.verify(token) is None

    await becomes(proves_nobody, bool, 15)


RULES = "/apis/networking.istio.io/v1/namespaces/{}/virtualservices"


async def make_rule(
    client: KubernetesClient, namespace: str, name: str = "web", labels: Mapping[str, str] | None = None
) -> str:
    """A rule into whose status somebody else has written."""
    body = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
    }
    await client.request("post", RULES.format(namespace), body)
    path = f"{RULES.format(namespace)}/{name}"
    foreign = {"conditions": [{"type": "Foreign", "status": "True"}]}
    await client.request("patch", f"{path}/status", {"status": foreign}, kind=MERGE_PATCH)
    return path


async def test_a_status_is_written_once_and_follows_what_was_found(client: KubernetesClient, namespace: str) -> None:
    key = ConfigKey(NETWORKING, "VirtualService", namespace, "web")
    path = await make_rule(client, namespace)
    found: list[diagnostic.Diagnostic] = []
    version = 0

    async def conditions() -> dict[str, str]:
        status: dict[str, Any] = (await client.request("get", path)).get("status", {})
        return {one["type"]: one["status"] for one in status.get("conditions", [])}

    async def eventually(**wanted: str) -> None:
        await becomes(conditions, lambda now: wanted.items() <= now.items(), 15)

    async with following(client, namespace) as world:
        await until(world.ready.is_set, "all is listed")
        sources = Sources(
            ready=world.ready.is_set,
            version=lambda: (version, world.objects.changes),
            observed=lambda: ((k, o) for k, o in world.objects.observed.items() if k.namespace == namespace),
            findings=lambda: tuple(found),
            serving=world.store.has,
        )
        writers = [StatusWriter(client, alone(client), sources, lambda: dt.datetime.now(dt.UTC)) for _ in range(2)]
        async with running(*(one.writer.run for one in writers)):
            await eventually(Accepted="True", InUse="True", Conflicts="False", RejectedByEnvoy="False", Foreign="True")
            found.append(diagnostic.error(Code.REJECTED_BY_ENVOY, key, "spec.http[0]", "no such thing"))
            version += 1
            await eventually(RejectedByEnvoy="True", Accepted="True", Foreign="True")
            await asyncio.sleep(3)
            version += 1
            await asyncio.sleep(3)
        assert sum(one.writes for one in writers) <= 4  # two versions, and of two writers both may try
    status = (await client.request("get", path))["status"]
    assert status["validationMessages"] == [{"level": "ERROR", "type": {"code": "M0201", "name": "RejectedByEnvoy"}}]
    events: Sequence[Any] = (await client.request("get", f"/api/v1/namespaces/{namespace}/events"))["items"]
    assert [(one["reason"], one["involvedObject"]["name"]) for one in events if one["type"] == "Warning"] == [
        ("RejectedByEnvoy", "web")
    ]


async def test_an_object_of_a_revision_has_its_status_from_it_whoever_leads_the_cluster(
    client: KubernetesClient, kubeconfig: str, namespace: str
) -> None:
    ours = await make_rule(client, namespace, "ours", {"istio.io/rev": "canary"})
    everybodys = await make_rule(client, namespace, "everybodys")
    own = ClusterSettings(kubeconfig=kubeconfig, namespace=namespace, revision="canary")
    source, store, ready = Source(Settings(config_dirs=(), cluster=own)), ConfigStore(), asyncio.Event()
    view = View(ready=ready.is_set, findings=tuple, version=lambda: 0, serving=store.has, report=lambda _: None)
    old = Leader(client, Candidate(namespace=namespace, name="istio-leader", identity="of the old revision"))

    async def generation(path: str) -> Any:
        return (await client.request("get", path))["status"].get("observedGeneration")

    async with running(old.run):
        await until(lambda: old.holds, "the old revision leads the cluster")
        parts = [run for _, run in source.parts(view)]
        async with running(partial(source.follow, store, lambda _: None, ready.set), *parts):
            await becomes(lambda: generation(ours), lambda now: now is not None, 20)
            assert await generation(everybodys) is None
    await source.close()
