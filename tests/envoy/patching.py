"""EnvoyFilters and messages of a few lines, for tests of patches."""

from __future__ import annotations

from typing import Any

import yaml
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from crds import parse
from istiod.config.store import ConfigStore
from istiod.envoy.patched import OUTBOUND, Patches
from istiod.mesh import envoy_filters
from istiod.mesh.envoy_filters import EnvoyFilterIndex, PatchSet

MANAGER = "envoy.filters.network.http_connection_manager"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
URL = "type.googleapis.com/"
UPSTREAM_TLS = URL + tls_pb2.UpstreamTlsContext.DESCRIPTOR.full_name
DOWNSTREAM_TLS = URL + tls_pb2.DownstreamTlsContext.DESCRIPTOR.full_name
INSPECTOR = URL + tls_inspector_pb2.TlsInspector.DESCRIPTOR.full_name
LUA = URL + lua_pb2.Lua.DESCRIPTOR.full_name
TYPED_STRUCT = "type.googleapis.com/udpa.type.v1.TypedStruct"


def index(*said: dict[str, Any]) -> EnvoyFilterIndex:
    meta = {"name": "patch", "namespace": "default"}
    kind = {"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter"}
    parsed = parse.parse({**kind, "metadata": meta, "spec": {"configPatches": list(said)}})
    assert parsed.object is not None, parsed.diagnostics
    store = ConfigStore()
    store.apply(parsed.object)
    return envoy_filters.build(store.snapshot(), "istio-system", EnvoyFilterIndex())


def patches(*said: dict[str, Any], context: str = OUTBOUND) -> Patches:
    (one,) = index(*said).all()
    return Patches(PatchSet(patches=one.patches), context)


def patch(apply_to: str, operation: str, value: object = None, **match: object) -> dict[str, Any]:
    found = {"operation": operation} if value is None else {"operation": operation, "value": value}
    return {"applyTo": apply_to, "match": match, "patch": found}


def message(kind: type[Message], text: str) -> Any:
    return json_format.ParseDict(yaml.safe_load(text), kind())


def plain(given: Message) -> dict[str, Any]:
    return json_format.MessageToDict(given)


def socket(version: str, name: str = "envoy.transport_sockets.tls", kind: str = UPSTREAM_TLS) -> dict[str, Any]:
    params = {"tls_params": {"tls_maximum_protocol_version": version}}
    return {"name": name, "typed_config": {"@type": kind, "common_tls_context": params}}
