"""The agent as a cluster runs it: an injected pod's own environment, mounts and user, istiod known by its DNS name.

Real istiod, real Envoy, real rules and node/launch.py's container; the kubelet's part (token, downward API, ConfigMap)
is written as files. A user without rights on a file system that it cannot write to is what a read-only root looks like.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node import launcher
from node.credentials import CA_FOLDER, KEY_FOLDER, PUBLIC_KEY, Credentials
from node.launcher import Bind, Launch
from node.podspec import Rights
from tests.agent import netns
from tests.agent.netns import Namespace
from tests.waiting import until
from webhook import inject, settings

pytestmark = [pytest.mark.root, pytest.mark.envoy]

ROOT = Path(__file__).resolve().parents[2]
APP = str(Path(__file__).with_name("metrics_app.py"))
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-1",
        "namespace": "default",
        "labels": {"app": "web", "version": "v1"},
        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9102", "prometheus.io/path": "/m"},
    },
    "spec": {
        "serviceAccountName": "web",
        "containers": [
            {
                "name": "app",
                "image": "app",
                "ports": [{"name": "http", "containerPort": 9102}],
                "readinessProbe": {"httpGet": {"port": "http", "path": "/ready"}},
                "livenessProbe": {"tcpSocket": {"port": 9102}},
                "startupProbe": {"httpGet": {"port": 9103}},
            },
            {
                "name": "calls",
                "image": "calls",
                "ports": [{"name": "grpc", "containerPort": 9104}],
                "livenessProbe": {"grpc": {"port": 9104}},
            },
        ],
    },
}
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""
RIGHTS = Rights(uid=1337, gid=1337, groups=(1337,), no_new_privileges=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The pod's network, the agent in it, and the neighbour that asks, as the kubelet and Prometheus do."""

    here: Namespace
    neighbour: Namespace
    agent: asyncio.subprocess.Process
    launch: Launch
    folder: Path

    def ask(self, path: str, port: int = 15020, *options: str) -> tuple[int, str]:
        """Status and body as somebody outside of the pod gets them; 0 without an answer."""
        url = f"http://{self.here.address}:{port}{path}"
        done = self.neighbour.call("curl", "-s", "-m", "10", "-w", "\n%{http_code}", *options, url)
        body, _, code = done.stdout.rpartition("\n")
        return int(code), body

    async def exec(self, *arguments: str) -> tuple[int, str]:
        """``kubectl exec POD -c istio-proxy -- pilot-agent ...``."""
        argv = (sys.executable, "-m", "agent", *arguments)
        command = Launch(argv=argv, env=self.launch.env, rights=RIGHTS, join=self.agent.pid)
        process = await launcher.start(command, self.folder, launcher.Output())
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, (out + err).decode()

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextlib.contextmanager
def control_plane(folder: Path, space: Namespace) -> Iterator[Credentials]:
    """istiod at the ports that a cluster has."""
    held = Credentials(folder)
    (folder / "config").mkdir()
    (folder / "config/mesh.yaml").write_text(STRICT)
    command = (sys.executable, "-m", "istiod", "discovery", "--configDir", str(folder / "config"))
    addresses = ("--secureGRPCAddr", f"{space.address}:15012", "--mtlsAddr", f"{space.address}:15011")
    keys = ("--caDir", str(folder / CA_FOLDER), "--tokenKey", str(folder / KEY_FOLDER / PUBLIC_KEY))
    with (folder / "istiod.log").open("wb") as log:
        process = space.start(*command, *addresses, *keys, out=log.fileno())
    try:
        yield held
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def mounts(folder: Path, proxy: Mapping[str, Any], held: Credentials) -> Iterator[Bind]:
    """The proxy's volumes, as the kubelet fills them; whatever holds files of others is read-only."""
    metadata = POD["metadata"]
    files = {
        "/var/run/secrets/tokens": {"istio-token": held.token("default", "web", "web-1")},
        "/var/run/secrets/istio": {"root-cert.pem": held.root},
        "/etc/istio/pod": {
            part: "\n".join(f"{key}={json.dumps(value)}" for key, value in metadata[part].items())
            for part in ("labels", "annotations")
        },
    }
    for mount in proxy["volumeMounts"]:
        source = folder / "volumes" / mount["name"]
        source.mkdir(parents=True)
        given = files.get(mount["mountPath"])
        if mount["mountPath"] == "/var/run/secrets/istio":
            (source / "crl").mkdir()  # a mount point inside of another volume, which the kubelet makes too
        for name, text in (given or {}).items():
            (source / name).write_text(text)
        if given is None:
            source.chmod(0o777)
        yield Bind(source=str(source), target=mount["mountPath"], read_only=given is not None)
    nothing = folder / "nothing"
    nothing.mkdir()
    yield from (Bind(source=str(nothing), target=f"/{path}", read_only=True) for path in ("tmp", "dev/shm"))


def environment(proxy: Mapping[str, Any], address: str) -> dict[str, str]:
    """The proxy's variables, with what the kubelet puts in for the downward API's."""
    known = {
        "metadata.name": "web-1",
        "metadata.namespace": "default",
        "status.podIP": address,
        "spec.serviceAccountName": "web",
        "status.hostIP": "192.0.2.1",
        "spec.nodeName": "node",
        "limits.cpu": "1",
        "limits.memory": "1073741824",
    }
    found = {}
    for variable in proxy["env"]:
        source = variable.get("valueFrom", {})
        key = source.get("fieldRef", {}).get("fieldPath") or source.get("resourceFieldRef", {}).get("resource")
        found[variable["name"]] = variable["value"] if key is None else known[key]
    return found


@contextlib.asynccontextmanager
async def running(folder: Path, *, native: bool = False) -> AsyncIterator[World]:
    config = settings.InjectionConfig(merge_metrics=True, native_sidecar=native)
    injected: Any = inject.render(POD, config, "default").pod
    everywhere = [*injected["spec"]["containers"], *injected["spec"]["initContainers"]]
    proxy = next(each for each in everywhere if each["name"] == "istio-proxy")
    rules = next(each for each in everywhere if each["name"] == "istio-init")
    with netns.pods(2) as (here, control), control_plane(folder, control) as held:
        assert here.istio_iptables(*rules["args"][1:]).returncode == 0
        arguments = [re.sub(r"\$\(POD_NAMESPACE\)", "default", str(each)) for each in proxy["args"]]
        given = environment(proxy, here.address)
        hosts = f"127.0.0.1 localhost\n{control.address} istiod.istio-system.svc\n"
        launch = Launch(
            argv=(sys.executable, "-m", "agent", *arguments),
            env=given | {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            rights=RIGHTS,
            netns=here.path,
            hostname="web-1",
            scratch=str(folder),
            mounts=tuple(mounts(folder, proxy, held)),
            files={"/etc/hosts": (hosts, 0o644)},
            shown=(str(ROOT), sys.prefix, sys.base_prefix),
        )
        with (folder / "log").open("wb") as log, here.serving(sys.executable, APP):
            agent = await launcher.start(launch, folder, launcher.Output(out=log.fileno(), err=log.fileno()))
            with launcher.held(agent.pid, "mnt") as namespaces:
                try:
                    yield World(here=here, neighbour=control, agent=agent, launch=launch, folder=folder)
                finally:
                    if agent.returncode is None:
                        agent.kill()
                        await agent.wait()
                    launcher.kill(launcher.processes("mnt", namespaces))  # Envoy, which nobody else ends then


async def test_an_injected_pod_serves_kubelet_prometheus_and_those_who_exec(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        code, said = await world.exec("wait", "--timeoutSeconds", "45", "--requestTimeoutMillis", "2000")
        assert (code, said) == (0, ""), world.log()
        assert world.ask("/healthz/ready", 15021)[0] == 200

        assert world.ask("/app-health/app/readyz", 15020, "-H", "X-Probe: yes")[0] == 200
        assert world.ask("/app-health/app/livez")[0] == 200
        assert world.ask("/app-health/app/startupz")[0] == 503
        assert world.ask("/app-health/calls/livez")[0] == 200
        assert world.ask("/ready", 9102)[0] == 0, "STRICT: whoever has no certificate does not reach the app"

        status, text = world.ask("/stats/prometheus")
        assert status == 200
        for line in ("envoy_server_live{} 1", 'istio_build{component="agent"', "app_requests_total 7"):
            assert f"\n{line}" in text
        assert world.ask("/quitquitquit", 15020, "-X", "POST")[0] == 403

        code, said = await world.exec("request", "GET", "server_info")
        node = json.loads(said)["node"]
        assert node["id"] == f"sidecar~{world.here.address}~web-1.default~default.svc.cluster.local"
        assert node["metadata"]["WORKLOAD_NAME"] == "web-1"
        assert node["metadata"]["LABELS"] == {"app": "web", "version": "v1"}
        code, said = await world.exec("request", "--debug-port=15020", "POST", "quitquitquit")
        assert code == 0, said
        assert await asyncio.wait_for(world.agent.wait(), 20) == 0


async def test_a_native_sidecar_that_drained_before_ends_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, native=True) as world:
        await until(lambda: world.ask("/healthz/ready", 15021)[0] == 200, "the proxy is ready", 45)
        code, said = await world.exec("request", "--debug-port=15020", "POST", "drain")  # the preStop hook
        assert (code, said) == (0, "")
        assert world.ask("/app-health/app/readyz")[0] == 200, "the app may still end its work"
        await asyncio.sleep(5)  # the app's own time to end
        begun = time.monotonic()
        world.agent.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(world.agent.wait(), 20) == 0
        assert time.monotonic() - begun < 4, "terminationDrainDuration (5 s) went by since the hook"


async def test_waiting_in_vain_says_why(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        code, said = await world.exec("wait", "--url", "http://localhost:1/x", "--timeoutSeconds", "1")
        assert code == 1
        assert "not ready after 1 s: cannot reach localhost:1" in said
