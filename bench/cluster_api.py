"""A stand-in for an API server that serves one large world: lists in pages, and watches in which nothing happens.

A process of its own, so that what is measured is the watch alone: ``python -m bench.cluster_api PORT PODS``. Pods are
as a cluster has them: two containers, volumes, conditions, managed fields; about 9 KB each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

from crds.registry import KINDS

PODS_PER_SERVICE = 10


def pod(i: int) -> dict[str, Any]:
    """Pod number ``i``."""
    name, app = f"app-{i // PODS_PER_SERVICE}-6d4cf56db6-{i:05d}", f"app-{i // PODS_PER_SERVICE}"
    address = f"10.{i // 65536}.{i // 256 % 256}.{i % 256}"
    times = {"lastProbeTime": None, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    container = {
        "name": "app",
        "image": f"registry.example/{app}:1",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": f"VARIABLE_{n}", "value": "some value of an ordinary length"} for n in range(20)],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{"name": f"v{n}", "mountPath": f"/var/lib/{n}"} for n in range(6)],
        "livenessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 10},
    }
    statuses = [
        {
            "name": each,
            "ready": True,
            "started": True,
            "restartCount": 0,
            "image": f"registry.example/{app}:1",
            "imageID": f"registry.example/{app}@sha256:{i:064x}",
            "containerID": f"containerd://{i:064x}",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }
        for each in ("app", "istio-proxy")
    ]
    fields = {f"f:field-{n}": {f"k:{{{n}}}": {".": {}, "f:name": {}, "f:value": {}}} for n in range(40)}
    return {
        "metadata": {
            "name": name,
            "generateName": f"{app}-6d4cf56db6-",
            "namespace": f"ns-{i % 50}",
            "uid": f"{i:08d}-0000-0000-0000-000000000000",
            "resourceVersion": str(i),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                "app": app,
                "version": "v1",
                "pod-template-hash": "6d4cf56db6",
                "security.istio.io/tlsMode": "istio",
            },
            "annotations": {"kubectl.kubernetes.io/default-container": "app", "sidecar.istio.io/status": "x" * 400},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{app}-6d4cf56db6",
                    "uid": app,
                    "controller": True,
                }
            ],
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": fields}],
        },
        "spec": {
            "containers": [container, {**container, "name": "istio-proxy", "ports": []}],
            "volumes": [{"name": f"v{n}", "emptyDir": {}} for n in range(6)],
            "serviceAccountName": app,
            "nodeName": f"node-{i % 100}",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}],
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "hostIP": "192.0.2.1",
            "conditions": [
                {"type": each, "status": "True", **times}
                for each in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "containerStatuses": statuses,
        },
    }


def service(i: int) -> dict[str, Any]:
    """Service number ``i``."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {
        "metadata": {"name": f"app-{i}", "namespace": f"ns-{i % 50}", "uid": f"s{i}"},
        "spec": {"clusterIP": f"10.200.{i // 256}.{i % 256}", "ports": ports, "selector": {"app": f"app-{i}"}},
    }


def endpoint_slice(i: int) -> dict[str, Any]:
    """The EndpointSlice of service ``i``."""
    pods = [pod(n) for n in range(i * PODS_PER_SERVICE, (i + 1) * PODS_PER_SERVICE)]
    return {
        "metadata": {
            "name": f"app-{i}-abcde",
            "namespace": f"ns-{i % 50}",
            "uid": f"e{i}",
            "labels": {"kubernetes.io/service-name": f"app-{i}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [one["status"]["podIP"]],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": one["spec"]["nodeName"],
                "targetRef": {
                    "kind": "Pod",
                    "name": one["metadata"]["name"],
                    "namespace": one["metadata"]["namespace"],
                },
            }
            for one in pods
        ],
    }


def application(pods: int) -> web.Application:
    """The server."""
    worlds: dict[str, list[dict[str, Any]]] = {
        "pods": [pod(i) for i in range(pods)],
        "services": [service(i) for i in range(pods // PODS_PER_SERVICE)],
        "endpointslices": [endpoint_slice(i) for i in range(pods // PODS_PER_SERVICE)],
        "namespaces": [{"metadata": {"name": f"ns-{i}", "uid": f"n{i}"}} for i in range(50)],
        "nodes": [{"metadata": {"name": f"node-{i}", "uid": f"k{i}"}} for i in range(100)],
    }
    kinds = {info.plural: info.kind for info in KINDS.values() if info.group != "gateway.networking.k8s.io"}

    async def answer(request: web.Request) -> web.StreamResponse:
        plural, query = request.path.rpartition("/")[2], request.query
        if query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.sleep(3600)
            return response
        first, limit = int(query.get("continue") or 0), int(query.get("limit") or 10**9)
        items = worlds.get(plural, [])
        rest = str(first + limit) if first + limit < len(items) else ""
        version = (
            request.path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")[0].partition("/namespaces/")[0]
        )
        body = {
            "kind": f"{kinds.get(plural, 'Unknown')}List",
            "apiVersion": version,
            "metadata": {"resourceVersion": "1", "continue": rest},
            "items": items[first : first + limit],
        }
        return web.Response(text=json.dumps(body), content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return app


if __name__ == "__main__":
    web.run_app(
        application(int(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), print=None, shutdown_timeout=0.1
    )
