"""EnvoyFilters for tests of the gate, and a mesh that they are for."""

from __future__ import annotations

from typing import Any

from crds.envoy_filter import EnvoyFilter
from crds.parse import parse
from istiod.config.store import ConfigStore

MANAGER = "envoy.filters.network.http_connection_manager"
EXTENSIONS = "type.googleapis.com/envoy.extensions."
LIMIT = EXTENSIONS + "filters.http.local_ratelimit.v3.LocalRateLimit"
LUA = EXTENSIONS + "filters.http.lua.v3.Lua"
BAD = {"@type": LIMIT, "token_bucket": {"max_tokens": 5}}
"""Without ``stat_prefix``: Envoy refuses it, and protobuf does not."""
GOOD = {"@type": LIMIT, "stat_prefix": "limits"}
WORDS = "value length must be at least 1 characters"


def http_filter(config: Any, context: str = "ANY", operation: str = "INSERT_FIRST", name: str = "own") -> Any:
    match = {"context": context, "listener": {"filterChain": {"filter": {"name": MANAGER}}}}
    value = {"name": name, "typed_config": config}
    return {"applyTo": "HTTP_FILTER", "match": match, "patch": {"operation": operation, "value": value}}


def patch(apply_to: str, value: Any, operation: str = "MERGE", context: str = "ANY") -> Any:
    return {"applyTo": apply_to, "match": {"context": context}, "patch": {"operation": operation, "value": value}}


def document(*patches: Any, name: str = "own", space: str = "demo", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": name, "namespace": space},
        "spec": {"configPatches": list(patches), **spec},
    }


def item(*patches: Any, **more: Any) -> EnvoyFilter:
    found = parse(document(*patches, **more))
    assert isinstance(found.object, EnvoyFilter), found.diagnostics
    return found.object


def put(store: ConfigStore, *documents: dict[str, Any]) -> None:
    for each in documents:
        found = parse(each).object
        assert found is not None, each
        store.apply(found)


def pod(name: str, address: str, space: str = "demo", **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": space,
            "labels": {"app": name, "security.istio.io/tlsMode": "istio", **labels},
        },
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def service(name: str, address: str, space: str = "demo") -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    spec = {"selector": {"app": name}, "clusterIP": address, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": space}, "spec": spec}
