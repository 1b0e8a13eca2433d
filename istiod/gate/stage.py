"""A mesh of two proxies for an EnvoyFilter that is for none yet: a sidecar and a gateway with the labels it asks for.

Filters are often applied before the workloads that they are for. What they match by ports and names of a real mesh is
not here; what they add or merge everywhere is. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from crds import parse
from crds.envoy_filter import EnvoyFilter
from istiod.config.proxy import Proxy
from istiod.config.store import ConfigStore
from istiod.explain import workloads
from istiod.mesh import context as mesh
from istiod.mesh.context import MeshContext
from wire import names

_PORTS: Final = (
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "grpc", "port": 7070, "targetPort": 7070},
    {"name": "tcp", "port": 9000, "targetPort": 9000},
)
_HOST: Final = "service.validation.example"


def meshed(item: EnvoyFilter) -> tuple[MeshContext, tuple[Proxy, ...]]:
    """A mesh with a sidecar and a gateway that the object is for, and these two."""
    store = ConfigStore()
    for document in _documents(item):
        found = parse.parse(document)
        if found.object is None:
            raise ValueError(f"{document}: {[str(each) for each in found.diagnostics]}")
        store.apply(found.object)
    context = mesh.build(store.snapshot())
    pods = context.backends.pods.values()
    return context, tuple(workloads.proxy(context, pod) for pod in pods)


def _documents(item: EnvoyFilter) -> Iterator[Mapping[str, Any]]:
    space = item.key.namespace
    selector = dict(item.spec.workload_selector.labels) if item.spec.workload_selector else {}
    said = selector or {"app": "validation"}
    edge = {**said, "validation.example/role": "gateway"}
    yield _pod("sidecar", space, {**said, names.LABEL_TLS_MODE: "istio"}, "10.244.0.10")
    yield _pod("gateway", space, edge, "10.244.0.11")
    spec: dict[str, Any] = {"selector": said, "clusterIP": "10.96.0.10", "ports": list(_PORTS)}
    yield _object("v1", "Service", "service", space, spec)
    servers = [{"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]
    yield _object("networking.istio.io/v1", "Gateway", "gateway", space, {"selector": edge, "servers": servers})
    to = {"destination": {"host": f"service.{space}.svc.{names.DEFAULT_DNS_DOMAIN}", "port": {"number": 80}}}
    rule = {"hosts": [_HOST], "gateways": ["gateway", "mesh"], "http": [{"name": "route", "route": [to]}]}
    yield _object("networking.istio.io/v1", "VirtualService", "rule", space, rule)


def _object(version: str, kind: str, name: str, space: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": space}, "spec": spec}


def _pod(name: str, space: str, labels: Mapping[str, str], address: str) -> Mapping[str, Any]:
    found = {**_object("v1", "Pod", name, space, {"containers": [{"name": "app"}]})}
    found["metadata"] = {"name": name, "namespace": space, "labels": dict(labels)}
    found["status"] = {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
    return found
