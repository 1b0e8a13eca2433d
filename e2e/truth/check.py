"""Asks the API server and every proxy, and says where they differ."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from e2e.harness.controlplane import Cluster
from e2e.harness.process import ClusterError
from e2e.truth import dump, view, wanted

_KINDS = (
    "services",
    "endpointslices.discovery.k8s.io",
    "pods",
    "virtualservices.networking.istio.io",
    "destinationrules.networking.istio.io",
    "gateways.networking.istio.io",
    "sidecars.networking.istio.io",
    "serviceentries.networking.istio.io",
    "workloadentries.networking.istio.io",
    "envoyfilters.networking.istio.io",
)
_PROXY = "istio-proxy"
_AT_ONCE = 4  # proxies that are asked at once
_STEP = 0.2  # seconds between two looks


def differences(cluster: Cluster, seconds: float = 10.0) -> list[str]:
    """What is still wrong after ``seconds`` of waiting for it to become right, one sentence each.

    Raises:
        UnknownError: the cluster holds an object that says more than this check knows.
        ClusterError: there is no proxy at all, or the API server does not answer.
    """
    deadline = time.monotonic() + seconds
    while found := _differences(cluster):
        if time.monotonic() > deadline:
            break
        time.sleep(_STEP)
    return found


def _differences(cluster: Cluster) -> list[str]:
    there = wanted.world(cluster.get(",".join(_KINDS), "-A")["items"])
    proxies = list(_proxies(there))
    if not proxies:
        raise ClusterError("no pod has a proxy")
    every = wanted.sidecar(there)
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            dumps = list(pool.map(lambda pod: config_dump(cluster, pod), proxies))
    except ClusterError as error:  # a stream of kubectl exec was cut: asked again, until the deadline
        return [str(error)]
    wrong = []
    for pod, found_there in zip(proxies, dumps, strict=True):
        is_router = all(each["name"] != "istio-init" for each in pod["spec"].get("initContainers", []))
        target = wanted.router(there, pod) if is_router else every
        found = view.differences(target, dump.view(found_there), whole=not is_router)
        wrong += [f"{pod['metadata']['namespace']}/{pod['metadata']['name']}: {text}" for text in found]
    return wrong


def _proxies(there: wanted.World) -> Iterator[wanted.Object]:
    """Running pods with a container named istio-proxy."""
    for pod in there["Pod"]:
        containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
        named = any(each["name"] == _PROXY for each in containers)
        if named and pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
            yield pod


def config_dump(cluster: Cluster, pod: wanted.Object) -> Mapping[str, Any]:
    """What a pod's Envoy has, asked as a person would: through its agent."""
    meta = pod["metadata"]
    request = ("pilot-agent", "request", "GET", "config_dump?include_eds")
    text = cluster.kubectl("exec", meta["name"], "-n", meta["namespace"], "-c", _PROXY, "--", *request)
    found: Mapping[str, Any] = json.loads(text)
    return found
