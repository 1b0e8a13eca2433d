"""An upgrade from the release before, and two revisions side by side, under load inside of the mesh (FT52).

The tests are the steps of one story and run in this order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.harness import images, process, releases, sandbox
from e2e.harness.controlplane import Cluster
from e2e.harness.mesh import SYSTEM, Mesh
from e2e.harness.releases import Release
from e2e.truth import check
from tests import figures
from tests.e2e import injected, steady
from tests.e2e.steady import CLIENT, SERVER, Steady

# The limit is a test's own: fixtures install charts and pods, and have deadlines of their own.
pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(120, func_only=True)]
SHOP = "upgraded"
SECOND = 100
"""Requests of about a second."""
DEPARTURES = 2
BASE = Release(chart="base", name="istio-base")
ISTIOD = Release(chart="istiod", name="istiod")
CANARY = Release(
    chart="istiod",
    name="istiod-canary",
    values={"revision": "canary", "revisionTags": ["next"], "pilot": {"replicaCount": 1}},
)


@pytest.fixture(scope="module")
def mesh(node: Cluster) -> Iterator[Mesh]:
    """The release before this one, with two replicas."""
    if node.namespace is None:
        pytest.skip("a cluster of the user's has no images of a release before")
    mesh = Mesh(cluster=node)
    charts = releases.before(node)
    old = {"global": {"tag": releases.BEFORE}}
    base = Release(chart="base", name=BASE.name, charts=charts)
    with releases.installed(node, base, Release(chart="istiod", name=ISTIOD.name, charts=charts, values=old)):
        mesh.rolled_out(SYSTEM)
        yield mesh
    node.kubectl("delete", "namespace", SYSTEM, "--timeout=100s")


@pytest.fixture(scope="module")
def load(mesh: Mesh) -> Iterator[Steady]:
    """Client and server of the release before."""
    yield steady.start(mesh, SHOP, "istio-injection=enabled")
    mesh.cluster.kubectl("delete", "namespace", SHOP, "--timeout=100s")


@pytest.fixture(scope="module")
def canary(mesh: Mesh) -> Iterator[Release]:
    """The revision beside the default one."""
    with releases.installed(mesh.cluster, CANARY):
        mesh.rolled_out(SYSTEM)
        yield CANARY


def served_by(mesh: Mesh, namespace: str) -> dict[str, str]:
    """App of each pod in a namespace -> the istiod that its proxy is connected to."""
    with sandbox.network(mesh.cluster):
        told = mesh.istioctl("proxy-status", "-n", namespace, "-o", "json")
    if told.returncode != 0:
        return {}
    return {re.split("[-.]", each["proxy"])[0]: each["istiod"] for each in json.loads(told.stdout)}


def image(load: Steady, name: str) -> str:
    """The proxy's image of the one pod of a Deployment."""
    (pod,) = load.pods(name)
    (proxy,) = [each for each in pod["spec"]["initContainers"] if each["name"] == "istio-proxy"]
    return str(proxy["image"])


@contextmanager
def labelled(mesh: Mesh, namespace: str, label: str) -> Iterator[str]:
    """A namespace with a label."""
    mesh.cluster.kubectl("create", "namespace", namespace)
    mesh.cluster.kubectl("label", "namespace", namespace, label)
    yield namespace
    mesh.cluster.kubectl("delete", "namespace", namespace, "--timeout=60s")


def rule(name: str, revision: str, weight: int) -> str:
    """A VirtualService of a revision."""
    to = {"destination": {"host": name}, "weight": weight}
    return json.dumps(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": name, "labels": {"istio.io/rev": revision} if revision else {}},
            "spec": {"hosts": [f"{name}.example.org"], "http": [{"route": [to, {"destination": {"host": "b"}}]}]},
        }
    )


def test_the_release_before_serves(mesh: Mesh, load: Steady) -> None:
    load.more(SECOND)

    assert image(load, SERVER).endswith(f":{releases.BEFORE}")
    assert releases.BEFORE in mesh.cluster.kubectl("get", "deployment", "istiod", "-n", SYSTEM, "--show-labels")


def test_an_upgrade_of_the_control_plane_fails_no_request(mesh: Mesh, load: Steady) -> None:
    before = set(mesh.pods(SYSTEM))
    BASE.upgrade(mesh.cluster)
    with injected.making(mesh.cluster, SHOP) as made:
        ISTIOD.upgrade(mesh.cluster)
        process.wait("all old replicas are gone", lambda: not before & set(mesh.pods(SYSTEM)))
    figures.fault(
        "FT9", f"{made.count} pods were made while the replicas ended, {len(made.wrong)} without their sidecar"
    )

    def reconnected() -> bool:
        found = served_by(mesh, SHOP)
        return {SERVER, CLIENT} <= found.keys() and not before & set(found.values())

    process.wait("both proxies are connected to the new replicas", reconnected)
    load.more(SECOND)
    assert load.failures() == [], mesh.unready(SHOP)
    assert made.count > 0
    assert made.wrong == []
    assert check.differences(mesh.cluster) == []


def test_pods_move_to_the_new_release_without_a_failed_request(load: Steady) -> None:
    load.restart(SERVER)
    load.more(SECOND)

    assert image(load, SERVER).endswith(f":{images.TAG}")
    assert load.failures() == []


@pytest.mark.timeout(240)  # two rolling restarts of two deployments
def test_pods_end_when_nobody_sends_to_them_any_more(mesh: Mesh) -> None:
    """Row Z5, with two replicas of which each has some of the proxies: no pause anywhere, and no failed request."""
    load = steady.start(mesh, "departing", "istio-injection=enabled", departs=True)
    for _ in range(DEPARTURES):
        load.restart(SERVER)
    load.more(SECOND)
    assert load.failures() == []
    mesh.cluster.kubectl("delete", "namespace", load.namespace, "--timeout=100s")
    process.wait("no proxy has anything of it", lambda: not check.differences(mesh.cluster))


def test_a_label_and_a_restart_move_a_pod_to_another_revision_without_a_failed_request(
    mesh: Mesh, load: Steady, canary: Release
) -> None:
    mesh.cluster.kubectl("label", "namespace", SHOP, "istio-injection-", f"istio.io/rev={canary.values['revision']}")
    load.restart(SERVER)

    def each_by_its_own() -> bool:
        found = served_by(mesh, SHOP)
        return found.get(SERVER, "").startswith("istiod-canary-") and not found[CLIENT].startswith("istiod-canary-")

    process.wait("each revision serves its own pods", each_by_its_own)
    load.more(SECOND)
    assert load.failures() == []
    assert check.differences(mesh.cluster) == []


def test_a_namespace_may_ask_for_a_revision_by_its_tag(mesh: Mesh, canary: Release) -> None:
    (tag,) = canary.values["revisionTags"]
    with labelled(mesh, "tagged", f"istio.io/rev={tag}") as namespace:
        mesh.cluster.kubectl("run", "sleeper", f"--image={images.PAUSE}", "-n", namespace)
        mesh.cluster.kubectl("wait", "pod/sleeper", "-n", namespace, "--for=condition=Ready", "--timeout=100s")

        process.wait("canary serves it", lambda: served_by(mesh, namespace).get("sleeper", "").startswith(canary.name))


def test_each_revision_speaks_of_its_own_objects_and_one_webhook_judges_the_rest(mesh: Mesh, canary: Release) -> None:
    with labelled(mesh, "ruled", "a=b") as namespace:
        for name, revision in (("shared", ""), ("mine", "default"), ("theirs", str(canary.values["revision"]))):
            refused = mesh.cluster.call("kubectl", "create", "-n", namespace, "-f", "-", stdin=rule(name, revision, -1))
            assert refused.stderr.count("weight -1 is negative") == 1, refused.stderr
            mesh.cluster.apply(rule(name, revision, 1), namespace)

        def all_told() -> bool:
            found = mesh.cluster.get("virtualservices", "-n", namespace)["items"]
            return all(each.get("status", {}).get("conditions") for each in found)

        process.wait("each has a status", all_told)
    hooks = mesh.cluster.get("validatingwebhookconfigurations")["items"]
    of_all = [each["metadata"]["name"] for each in hooks if not each["webhooks"][0].get("objectSelector")]
    assert of_all == ["istiod-default-validator"]
