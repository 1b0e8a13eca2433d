"""How istioctl finds pods in a real API server, and what it says where they cannot be had. No node runs here."""

import json
from collections.abc import Callable

import pytest

from e2e.harness.controlplane import Cluster as ApiServer
from istioctl import __main__ as program
from istioctl import cluster
from istioctl.errors import CommandError

pytestmark = pytest.mark.apiserver

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-1", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "app", "image": "app"}], "schedulerName": "none"},
}
WORKLOAD = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": POD["spec"]},
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
}


@pytest.fixture
def found(apiserver: ApiServer, namespace: str) -> Callable[[str], cluster.Cluster]:
    """A cluster with a pod that says it runs, a Deployment and a Service of it, as the flag -n of a command has it."""
    for each in (POD, WORKLOAD, SERVICE):
        apiserver.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(each))
    running = json.dumps({"status": {"phase": "Running"}})
    apiserver.kubectl("patch", "pod", "web-1", "-n", namespace, "--subresource=status", "--type=merge", "-p", running)
    return lambda flag: cluster.Cluster(cluster.Options(kubeconfig=str(apiserver.kubeconfig), namespace=flag))


def test_pods_are_found_by_every_name_that_users_give_them(
    found: Callable[[str], cluster.Cluster], namespace: str
) -> None:
    pod = cluster.Pod(name="web-1", namespace=namespace)
    for text, where in (
        ("web-1", namespace),
        (f"web-1.{namespace}", ""),
        (f"pod/web-1.{namespace}", ""),
        ("deployment/web", namespace),
        (f"deploy/web.{namespace}", ""),
        ("deployments/web", namespace),
        ("svc/web", namespace),
    ):
        assert found(where).pods(text) == [pod], text
    assert found(namespace).proxies("app=web") == [pod]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nobody", 'pod "nobody" not found in namespace "NS"'),
        ("deploy/nobody", 'deploy "nobody" not found in namespace "NS"'),
        ("sa/default", '"sa" does not refer to pods'),
    ],
)
def test_what_is_not_there_is_named(
    found: Callable[[str], cluster.Cluster], namespace: str, text: str, reason: str
) -> None:
    with pytest.raises(CommandError) as refusal:
        found(namespace).pods(text)
    assert reason.replace("NS", namespace) in str(refusal.value)


def test_a_pod_without_a_proxy_and_a_cluster_without_a_control_plane_are_errors(
    apiserver: ApiServer, found: Callable[[str], cluster.Cluster], namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(namespace).pods("web-1")
    flags = ("--kubeconfig", str(apiserver.kubeconfig), "-n", namespace)
    assert program.main(["pc", "cluster", "web-1", *flags]) == 1
    assert f"Error: cannot run pilot-agent in web-1.{namespace}: " in capsys.readouterr().err
    assert program.main(["ps", *flags]) == 1
    assert 'Error: no running Istio pods in "istio-system"' in capsys.readouterr().err
    assert program.main(["ps", "--kubeconfig", str(apiserver.kubeconfig), "--context", "other"]) == 1
    assert 'context "other" does not exist' in capsys.readouterr().err
