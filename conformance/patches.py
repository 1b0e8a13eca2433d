"""EnvoyFilters of Istio's unit tests, applied to the messages that these give: group envoyfilter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from conformance import difference
from conformance.difference import Difference
from crds.parse import parse
from istiod.config.store import ConfigStore
from istiod.envoy import patched, patched_listeners
from istiod.envoy.patched import Patches
from istiod.mesh import envoy_filters
from istiod.mesh.envoy_filters import EnvoyFilterIndex, PatchSet


def unit(path: Path) -> Iterator[Difference]:
    """What became of each message of a case."""
    case = json.loads(path.read_text())
    chosen = _patches(case["patches"])
    for number, call in enumerate(case["calls"]):
        patches = Patches(chosen, call["patch_context"])
        given = [json_format.MessageToDict(one) for one in _apply(call, patches)]
        wanted = [json_format.MessageToDict(_read(call["kind"], one)) for one in call["output"]]
        yield from difference.leaves(f"call {number}", call["kind"], wanted, given)


def _patches(said: list[dict[str, Any]]) -> PatchSet:
    """The patches of a case, which are in the order in which they apply already."""
    found = []
    for number, one in enumerate(said):
        patch = {"applyTo": one["applyTo"], "match": one["match"], "patch": {"operation": one["operation"]}}
        if "value" in one:
            patch["patch"]["value"] = one["value"]
        metadata = {"name": f"patch-{number}", "namespace": "default"}
        spec = {"configPatches": [patch]}
        kind = {"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter"}
        store, parsed = ConfigStore(), parse({**kind, "metadata": metadata, "spec": spec})
        if parsed.object is not None:
            store.apply(parsed.object)
        index = envoy_filters.build(store.snapshot(), "", EnvoyFilterIndex())
        found += [each for item in index.all() for each in item.patches]
    return PatchSet(patches=tuple(found))


_TYPES: Mapping[str, type[Message]] = {
    "listeners": listener_pb2.Listener,
    "cluster_merge": cluster_pb2.Cluster,
    "inserted_clusters": cluster_pb2.Cluster,
    "route_configuration": route_pb2.RouteConfiguration,
}


def _read(kind: str, said: dict[str, Any]) -> Message:
    return json_format.ParseDict(said, _TYPES[kind]())


def _apply(call: Mapping[str, Any], patches: Patches) -> Iterator[Message]:
    for message in (_read(call["kind"], one) for one in call["input"] or ()):
        if isinstance(message, listener_pb2.Listener) and patched_listeners.listener(message, patches):
            yield message
        if isinstance(message, cluster_pb2.Cluster) and patched.cluster(message, call["hosts"], patches):
            yield message
        if isinstance(message, route_pb2.RouteConfiguration):
            patched.table(message, patches, {})
            yield message
    kind = {"listeners": "LISTENER", "inserted_clusters": "CLUSTER"}.get(call["kind"], "")
    if not call.get("skip_adds"):
        yield from (one.value for one in patches.added(kind))
