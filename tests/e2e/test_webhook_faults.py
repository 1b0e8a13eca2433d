"""While injection and validation are down or slow (FT41, FT42), and while a namespace goes (FT28).

The tests are steps of one story and run in this order: istiod is started in the second.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from e2e.harness.controlplane import Cluster, control_plane
from e2e.harness.ports import free_ports
from e2e.harness.process import Program, running, wait
from tests import figures
from tests.e2e.relay import Relay, relay
from tests.e2e.test_webhooks import ROOT, RULE, SPACE, containers, pod, rendered

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120, func_only=True)]
SHOP, GOING, LEAVING = "shop", "going", "leaving"
PODS, RULES = 200, 50
POLICY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "nobody"},
    "spec": {},
}
HOLD = "example.com/held"
SIDECAR = ["istio-init", "app", "istio-proxy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """An API server whose webhooks lead through a relay to ``port``, where istiod may listen; ``pages`` is another."""

    cluster: Cluster
    between: Relay
    port: int
    pages: int

    def serves(self, kind: str, namespace: str) -> bool:
        """Whether istiod has an object of that kind and namespace in force."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.pages}/debug/configz", timeout=20) as answer:
            found = json.load(answer)
        return any(one["kind"] == kind and one["metadata"].get("namespace") == namespace for one in found)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    port, pages = free_ports(2)
    with control_plane() as cluster, relay(port) as between:
        cluster.kubectl("apply", "-f", str(ROOT / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "-l", "app=istio-pilot", "--timeout=60s")
        for name in (SPACE, SHOP, GOING):
            cluster.kubectl("create", "namespace", name)
            cluster.kubectl("wait", "serviceaccount/default", "-n", name, "--for=create", "--timeout=30s")
        cluster.kubectl("label", "namespace", SHOP, "istio-injection=enabled")
        cluster.apply(yaml.safe_dump_all(rendered(cluster, f"https://localhost:{between.port}")), SPACE)
        yield World(cluster=cluster, between=between, port=port, pages=pages)


@pytest.fixture(scope="module")
def istiod(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """istiod as a process, ready."""
    pages = world.pages
    secure, mtls = free_ports(2)
    command = [sys.executable, "-m", "istiod", "discovery", "--kubeconfig", str(world.cluster.kubeconfig)]
    command += [f"--httpsAddr=127.0.0.1:{world.port}", f"--httpAddr=127.0.0.1:{pages}", "--monitoringAddr="]
    command += [f"--secureGRPCAddr=127.0.0.1:{secure}", f"--mtlsAddr=127.0.0.1:{mtls}"]
    log = tmp_path_factory.mktemp("istiod") / "log"
    with running("istiod", command, log, {"POD_NAMESPACE": SPACE, "POD_NAME": "istiod-0"}) as program:
        wait("istiod ready", lambda: is_ready(pages), [program], 90)
        yield program
    assert "Traceback" not in log.read_text()


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=20) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def items(cluster: Cluster, kind: str, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.get(kind, "-n", namespace)["items"]
    return found


def failing(cluster: Cluster) -> bool:
    """Whether a ReplicaSet of the shop says that it cannot make its pods."""
    conditions = [each for one in items(cluster, "rs", SHOP) for each in one["status"].get("conditions", [])]
    return any(each["type"] == "ReplicaFailure" and "sidecar-injector" in each["message"] for each in conditions)


def test_without_an_injector_no_pod_starts_outside_of_the_mesh_and_the_clusters_own_do(world: World) -> None:
    """FT41."""
    cluster = world.cluster
    cluster.kubectl("create", "deployment", "web", "--image=app:1", "--replicas=2", "-n", SHOP)
    wait("the pods are refused", lambda: failing(cluster))

    assert items(cluster, "pods", SHOP) == []
    cluster.kubectl("wait", "serviceaccount/default", "-n", "kube-system", "--for=create", "--timeout=30s")
    for namespace in ("kube-system", SPACE):
        cluster.apply(pod("own", **{"app": "istiod", "sidecar.istio.io/inject": "false"}), namespace)
    refused = cluster.call("kubectl", "create", "-n", SHOP, "-f", "-", stdin=RULE.format(name="any", weight=1))
    assert refused.returncode == 1
    assert "failed calling webhook" in refused.stderr


@pytest.mark.usefixtures("istiod")
def test_pods_that_were_refused_are_made_once_there_is_an_injector(world: World) -> None:
    wait("both pods", lambda: len(items(world.cluster, "pods", SHOP)) == 2, seconds=100)

    for each in items(world.cluster, "pods", SHOP):
        assert containers(world.cluster, each["metadata"]["name"], SHOP) == SIDECAR


@pytest.mark.usefixtures("istiod")
def test_a_slow_injector_is_waited_for_and_one_that_is_too_slow_lets_no_pod_by(world: World) -> None:
    """FT42: the API server's limit is 10 s."""
    with world.between.late(8.5):
        world.cluster.apply(pod("slow"), SHOP)
    with world.between.late(15):
        done = world.cluster.call("kubectl", "create", "-n", SHOP, "-f", "-", stdin=pod("slower"))

    assert containers(world.cluster, "slow", SHOP) == SIDECAR
    assert done.returncode == 1
    assert "deadline exceeded" in done.stderr
    assert "slower" not in {each["metadata"]["name"] for each in items(world.cluster, "pods", SHOP)}


@pytest.mark.usefixtures("istiod")
def test_a_namespace_with_hundreds_of_pods_and_rules_goes_within_seconds(world: World) -> None:
    """FT28: nothing of ours holds it, and nothing of ours is made in it again."""
    cluster = world.cluster
    made = [json.loads(pod(f"pod-{number}")) for number in range(PODS)]
    made += [yaml.safe_load(RULE.format(name=f"rule-{number}", weight=1)) for number in range(RULES)]
    cluster.kubectl(
        "create", "-n", GOING, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    )
    wait("the root is there", lambda: bool(cluster.get("configmaps", "-n", GOING)["items"]))

    began = time.monotonic()
    cluster.kubectl("delete", "namespace", GOING, "--timeout=60s")
    figures.fault("FT28", f"{PODS} pods and {RULES} rules gone within {time.monotonic() - began:.1f} s, policies last")
    assert time.monotonic() - began <= 30


@pytest.mark.usefixtures("istiod")
def test_a_policy_holds_as_long_as_a_pod_of_its_namespace_lives(world: World) -> None:
    """FT28: before 1.33, Kubernetes removes the objects of a namespace in any order; here somebody else does."""
    cluster = world.cluster
    cluster.kubectl("create", "namespace", LEAVING)
    cluster.kubectl("wait", "serviceaccount/default", "-n", LEAVING, "--for=create", "--timeout=30s")
    held = json.loads(pod("held"))
    held["metadata"]["finalizers"] = [HOLD]
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [held, POLICY]}), LEAVING)
    wait("the policy is in force", lambda: world.serves("AuthorizationPolicy", LEAVING))

    cluster.kubectl("delete", "namespace", LEAVING, "--wait=false")
    wait("it ends", lambda: cluster.get("namespace", LEAVING)["status"]["phase"] == "Terminating")
    cluster.kubectl("delete", "authorizationpolicy", "nobody", "-n", LEAVING)
    began = time.monotonic()
    while time.monotonic() - began < 2:  # longer than any watch takes to hear of it
        assert world.serves("AuthorizationPolicy", LEAVING)
    assert [each["metadata"]["name"] for each in items(cluster, "pods", LEAVING)] == ["held"]

    patch = json.dumps({"metadata": {"finalizers": None}})
    cluster.kubectl("patch", "pod", "held", "-n", LEAVING, "--type=merge", "-p", patch)
    wait("the policy has left with the last pod", lambda: not world.serves("AuthorizationPolicy", LEAVING))
    wait("the namespace is gone", lambda: not cluster.call("kubectl", "get", "ns", LEAVING).stdout)
