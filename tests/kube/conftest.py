"""A real API server with the CRDs of Istio's API, our client on it, and a proxy before it that makes faults."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from crds.registry import KINDS, KindInfo
from e2e.harness.controlplane import Cluster
from istiod.kube import credentials
from istiod.kube.client import KubernetesClient
from tests.kube.faults import FaultProxy


def crd(info: KindInfo) -> dict[str, Any]:
    """A CRD that keeps whatever it is given: what is tested here is the watch, not the schema."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"served": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
    names = {"kind": info.kind, "listKind": f"{info.kind}List", "plural": info.plural, "singular": info.kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{info.plural}.{info.group}"},
        "spec": {
            "group": info.group,
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": name, "storage": i == 0, **version} for i, name in enumerate(info.versions)],
        },
    }


def install(cluster: Cluster, infos: list[KindInfo]) -> None:
    """Create CRDs and wait until they are served."""
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [crd(info) for info in infos]}))
    names = [f"crd/{info.plural}.{info.group}" for info in infos]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)


@pytest.fixture(scope="session")
def cluster(apiserver: Cluster) -> Cluster:
    """The API server with Istio's kinds."""
    install(apiserver, [info for info in KINDS.values() if info.group.endswith(".istio.io")])
    return apiserver


@pytest.fixture
def kubeconfig(cluster: Cluster) -> str:
    return str(cluster.kubeconfig)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[str], KubernetesClient]]:
    """Makes clients from kubeconfigs."""
    made: list[KubernetesClient] = []

    def client(path: str) -> KubernetesClient:
        made.append(KubernetesClient(lambda: credentials.login(path)))
        return made[-1]

    yield client
    for each in made:
        await each.close()


@pytest.fixture
async def client(connect: Callable[[str], KubernetesClient], kubeconfig: str) -> KubernetesClient:
    return connect(kubeconfig)


@pytest.fixture
async def proxy(kubeconfig: str, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy.between(kubeconfig, tmp_path / "proxy.kubeconfig") as made:
        yield made
