"""The way users meet the product on a real node: install, label, apply, look, change, restore, kill, uninstall.

The tests are the steps of one story and run in this order.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from e2e.harness import mesh as meshes
from e2e.harness import process, sandbox
from e2e.harness.controlplane import Cluster
from e2e.harness.mesh import BOOKINFO, DEMO, INGRESS, SYSTEM, Mesh
from e2e.truth import check
from examples.demo import traffic
from tests.jwks.made import ec_signer, key_set
from tests.story import load, worlds

# The limit is a test's own: fixtures install charts and pods, and have deadlines of their own.
pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(120, func_only=True)]
RULES = BOOKINFO / "networking"
PROMPT = 1.0
"""Seconds in which a change must have reached the proxies."""
RATE, WORKERS = 200, 10
"""Requests a second that are asked for at most, and how many at once."""


@pytest.fixture(scope="module")
def before(node: Cluster) -> frozenset[str]:
    """Everything that is in the cluster before the mesh."""
    return everything(node)


@pytest.fixture(scope="module")
def control_plane(node: Cluster, before: frozenset[str]) -> Iterator[Mesh]:
    """Both charts, until the module ends; then nothing but the CRDs is left."""
    with meshes.control_plane(node) as mesh:
        yield mesh
    left = sorted(everything(node) - before)
    assert [name for name in left if not name.startswith("CustomResourceDefinition ")] == []


@pytest.fixture(scope="module")
def shop(control_plane: Mesh) -> Iterator[Mesh]:
    """BookInfo behind the gateway; at the end every proxy is held against the API server."""
    with meshes.bookinfo(control_plane) as mesh:
        yield mesh
        assert check.differences(mesh.cluster) == []


@pytest.fixture
def mesh(shop: Mesh) -> Iterator[Mesh]:
    """The same, with the test in the cluster's network."""
    with sandbox.network(shop.cluster):
        yield shop


def everything(cluster: Cluster) -> frozenset[str]:
    """Names of all objects but those that come and go by themselves."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    passing = (
        "events",
        "leases.coordination",
        "endpointslices",
        "endpoints",
        "componentstatuses",
        "pods",
        "apiservices",
    )
    kept = [kind for kind in kinds if not kind.startswith(passing)]
    lines = cluster.kubectl(
        "get",
        ",".join(kept),
        "-A",
        "--ignore-not-found",
        "--no-headers",
        "-o",
        "custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name",
    )
    return frozenset(" ".join(line.split()) for line in lines.splitlines())


def test_helm_installs_a_control_plane_of_two(control_plane: Mesh) -> None:
    deployment = control_plane.cluster.get("deployment", "istiod", "-n", SYSTEM)

    assert deployment["status"]["readyReplicas"] == 2
    process.wait("webhooks trusted", lambda: trusted(control_plane.cluster), seconds=10)


def trusted(cluster: Cluster) -> bool:
    injector = cluster.get("mutatingwebhookconfiguration", "istio-sidecar-injector")
    return all(each["clientConfig"].get("caBundle") for each in injector["webhooks"])


def test_pods_of_a_labelled_namespace_get_a_native_sidecar(shop: Mesh) -> None:
    for pod in shop.cluster.get("pods", "-n", DEMO)["items"]:
        inits = {each["name"]: each for each in pod["spec"]["initContainers"]}
        states = pod["status"]["containerStatuses"] + pod["status"]["initContainerStatuses"]

        assert list(inits) == ["istio-init", "istio-proxy"]
        assert inits["istio-proxy"]["restartPolicy"] == "Always"
        assert all(each["ready"] for each in states)


async def test_the_page_answers_through_the_gateway(mesh: Mesh) -> None:
    async with traffic.Client(mesh.url) as client:
        page = await client.get(traffic.PAGE)
        versions = await client.versions(10)

    assert page.status == 200
    assert "The Comedy of Errors" in page.text
    assert versions == {"v1": 10}


async def test_a_rule_changes_routing_at_once(mesh: Mesh) -> None:
    async with traffic.Client(mesh.url) as client:
        mesh.apply(RULES / "reviews-jason-v2.yaml")
        seconds = await worlds.until("v2 for jason", lambda: only(client, "v2", "jason"), PROMPT * 5)

        assert await client.versions(10) == {"v1": 10}
        assert await client.versions(10, user="jason") == {"v2": 10}
    assert seconds <= PROMPT


def test_every_proxy_has_what_the_api_server_says(mesh: Mesh) -> None:
    assert check.differences(mesh.cluster) == []


def test_the_rule_carries_a_status(mesh: Mesh) -> None:
    process.wait("a status", lambda: "conditions" in virtual_service(mesh).get("status", {}), seconds=20)

    conditions = {each["type"]: each["status"] for each in virtual_service(mesh)["status"]["conditions"]}
    assert conditions == {"Accepted": "True", "InUse": "True", "Conflicts": "False", "RejectedByEnvoy": "False"}


def virtual_service(mesh: Mesh) -> dict[str, dict[str, list[dict[str, str]]]]:
    found: dict[str, dict[str, list[dict[str, str]]]] = mesh.cluster.get("virtualservice", "reviews", "-n", DEMO)
    return found


def test_istioctl_says_that_proxies_are_synced(mesh: Mesh) -> None:
    told = mesh.istioctl("proxy-status")

    assert told.returncode == 0, told.stderr
    for name in [*mesh.pods(DEMO), *mesh.pods(INGRESS)]:
        line = next((line for line in told.stdout.splitlines() if line.startswith(name)), "")
        assert "SYNCED" in line, told.stdout


def test_a_report_has_what_istiod_and_a_proxy_say(mesh: Mesh, tmp_path: Path) -> None:
    chosen = next(name for name in mesh.pods(DEMO) if name.startswith("productpage"))
    told = mesh.istioctl("bug-report", "--include", f"{DEMO}//{chosen}", "--output-dir", str(tmp_path))

    assert told.returncode == 0, told.stderr
    with tarfile.open(tmp_path / "bug-report.tar.gz") as held:
        names = {each.removeprefix("bug-report/") for each in held.getnames()}
        assert json.load(held.extractfile("bug-report/manifest.json") or io.BytesIO())["missing"] == []
    proxy = f"proxies/{DEMO}/{chosen}"
    assert {f"{proxy}/{name}" for name in ("log.txt", "config_dump.json", "ndsz.json", "tasks.txt")} <= names
    assert not [each for each in names if each.startswith("proxies/") and not each.startswith(proxy)]
    assert [each for each in names if re.fullmatch(r"istiod/[^/]+/(syncz|diagnosticsz)\.json", each)]


def test_what_istiod_logs_and_what_a_proxy_counts_is_a_command_away(mesh: Mesh) -> None:
    for level, words in (("debug", ("--level", "ads:debug")), ("info", ("--reset",))):
        told = mesh.istioctl("admin", "log", *words)
        assert re.search(rf"^ads .* {level} +none$", told.stdout, re.MULTILINE), (told.stdout, told.stderr)
    counted = mesh.istioctl("x", "envoy-stats", f"{mesh.pods(DEMO)[0]}.{DEMO}", "-o", "prom-merged")
    assert "istio_agent_" in counted.stdout, counted.stderr
    assert "envoy_server_live" in counted.stdout


async def test_dashboards_are_shown_through_a_port_forward(mesh: Mesh) -> None:
    """The mesh page of the istiod that the tunnel leads to, and the admin page of a pod's Envoy."""
    with mesh.dashboard("istiod-debug") as address:
        async with traffic.Client(address.removesuffix("/debug")) as client:
            assert address.endswith("/debug")
            assert 'href="/debug/page/"' in (await client.get("/debug")).text
            connected = {each["proxy"] for each in json.loads((await client.get("/debug/syncz")).text)}
            shown = (await client.get("/debug/page/proxies")).text
            every = {f"{pod}.{space}" for space in (DEMO, INGRESS) for pod in mesh.pods(space)}
            assert {name for name in every if name in shown} == connected
            asked = f"from=productpage-v1.{DEMO}&scheme=http&host=reviews&port=9080&path=/"
            pages = ("traffic", "findings", "static/page.css", f"explain?{asked}")
            replies = await asyncio.gather(*(client.get(f"/debug/page/{each}") for each in pages))
            assert [each.status for each in replies] == [200] * len(pages)
    pod, *_ = mesh.pods(DEMO, "app=productpage")
    with mesh.dashboard("envoy", f"{pod}.{DEMO}") as address:
        async with traffic.Client(address.rstrip("/")) as client:
            assert pod in (await client.get("/server_info")).text


async def test_deleting_the_rule_restores_what_was(mesh: Mesh) -> None:
    async with traffic.Client(mesh.url) as client:
        mesh.delete(RULES / "reviews-jason-v2.yaml")
        await worlds.until("all versions for jason", lambda: several(client, "jason"), PROMPT * 5)
        mesh.apply(RULES / "reviews-v1.yaml")
        await worlds.until("v1 for jason", lambda: only(client, "v1", "jason"), PROMPT * 5)


async def only(client: traffic.Client, version: str, user: str) -> bool:
    return dict(await client.versions(4, user=user)) == {version: 4}


async def several(client: traffic.Client, user: str) -> bool:
    return len(await client.versions(9, user=user)) == 3


async def test_killing_one_istiod_of_two_fails_no_request(mesh: Mesh) -> None:
    if mesh.cluster.namespace is None:
        pytest.skip("in a cluster of the user's no process can be killed from here")
    pod = mesh.cluster.get("pods", "-n", SYSTEM, "-l", "app=istiod")["items"][0]
    async with traffic.Client(mesh.url) as client:
        steady = load.Load(asks={"catalogue": partial(catalogue, client)}, each=WORKERS, pause=WORKERS / RATE)
        async with load.running(steady):
            await more(steady)
            meshes.kill("istiod", pod["metadata"]["uid"])
            await more(steady)
            mesh.cluster.kubectl("scale", "deployment/productpage-v1", "-n", DEMO, "--replicas=2")
            await asyncio.to_thread(mesh.rolled_out, DEMO)
            await more(steady)

    assert steady.failures == [], mesh.unready(DEMO)
    found = mesh.cluster.get("pod", pod["metadata"]["name"], "-n", SYSTEM)
    assert found["status"]["containerStatuses"][0]["restartCount"] >= 1
    assert check.differences(mesh.cluster) == []


async def catalogue(client: traffic.Client) -> str:
    """Ask for the list of books, which productpage answers alone."""
    reply = await client.get("/api/v1/products")
    return "" if reply.status == 200 else f"{reply.status} {reply.text[:80]}"


async def more(steady: load.Load) -> None:
    """Wait for a second's requests."""
    goal = steady.total + RATE

    async def reached() -> bool:
        return steady.total >= goal

    await worlds.until("requests answered", reached, 60)


POLICIES = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: {system}}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: {demo}}}
spec:
  selector: {{matchLabels: {{app: productpage}}}}
  jwtRules: [{{issuer: "https://issuer.example", jwks: '{keys}'}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: no-login, namespace: {demo}}}
spec:
  selector: {{matchLabels: {{app: productpage}}}}
  action: DENY
  rules: [{{to: [{{operation: {{paths: [/login]}}}}]}}]
"""


async def test_policies_refuse_what_they_say_and_are_told_of_the_pod(mesh: Mesh) -> None:
    issuer = ec_signer()
    good, bad = ({"authorization": f"Bearer {signer.token()}"} for signer in (issuer, ec_signer()))
    pod, *_ = mesh.pods(DEMO, "app=productpage")
    address = mesh.cluster.get("pod", pod, "-n", DEMO)["status"]["podIP"]
    policies = POLICIES.format(system=SYSTEM, demo=DEMO, keys=key_set(issuer))
    async with traffic.Client(mesh.url) as client, traffic.Client(f"http://{address}:9080") as outsider:
        assert (await outsider.get("/health")).status == 200
        mesh.cluster.kubectl("apply", "-f", "-", stdin=policies)
        await worlds.until("no plaintext", lambda: answers(outsider, "/health", 0), PROMPT * 5)
        await worlds.until("no login", lambda: answers(client, "/login", 403), PROMPT * 5)
        await worlds.until("no bad tokens", lambda: answers(client, traffic.PAGE, 401, bad), PROMPT * 5)
        assert (await client.get(traffic.PAGE, good)).status == 200
        told = mesh.istioctl("x", "describe", "pod", f"{pod}.{DEMO}")
        assert told.returncode == 0, told.stderr
        for line in (
            "   Workload mTLS mode: STRICT",
            f"   default.{SYSTEM}",
            f"RBAC policies: ns[{DEMO}]-policy[no-login]",
        ):
            assert line in told.stdout, told.stdout
        mesh.cluster.kubectl("delete", "-f", "-", stdin=policies)
        await worlds.until("plaintext again", lambda: answers(outsider, "/health", 200), PROMPT * 5)
        await worlds.until("the page again", lambda: answers(client, traffic.PAGE, 200, bad), PROMPT * 5)


async def answers(client: traffic.Client, path: str, status: int, headers: dict[str, str] | None = None) -> bool:
    return (await client.get(path, headers)).status == status
