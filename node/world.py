"""The whole state that follows from objects and pods: what to publish, which rules, which names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crds.key import ConfigKey
from node import resolver, services
from node.objects import Raw, key_of, labels_of, selects
from node.services import Addresses, Backend
from wire import names

NODE_NAME = "meshnode"
REGION, ZONE = "local", "local-a"
_PUBLISHED = ("ConfigMap", "Secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the node's parts need: objects for the control plane, rules for nft, the zone for DNS."""

    objects: tuple[Raw, ...]
    rules: str
    zone: resolver.Zone


def node_object(address: str) -> Raw:
    """The Node that pods run on."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE_NAME,
            "labels": {names.LABEL_HOSTNAME: NODE_NAME, names.LABEL_REGION: REGION, names.LABEL_ZONE: ZONE},
        },
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


def _named(kind: str, name: str, namespace: str = "") -> Raw:
    """An object that is nothing but its name."""
    labels = {"kubernetes.io/metadata.name": name} if kind == "Namespace" else {}
    meta: Raw = {"name": name, "labels": labels} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": kind, "metadata": meta}


def namespaces(objects: Iterable[Raw]) -> list[Raw]:
    """The Namespaces that exist: those declared, and those that an object is in."""
    objects = tuple(objects)
    declared = {key_of(raw).name: raw for raw in objects if raw["kind"] == "Namespace"}
    used = {key_of(raw).namespace for raw in objects} | {"default"}
    out = []
    for name in sorted((used | set(declared)) - {""}):
        base = _named("Namespace", name)
        raw = declared.get(name, base)
        meta = {**raw["metadata"], "labels": {**base["metadata"]["labels"], **labels_of(raw)}}
        out.append({**raw, "metadata": meta})
    return out


def accounts(objects: Iterable[Raw], spaces: Iterable[Raw]) -> list[Raw]:
    """The ServiceAccounts that exist: those declared, and ``default`` in each namespace."""
    declared = {key_of(raw): raw for raw in objects if raw["kind"] == "ServiceAccount"}
    for space in spaces:
        name = key_of(space).name
        declared.setdefault(ConfigKey("", "ServiceAccount", name, "default"), _named("ServiceAccount", "default", name))
    return [declared[key] for key in sorted(declared)]


def node_for(spec: Mapping[str, Any], objects: Mapping[ConfigKey, Raw]) -> str:
    """The node for a pod: the one it names, the first declared one that its nodeSelector chooses, else our own.

    All nodes are this machine; they differ in labels, so that localities can be tried.
    """
    if named := spec.get("nodeName"):
        return str(named)
    selector = spec.get("nodeSelector") or {}
    chosen = [key.name for key, raw in objects.items() if key.kind == "Node" and selects(selector, labels_of(raw))]
    return min(chosen, default=NODE_NAME)


def zone_of(node: str, objects: Mapping[ConfigKey, Raw]) -> str:
    """The zone of a node: what the user's Node object says, else our own."""
    declared = objects.get(ConfigKey("", "Node", "", node))
    return labels_of(declared).get(names.LABEL_ZONE, "") if declared else ZONE


def build(
    objects: Mapping[ConfigKey, Raw],
    pods: Sequence[Raw],
    backends: Sequence[Backend],
    addresses: Addresses,
    node_address: str,
) -> World:
    """The world of these objects and pods. Services keep or get their addresses in ``addresses``."""
    raws = tuple(objects.values())
    declared = [raw for raw in raws if raw["kind"] == "Service"]
    addresses.keep(declared)
    whole = [services.completed(raw, addresses) for raw in sorted(declared, key=key_of)]
    endpoint_slices = {(key_of(s).namespace, key_of(s).name): services.slices(s, backends) for s in whole}
    spaces = namespaces([*raws, *pods])
    nodes = [raw for raw in raws if raw["kind"] == "Node"]
    own = [] if any(key_of(n).name == NODE_NAME for n in nodes) else [node_object(node_address)]
    published = [
        *own,
        *nodes,
        *spaces,
        *accounts(raws, spaces),
        *[raw for raw in raws if raw["kind"] in _PUBLISHED],
        *whole,
        *[each for found in endpoint_slices.values() for each in found],
        *pods,
    ]
    return World(
        objects=tuple(published),
        rules=services.rules(whole, endpoint_slices, backends),
        zone=services.zone(whole, endpoint_slices),
    )
