"""The node that stories run on: what a pod, a Service and a name are in it."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator

import pytest

from e2e.harness import images
from e2e.harness.controlplane import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(120, func_only=True)]

RULES = "iptables -t nat -A OUTPUT -p tcp --dport 9999 -j REDIRECT --to-port 9080 && iptables -t nat -S"


@pytest.fixture(autouse=True)
def ours(node: Cluster) -> None:
    if node.namespace is None:
        pytest.skip("the node is the user's, and its addresses are not reachable from here")


@pytest.fixture
def details(cluster: Cluster) -> Iterator[str]:
    """BookInfo's details behind a Service, with an init container that writes rules and a native sidecar."""
    name = "node-test"
    proxy = f"{images.HUB}/proxyv2:{images.TAG}"
    caught = {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}, "runAsUser": 0}
    rules = "import subprocess as s;" + "".join(f"s.run({line.split()}, check=True);" for line in RULES.split(" && "))
    wait = ["/usr/bin/python3", "-c", "import signal; signal.pause()"]
    spec = {
        "terminationGracePeriodSeconds": 1,
        "initContainers": [
            {"name": "rules", "image": proxy, "command": ["/usr/bin/python3", "-c", rules], "securityContext": caught},
            {"name": "sidecar", "image": proxy, "restartPolicy": "Always", "command": wait},
        ],
        "containers": [
            {
                "name": "details",
                "image": "istio/examples-bookinfo-details-v1:1.20.3",
                "readinessProbe": {"httpGet": {"path": "/health", "port": 9080}, "periodSeconds": 1},
                "securityContext": {"readOnlyRootFilesystem": True, "runAsNonRoot": True},
            }
        ],
    }
    labels = {"app": "details"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {"selector": {"matchLabels": labels}, "replicas": 2, "template": template}
    service = {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 9080}]}
    cluster.kubectl("create", "namespace", name)
    for kind, version, body in (("Deployment", "apps/v1", deployment), ("Service", "v1", service)):
        made = {"apiVersion": version, "kind": kind, "metadata": {"name": "details"}, "spec": body}
        cluster.apply(json.dumps(made), name)
    cluster.kubectl("rollout", "status", "deployment/details", "-n", name, "--timeout=90s")
    yield name
    # Its Service goes after its pods, seconds later: who connects before keeps its clusters for a minute.
    cluster.kubectl("delete", "namespace", name, "--timeout=90s")


def test_pods_services_and_names_are_real(cluster: Cluster, details: str) -> None:
    address = cluster.get("service", "details", "-n", details)["spec"]["clusterIP"]
    with urllib.request.urlopen(f"http://{address}/details/0", timeout=10) as answer:
        from_node = json.load(answer)
    python = ("exec", "deploy/details", "-c", "details", "-n", details, "--", "/usr/bin/curl", "-sS", "-m", "10")
    by_name = json.loads(cluster.kubectl(*python, f"http://details.{details}.svc.cluster.local/details/0"))
    redirected = json.loads(cluster.kubectl(*python, f"http://{address}:9999/details/0"))

    assert from_node == by_name == redirected
    assert "-A OUTPUT -p tcp" in cluster.kubectl("logs", "deploy/details", "-c", "rules", "-n", details)


def test_its_addresses_are_not_on_this_machine(node: Cluster) -> None:
    port = int(node.server.rpartition(":")[2])

    with pytest.raises(OSError, match=r"refused|unreachable"):
        socket.create_connection(("127.0.0.1", port), timeout=2)
