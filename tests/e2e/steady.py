"""A steady load inside of the mesh: a client that asks a server, both with sidecars, and tells what failed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.harness import images, process
from e2e.harness.controlplane import Cluster
from e2e.harness.mesh import Mesh
from tests.story import load

SERVER, CLIENT = "server", "client"
_NAMES = (SERVER, "other")
"""Two names of the server: ``load`` asks each with two requests at once, about 100 a second in all."""
_URL = "http://{}:9080/details/0"
_DEPARTS = 'proxyMetadata: {DRAIN_UNTIL_ACKNOWLEDGED: "true"}'
_DRAIN = 3  # seconds in which a server that ends still answers, until all clients know of it


def _deployment(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 10, **spec}}
    rolling = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    body = {"selector": {"matchLabels": labels}, "replicas": 1, "strategy": rolling, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": body}


def _service(name: str) -> dict[str, Any]:
    spec = {"selector": {"app": SERVER}, "ports": [{"name": "http", "port": 9080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _server(*, departs: bool) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": SERVER,
        "image": "istio/examples-bookinfo-details-v1:1.20.3",
        "readinessProbe": {"httpGet": {"path": "/health", "port": 9080}, "periodSeconds": 1, "timeoutSeconds": 20},
    }
    made = _deployment(SERVER, {"containers": [container]})
    if departs:
        made["spec"]["template"]["metadata"]["annotations"] = {"proxy.istio.io/config": _DEPARTS}
    else:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": _DRAIN}}}
    return made


def _client() -> dict[str, Any]:
    asked = [f"{name}={_URL.format(name)}" for name in _NAMES]
    container = {
        "name": CLIENT,
        "image": images.CURL,
        "command": ["/usr/bin/python3", "-u", "/load/load.py", *asked],
        "volumeMounts": [{"name": "load", "mountPath": "/load"}],
    }
    volume = {"name": "load", "configMap": {"name": "load"}}
    return _deployment(CLIENT, {"containers": [container], "volumes": [volume]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """The load in one namespace. It is that of the first pod of the client, which is to stay."""

    mesh: Mesh
    namespace: str
    pod: str

    def failures(self) -> list[str]:
        """Requests that failed so far."""
        return [line for line in self._log() if line.startswith("FAIL")]

    def answered(self) -> int:
        """Requests that were answered as they should."""
        counts = [int(found[1]) for line in self._log() if (found := re.match(r"ok (\d+)$", line))]
        return counts[-1] if counts else 0

    def more(self, count: int) -> None:
        """Wait for so many further answers."""
        goal = self.answered() + count
        process.wait(f"{count} more answers", lambda: self.answered() >= goal)

    def restart(self, name: str) -> None:
        """``kubectl rollout restart`` of one of the two, until only new pods are left."""
        self.mesh.cluster.kubectl("rollout", "restart", f"deployment/{name}", "-n", self.namespace)
        self.mesh.cluster.kubectl("rollout", "status", f"deployment/{name}", "-n", self.namespace, "--timeout=100s")
        process.wait(f"one pod of {name}", lambda: len(self.pods(name)) == 1)

    def pods(self, name: str) -> list[dict[str, Any]]:
        """All pods of one of the two, also those that end."""
        found: list[dict[str, Any]] = self.mesh.cluster.get("pods", "-n", self.namespace, "-l", f"app={name}")["items"]
        return found

    def _log(self) -> list[str]:
        return self.mesh.cluster.kubectl("logs", self.pod, "-c", CLIENT, "-n", self.namespace).splitlines()


def start(mesh: Mesh, namespace: str, label: str, *, departs: bool = False) -> Steady:
    """Client and server in a new namespace with this label, both ready and the load under way.

    A server that ends waits for a fixed time, or, if it ``departs``, until nobody sends to it any more.
    """
    cluster: Cluster = mesh.cluster
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("label", "namespace", namespace, label)
    text = Path(load.__file__).read_text()
    script = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "load"}, "data": {"load.py": text}}
    services = [_service(name) for name in _NAMES]
    for each in (script, *services, _server(departs=departs)):
        cluster.apply(json.dumps(each), namespace)
    mesh.rolled_out(namespace)
    cluster.apply(json.dumps(_client()), namespace)
    mesh.rolled_out(namespace)
    (pod,) = mesh.pods(namespace, f"app={CLIENT}")
    return Steady(mesh=mesh, namespace=namespace, pod=pod)
