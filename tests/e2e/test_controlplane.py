"""The API server that other tests are given, as a client of it sees it."""

from __future__ import annotations

import base64
import json
import socket
import subprocess

import pytest

from e2e.harness import tools
from e2e.harness.controlplane import Cluster, control_plane
from e2e.harness.process import wait

pytestmark = pytest.mark.apiserver


def test_it_is_the_version_that_go_mod_pins(apiserver: Cluster) -> None:
    version = json.loads(apiserver.kubectl("version", "-o", "json"))

    assert version["serverVersion"]["gitVersion"] == tools.kubernetes_version()
    assert version["clientVersion"]["gitVersion"] == tools.kubernetes_version()


def test_other_machines_cannot_reach_it(apiserver: Cluster) -> None:
    port = int(apiserver.server.rpartition(":")[2])

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)  # an address of this machine, too


def test_its_controllers_make_pods_of_deployments(apiserver: Cluster, namespace: str) -> None:
    apiserver.kubectl("create", "deployment", "web", "--image=registry.local/web:1", "--replicas=2", "-n", namespace)

    wait("two pods", lambda: len(apiserver.get("pods", "-l", "app=web", "-n", namespace)["items"]) == 2, seconds=30)


def test_tokens_are_for_the_audience_of_proxies(apiserver: Cluster, namespace: str) -> None:
    apiserver.kubectl("wait", "serviceaccount/default", "-n", namespace, "--for=create", "--timeout=30s")
    token = apiserver.token("default", namespace)
    body = token.split(".")[1]

    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    review = {**review, "spec": {"token": token, "audiences": ["istio-ca"]}}
    answer = json.loads(apiserver.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)))

    assert claims["aud"] == ["istio-ca"]
    assert answer["status"]["authenticated"] is True
    assert answer["status"]["user"]["username"] == f"system:serviceaccount:{namespace}:default"


def test_several_run_at_once_and_leave_nothing_behind(apiserver: Cluster) -> None:
    with control_plane(controllers=False) as second:
        apiserver.kubectl("create", "configmap", "only-in-the-first")
        names = [item["metadata"]["name"] for item in second.get("configmaps", "-n", "default")["items"]]
        home = second.home
    apiserver.kubectl("delete", "configmap", "only-in-the-first")

    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout

    assert "only-in-the-first" not in names
    assert not home.exists()
    assert str(home) not in processes
