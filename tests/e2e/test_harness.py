"""What the harness does when something goes wrong; stand-ins for kubectl and helm note what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.harness import controlplane, mesh
from e2e.harness.controlplane import Cluster
from e2e.harness.process import ClusterError
from e2e.harness.tools import Tools

DOES = """
case "$1" in
hang) exec sleep 60 ;;
port-forward) echo "Forwarding from 127.0.0.1:12345 -> 8080"; exec sleep 60 ;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    for name in ("kubectl", "helm"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>"$HOME/told"\n{DOES}')
        program.chmod(0o755)
    return Cluster(kubeconfig=tmp_path / "config", server="", tools=Tools(folder=tmp_path), home=tmp_path)


def test_what_was_installed_goes_where_a_story_fails(cluster: Cluster) -> None:
    with pytest.raises(FileNotFoundError), mesh.control_plane(cluster) as installed, mesh.bookinfo(installed):
        (cluster.home / "told").rename(cluster.home / "nowhere" / "told")

    told = (cluster.home / "told").read_text().splitlines()
    assert [line.split()[:3] for line in told[-6:]] == [
        ["helm", "uninstall", "istio-ingressgateway"],
        ["kubectl", "delete", "namespace"],
        ["kubectl", "delete", "namespace"],
        ["helm", "uninstall", "istiod"],
        ["helm", "uninstall", "istio-base"],
        ["kubectl", "delete", "namespace"],
    ]


def test_the_gateway_of_a_users_cluster_is_reached_by_a_forwarded_port(cluster: Cluster) -> None:
    with mesh.control_plane(cluster) as installed, mesh.bookinfo(installed) as shop:
        assert shop.url == "http://127.0.0.1:12345"
    assert (
        "kubectl port-forward service/istio-ingressgateway -n istio-ingress :80" in (cluster.home / "told").read_text()
    )


def test_a_client_that_hangs_is_ended(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controlplane, "_PATIENCE", 0.5)

    with pytest.raises(ClusterError, match=r"kubectl hang: not within 0\.5 s"):
        cluster.kubectl("hang")
