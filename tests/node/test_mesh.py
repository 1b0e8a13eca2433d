"""Pods on the real kernel: names, cluster IPs, readiness, restarts, roll-outs, and nothing left at the end."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import sys
from dataclasses import replace

import pytest

from crds.diagnostic import Code
from node import Mesh, Options, home, launcher
from node.errors import LaunchError, MeshError
from node.objects import Raw

pytestmark = pytest.mark.root

APP = str(pathlib.Path(__file__).with_name("app.py"))
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {selector: {app: b}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: b}
spec:
  replicas: 2
  selector: {matchLabels: {app: b}}
  template:
    metadata: {labels: {app: b}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: app
          image: test
          args: [serve, b, "8080"]
          ports: [{name: web, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /ready, port: web}, periodSeconds: 1, failureThreshold: 1}
"""
CLIENT = """\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: app, image: test, args: [serve, a, "8080"]}]}
"""
OVER_TCP = """\
import socket, struct
name = b"".join(bytes([len(p)]) + p for p in b"b.default.svc.cluster.local".split(b".")) + b"\\0"
query = struct.pack("!6H", 7, 256, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1)
with socket.create_connection(("10.96.0.10", 53), 3) as server:
    server.sendall(struct.pack("!H", len(query)) + query)
    print(socket.inet_ntoa(server.recv(600)[-4:]))
"""
SECONDS = 30.0


async def get(mesh: Mesh, url: str, pod: str = "a") -> str:
    """What a URL answers, asked from a pod."""
    code, out, err = await mesh.exec(pod, [sys.executable, APP, "get", url])
    assert code == 0, err[-300:]
    return out


def endpoints(mesh: Mesh) -> dict[str, Raw]:
    """The conditions of each endpoint of Service b, by pod."""
    [file] = mesh.runtime.glob("EndpointSlice.default.b-*.yaml")
    return {e["targetRef"]["name"]: e["conditions"] for e in json.loads(file.read_text())["endpoints"]}


async def test_two_pods_call_each_other_by_name_and_cluster_ip(options: Options) -> None:
    async with Mesh(options=options) as mesh:
        await mesh.apply(SERVICE + "---\n" + CLIENT)
        await mesh.ready(SECONDS)
        address = mesh.service_address("b")
        for url in ("http://b/", "http://b.default/", "http://b.default.svc.cluster.local/", f"http://{address}/"):
            assert (await get(mesh, url)).startswith("b b-")
        answers = {(await get(mesh, "http://b/")).split()[1] for _ in range(24)}
        assert answers == {p["metadata"]["name"] for p in mesh.pods() if p["metadata"]["name"] != "a"}
        own = mesh.pod("b")
        assert [(await get(mesh, "http://b/", own.name)).split()[0] for _ in range(8)] == ["b"] * 8
        code, out, err = await mesh.exec("a", [sys.executable, "-c", OVER_TCP])
        assert (code, address in out) == (0, True), err
        code, _, err = await mesh.exec("a", [sys.executable, APP, "get", "http://nosuch/"])
        assert (code, "Name or service not known" in err) == (1, True)
        code, _, err = await mesh.exec("a", [sys.executable, APP, "get", "http://b:81/"])
        assert (code, "Connection refused" in err) == (1, True)


async def test_readiness_decides_over_endpoints_and_rules(options: Options) -> None:
    async with Mesh(options=options) as mesh:
        await mesh.apply(SERVICE + "---\n" + CLIENT)
        await mesh.ready(SECONDS)
        pod = mesh.pod("b")
        await get(mesh, f"http://{pod.state.address}:8080/make-unready")
        await mesh.wait(lambda: not endpoints(mesh)[pod.name]["ready"], SECONDS, "endpoint not ready")
        assert {(await get(mesh, "http://b/")).split()[1] == pod.name for _ in range(10)} == {False}
        await get(mesh, f"http://{pod.state.address}:8080/make-ready")
        await mesh.wait(lambda: endpoints(mesh)[pod.name]["ready"], SECONDS, "endpoint ready again")


async def test_a_container_that_ends_starts_again(options: Options) -> None:
    async with Mesh(options=options) as mesh:
        await mesh.apply(SERVICE + "---\n" + CLIENT)
        await mesh.ready(SECONDS)
        pod = mesh.pod("b")
        for count in (1, 2, 3):
            await mesh.exec("a", [sys.executable, APP, "get", f"http://{pod.state.address}:8080/crash"])
            await mesh.wait(lambda c=count: pod.state.containers[0].restarts == c, SECONDS, "a restart")  # type: ignore[misc]  # mypy infers no default's type
            await mesh.ready(SECONDS)
        assert mesh.logs(pod.name).count("serving on 8080") == 4


async def test_a_killed_pod_is_replaced_and_gone_from_endpoints_before_it_ends(options: Options) -> None:
    async with Mesh(options=options) as mesh:
        await mesh.apply(SERVICE + "---\n" + CLIENT)
        await mesh.ready(SECONDS)
        name = await mesh.kill("b")
        await mesh.wait(lambda: endpoints(mesh).get(name, {}).get("terminating", True), SECONDS, "terminating")
        await mesh.ready(SECONDS)
        await mesh.wait(lambda: name not in endpoints(mesh), SECONDS, "the killed pod gone from the endpoints")
        assert len(endpoints(mesh)) == 2
        assert (await mesh.kill("a", grace=0)) == "a"
        await mesh.ready(SECONDS)
        with pytest.raises(MeshError, match="no pod a"):
            mesh.pod("a")


async def test_a_changed_template_rolls_and_replicas_scale(options: Options) -> None:
    async with Mesh(options=options) as mesh:
        await mesh.apply(SERVICE)
        await mesh.ready(SECONDS)
        before = set(endpoints(mesh))
        await mesh.apply(SERVICE.replace("serve, b,", "serve, new,"))
        await mesh.ready(SECONDS)
        assert not before & set(endpoints(mesh))
        assert (await get(mesh, "http://b/", "b")).startswith("new ")
        await mesh.apply(SERVICE.replace("replicas: 2", "replicas: 3"))
        await mesh.ready(SECONDS)
        assert len(endpoints(mesh)) == 3
        assert await mesh.delete("Deployment", "b")
        await mesh.ready(SECONDS)
        assert mesh.pods() == []


INIT = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: whole, labels: {app: whole}}
spec:
  securityContext: {fsGroup: 1337}
  terminationGracePeriodSeconds: 2
  volumes:
    - {name: shared, emptyDir: {}}
    - {name: settings, configMap: {name: settings}}
    - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  initContainers:
    - name: side
      image: busybox
      restartPolicy: Always
      command: [sh, -c, "touch /data/side; trap 'exit 0' TERM; while true; do sleep 0.1; done"]
      startupProbe: {exec: {command: [test, -e, /data/side]}, periodSeconds: 1}
      volumeMounts: [{name: shared, mountPath: /data}]
    - name: fails-once
      image: busybox
      command: [sh, -c, "test -e /data/side || exit 9; test -e /data/again || { touch /data/again; exit 1; }"]
      volumeMounts: [{name: shared, mountPath: /data}]
  containers:
    - name: app
      image: test
      args: [serve, $(GREETING), "8080"]
      env:
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
      securityContext: {runAsUser: 1337, runAsGroup: 1337, capabilities: {drop: [ALL]}}
      lifecycle:
        postStart: {exec: {command: [touch, /data/started]}}
        preStop: {exec: {command: [touch, /data/stopping]}}
      livenessProbe: {exec: {command: [test, "!", -e, /data/dead]}, periodSeconds: 1, failureThreshold: 1}
      readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
      volumeMounts:
        - {name: shared, mountPath: /data}
        - {name: settings, mountPath: /etc/settings, readOnly: true}
        - {name: info, mountPath: /etc/istio/pod}
        - {name: shared, mountPath: /sub, subPath: inner}
"""


async def test_init_containers_sidecars_volumes_users_hooks_and_liveness(options: Options) -> None:
    async with Mesh(options=options) as mesh:
        await mesh.apply(INIT)
        await mesh.ready(SECONDS)
        pod = mesh.pod("whole")

        async def shell(script: str, container: str = "app") -> str:
            code, out, err = await mesh.exec("whole", ["sh", "-c", script], container)
            return out.strip() if code == 0 else f"{code} {err}"

        assert await get(mesh, f"http://{pod.state.address}:8080/", "whole") != ""
        assert await shell("id -u; id -g") == "1337\n1337"
        assert await shell("cat /etc/settings/greeting /etc/istio/pod/labels") == 'helloapp="whole"'
        assert await shell("ls /data") == "again\ninner\nside\nstarted"
        assert await shell("grep CapBnd /proc/self/status | cut -f2") == "0" * 16
        assert await shell("touch /etc/settings/x") != ""
        assert "hello" in await get(mesh, f"http://{pod.state.address}:8080/env/GREETING", "whole")
        assert [c.restarts for c in pod.state.init] == [0, 1]
        await shell("touch /data/dead; rm /data/started")
        await mesh.wait(lambda: pod.state.containers[0].restarts > 0, SECONDS, "a restart by liveness")
        await shell("rm /data/dead", "side")
        await mesh.ready(SECONDS)
        await mesh.apply(INIT.replace("greeting: hello", "greeting: bye").partition("---")[0])
        assert await shell("cat /etc/settings/greeting") == "bye"
    assert not there("/data/side")


async def test_an_unknown_image_or_command_holds_only_its_own_pod(options: Options) -> None:
    odd = CLIENT.replace("name: a,", "name: odd,").replace("image: test", "image: nosuch/thing")
    broken = CLIENT.replace("name: a,", "name: broken,").replace("image: test, args", "image: busybox, command")
    async with Mesh(options=options) as mesh:
        found = await mesh.apply(odd)
        assert [d.code for d in found] == [Code.NOT_SUPPORTED]
        await mesh.apply(f"{broken}---\n{CLIENT}")
        await mesh.wait(lambda: mesh.pod("a").state.ready, SECONDS, "the good pod")
        await mesh.wait(lambda: mesh.pod("broken").state.containers[0].restarts > 1, SECONDS, "retries")
        assert "ImagePullBackOff" in mesh.table()
        assert "No such file" in mesh.logs("broken")
        with pytest.raises(MeshError, match="all pods ready"):
            await mesh.ready(0.01)
        with pytest.raises(MeshError, match="runs no container"):
            await mesh.exec("odd", ["true"])
        with pytest.raises(LaunchError, match="No such file"):
            await mesh.exec("a", ["/nosuch"])


async def test_a_pod_waits_for_its_config_map(options: Options) -> None:
    async with Mesh(options=options) as mesh:
        await mesh.apply(INIT.partition("---\n")[2])
        await mesh.wait(lambda: 'configmap "settings" not found' in mesh.table(), SECONDS, "the reason")
        await mesh.apply(INIT.partition("---\n")[0])
        await mesh.ready(SECONDS)


async def test_a_port_of_the_host_leads_to_a_service(options: Options) -> None:
    async with Mesh(options=options) as mesh:
        await mesh.apply(SERVICE)
        await mesh.ready(SECONDS)
        port = await mesh.forward("b", 80)
        process = await mesh_get(f"http://127.0.0.1:{port}/")
        assert process.startswith("b b-")
        nowhere = await mesh.forward("nosuch", 80)
        assert await mesh_get(f"http://127.0.0.1:{nowhere}/") == ""


async def mesh_get(url: str) -> str:
    """What a URL answers on the host; "" for no answer."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, APP, "get", url), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return out.decode()


async def test_files_are_followed(options: Options, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(CLIENT + "---\n" + CLIENT.replace("name: a,", "name: z,"))
    async with Mesh([file], options) as mesh:
        await mesh.ready(SECONDS)
        following = asyncio.create_task(mesh.follow(file))
        file.write_text(CLIENT.replace("name: a,", "name: c,") + "---\n" + CLIENT)
        await mesh.wait(lambda: {p["metadata"]["name"] for p in mesh.pods()} == {"a", "c"}, SECONDS, "a and c")
        file.write_text(CLIENT.replace("name: a,", "name: d,") + "---\nkind: [\n")
        await mesh.wait(lambda: {p["metadata"]["name"] for p in mesh.pods()} == {"a", "c", "d"}, SECONDS, "d too")
        file.unlink()
        following.cancel()
        await asyncio.wait([following])


def there(path: pathlib.Path | str) -> bool:
    """Whether a path exists on the host."""
    return pathlib.Path(path).exists()


def mounted() -> str:
    """The mounts of the host."""
    return pathlib.Path("/proc/self/mountinfo").read_text()


async def test_nothing_is_left_when_a_mesh_ends(options: Options) -> None:
    async with Mesh(options=options) as mesh:
        await mesh.apply(SERVICE + "---\n" + CLIENT)
        await mesh.ready(SECONDS)
        await mesh.exec("a", ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"])
        inodes = [path.stat().st_ino for path in home.namespaces(mesh.name, options.root)]
        assert len(inodes) == 4
        assert len(launcher.processes("net", inodes)) >= 4
        folder = mesh.runtime.parent
        assert str(folder) not in mounted()
    assert home.namespaces(mesh.name, options.root) == []
    assert launcher.processes("net", inodes) == []
    assert not there(folder)
    assert mesh.name not in mounted()


async def test_a_mesh_that_is_ended_at_the_moment_of_a_change_ends(options: Options) -> None:
    for ticks in range(5):  # a change reaches the mesh's loop within some turns of asyncio's
        async with asyncio.timeout(60), Mesh(options=options) as mesh:
            await mesh.wait(lambda: True, SECONDS, "the loop waits for a change")
            mesh._changed.set()
            for _ in range(ticks):
                await asyncio.sleep(0)


STUBBORN = """\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 3600
  containers:
    - name: app
      image: busybox
      command: [sh, -c, "trap '' TERM; echo up; while true; do sleep 0.1; done"]
      lifecycle: {preStop: {exec: {command: [sh, -c, "sleep 3600; true"]}}}
"""


async def test_a_mesh_ends_soon_whatever_its_pods_wait_for(options: Options) -> None:
    """A pod that was told to go has an hour of grace, a command that was given up left a process, and a hook hangs."""
    async with asyncio.timeout(60), Mesh(options=options) as mesh:
        await mesh.apply(STUBBORN)
        await mesh.wait(lambda: any(c.pid for c in mesh.pod("a").containers.values()), SECONDS, "it runs")
        for words, said in (
            ([], "no command is given"),
            (["sh", "\0"], "null byte"),
            ([""], ": "),
            (["nosuch"], "No such file"),
        ):
            with pytest.raises(LaunchError, match=said):
                await mesh.exec("a", words)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await mesh.exec("a", ["sh", "-c", "sleep 3600 & wait"])
        await mesh.kill("a")
    assert home.namespaces(mesh.name, options.root) == []


async def test_meshes_of_one_name_below_two_roots_do_not_meet(options: Options, tmp_path: pathlib.Path) -> None:
    ours, theirs = (replace(options, name="same", root=root) for root in (options.root, tmp_path))
    async with Mesh(options=ours) as one:
        before = home.namespaces("same", options.root)
        async with Mesh(options=theirs):
            assert home.namespaces("same", tmp_path)
        assert home.namespaces("same", options.root) == before != []
        assert one.name == "same"


async def test_two_meshes_do_not_meet(options: Options) -> None:
    async with Mesh(options=options) as one, Mesh(options=options) as two:
        await one.apply(CLIENT)
        await two.apply(CLIENT.replace("serve, a", "serve, other"))
        await one.ready(SECONDS)
        await two.ready(SECONDS)
        assert one.pod("a").state.address == two.pod("a").state.address
        assert (await get(one, "http://127.0.0.1:8080/")).startswith("a ")
        assert (await get(two, "http://127.0.0.1:8080/")).startswith("other ")
        with pytest.raises(MeshError, match="is up already"):
            await Mesh(options=Options(name=one.name, root=options.root)).__aenter__()


async def test_a_mesh_that_cannot_start_leaves_nothing(options: Options, tmp_path: pathlib.Path) -> None:
    mesh = Mesh([tmp_path / "nosuch.yaml"], options)
    with pytest.raises(FileNotFoundError):
        await mesh.__aenter__()
    assert home.namespaces(mesh.name, options.root) == []
    with pytest.raises(MeshError, match="no name of a mesh"):
        await Mesh(options=Options(name="A/b", root=options.root)).__aenter__()
    assert os.listdir(options.root) == []  # noqa: PTH208 (names only)
