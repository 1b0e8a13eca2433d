"""What a user does to have a mesh: helm install of the three charts, a label on a namespace, kubectl apply."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from e2e.harness import images
from e2e.harness.controlplane import Cluster
from e2e.harness.process import ClusterError, running, wait

REPOSITORY: Final = Path(__file__).resolve().parents[2]
BOOKINFO: Final = REPOSITORY / "examples" / "bookinfo"
SYSTEM: Final = "istio-system"
INGRESS: Final = "istio-ingress"
DEMO: Final = "bookinfo"
GATEWAY: Final = "istio-ingressgateway"
_FORWARDED: Final = re.compile(r"^Forwarding from (127\.0\.0\.1:\d+) -> ", re.MULTILINE)
_PATIENCE: Final = "110s"
# A second, Kubernetes' default, is little on a machine that does other work as well: endpoints would come and go.
_PATIENT_PROBE: Final = "periodSeconds: 1\n            timeoutSeconds: 20\n"
# Two cores hold everything: requests are small, and the number of replicas is ours.
VALUES: Final[dict[str, dict[str, Any]]] = {
    "istiod": {
        "global": {
            "hub": images.HUB,
            "tag": images.TAG,
            "proxy": {"resources": {"requests": {"cpu": "10m", "memory": "40Mi"}}},
        },
        "pilot": {
            "autoscaleEnabled": False,
            "replicaCount": 2,
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        },
        "meshConfig": {"accessLogFile": "/dev/stdout"},
    },
    "gateway": {
        "autoscaling": {"enabled": False},
        "imagePullPolicy": "IfNotPresent",  # "auto" has no tag, for which Kubernetes would pull always
        "service": {"type": "ClusterIP"},
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A cluster with the charts installed. ``url`` is the gateway's, once it is there."""

    cluster: Cluster
    url: str = ""

    def apply(self, *files: Path, namespace: str = DEMO) -> str:
        """``kubectl apply -f`` of files; what it prints, warnings of webhooks included."""
        arguments = [word for file in files for word in ("-f", str(file))]
        return self.cluster.kubectl("apply", "-n", namespace, *arguments)

    def delete(self, *files: Path, namespace: str = DEMO) -> None:
        """``kubectl delete -f`` of files."""
        arguments = [word for file in files for word in ("-f", str(file))]
        self.cluster.kubectl("delete", "-n", namespace, *arguments)

    def rolled_out(self, namespace: str) -> None:
        """Wait until all Deployments of a namespace are there; raises what its pods say if they are not."""
        try:
            self.cluster.kubectl(
                "wait", "deployments", "--all", "-n", namespace, "--for=condition=Available", f"--timeout={_PATIENCE}"
            )
        except ClusterError as error:
            raise ClusterError(f"{error}\n{self.told(namespace)}") from error

    def told(self, namespace: str) -> str:
        """Pods, events and the ends of logs of a namespace, for a person who looks for a fault."""
        call = self.cluster.call
        parts = [
            call("kubectl", "get", "pods", "-n", namespace, "-o", "wide").stdout,
            call("kubectl", "get", "events", "-n", namespace, "--sort-by=.lastTimestamp").stdout[-4000:],
        ]
        for pod in self.cluster.get("pods", "-n", namespace)["items"]:
            name = pod["metadata"]["name"]
            logs = call("kubectl", "logs", name, "-n", namespace, "--all-containers", "--prefix", "--tail=15")
            parts.append(logs.stdout + logs.stderr)
        return "\n".join(parts)

    def unready(self, namespace: str) -> str:
        """Events about probes that failed: what else than the mesh may have kept requests from a pod."""
        return self.cluster.kubectl("get", "events", "-n", namespace, "--field-selector=reason=Unhealthy")

    def istioctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run this checkout's istioctl against the cluster (in its network, where the caller is)."""
        environment = {**os.environ, **self._environment()}
        command = [sys.executable, "-m", "istioctl", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    @contextmanager
    def dashboard(self, *page: str) -> Iterator[str]:
        """The address that ``istioctl dashboard`` prints, for as long as it runs."""
        log = self.cluster.home / "dashboard.log"
        command = [sys.executable, "-m", "istioctl", "dashboard", *page, "--browser=false"]
        with running("istioctl dashboard", command, log, self._environment()) as program:
            wait("an address", lambda: log.read_text().endswith("\n"), [program])
            yield log.read_text().splitlines()[0]

    def _environment(self) -> dict[str, str]:
        return {**self.cluster.environment(), "PYTHONPATH": str(REPOSITORY)}

    def pods(self, namespace: str, selector: str = "") -> list[str]:
        """Names of pods that are not on their way out."""
        items = self.cluster.get("pods", "-n", namespace, "-l", selector)["items"]
        return [each["metadata"]["name"] for each in items if "deletionTimestamp" not in each["metadata"]]


def helm(cluster: Cluster, *arguments: str) -> str:
    """Run helm.

    Raises:
        ClusterError: it fails; the message is what it says.
    """
    done = cluster.call("helm", *arguments)
    if done.returncode != 0:
        raise ClusterError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def install(cluster: Cluster, chart: str, release: str, namespace: str) -> str:
    """``helm install`` of one of our charts; the notes that the user reads."""
    values = cluster.home / f"{release}-values.json"
    values.write_text(json.dumps(VALUES.get(chart, {})))
    folder = str(REPOSITORY / "charts" / chart)
    return helm(cluster, "install", release, folder, "-n", namespace, "--create-namespace", "-f", str(values))


@contextmanager
def control_plane(cluster: Cluster) -> Iterator[Mesh]:
    """The charts base and istiod, with all replicas ready; uninstalled at the end, however that comes."""
    mesh = Mesh(cluster=cluster)
    with ExitStack() as stack:
        install(cluster, "base", "istio-base", SYSTEM)
        stack.callback(cluster.kubectl, "delete", "namespace", SYSTEM, f"--timeout={_PATIENCE}")
        stack.callback(helm, cluster, "uninstall", "istio-base", "-n", SYSTEM, "--wait")
        install(cluster, "istiod", "istiod", SYSTEM)
        stack.callback(helm, cluster, "uninstall", "istiod", "-n", SYSTEM, "--wait")
        mesh.rolled_out(SYSTEM)
        yield mesh


@contextmanager
def bookinfo(mesh: Mesh) -> Iterator[Mesh]:
    """BookInfo in a labelled namespace, its page behind the gateway's chart, all reviews at v1; removed as above."""
    cluster = mesh.cluster
    with ExitStack() as stack:
        cluster.kubectl("create", "namespace", DEMO)
        stack.callback(cluster.kubectl, "delete", "namespace", DEMO, f"--timeout={_PATIENCE}")
        cluster.kubectl("label", "namespace", DEMO, "istio-injection=enabled")
        install(cluster, "gateway", GATEWAY, INGRESS)
        stack.callback(cluster.kubectl, "delete", "namespace", INGRESS, f"--timeout={_PATIENCE}")
        stack.callback(helm, cluster, "uninstall", GATEWAY, "-n", INGRESS, "--wait")
        patient = (BOOKINFO / "bookinfo.yaml").read_text().replace("periodSeconds: 1\n", _PATIENT_PROBE)
        cluster.kubectl("apply", "-n", DEMO, "-f", "-", stdin=patient)
        rules = ("gateway", "destination-rules", "reviews-v1")
        mesh.apply(*(BOOKINFO / "networking" / f"{name}.yaml" for name in rules))
        mesh.rolled_out(INGRESS)
        mesh.rolled_out(DEMO)
        yield replace(mesh, url=stack.enter_context(_gateway(cluster)))


@contextmanager
def _gateway(cluster: Cluster) -> Iterator[str]:
    """The URL of the gateway's Service: its address, or the forwarded port where the cluster is the user's."""
    if cluster.namespace is not None:
        yield f"http://{cluster.get('service', GATEWAY, '-n', INGRESS)['spec']['clusterIP']}:80"
        return
    log = cluster.home / "port-forward.log"
    command = [cluster.tools["kubectl"], "port-forward", f"service/{GATEWAY}", "-n", INGRESS, ":80"]
    with running("kubectl port-forward", command, log, cluster.environment()) as program:
        wait("port forwarded", lambda: _FORWARDED.search(log.read_text()) is not None, [program])
        yield f"http://{_FORWARDED.findall(log.read_text())[0]}"


def kill(program: str, uid: str) -> None:
    """``kill -9`` of a program in the pod with this uid. Processes of a node of ours are seen from this machine."""
    found = [
        int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit() and _runs(folder, program, uid)
    ]
    if not found:
        raise ClusterError(f"no {program} runs in pod {uid}")
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def _runs(folder: Path, program: str, uid: str) -> bool:
    try:
        words: Sequence[bytes] = (folder / "cmdline").read_bytes().split(b"\0")
        return uid in (folder / "cgroup").read_text() and any(word.endswith(program.encode()) for word in words)
    except OSError:  # it ended meanwhile
        return False
