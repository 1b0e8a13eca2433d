"""Objects of a cluster as an API server gives them, and the watch's decisions played without one."""

from __future__ import annotations

from typing import Any

from crds.key import ConfigKey
from crds.meta import Object
from istiod.config.kubernetes import Event, Verb
from istiod.config.store import ConfigStore
from istiod.watch import kinds
from istiod.watch.files import Change
from istiod.watch.kinds import WatchedKind
from istiod.watch.objects import ObjectSet, Place

ROOT = "istio-system"
PLACE = Place(
    root_namespace=ROOT,
    revision="default",
    mesh_config="istio",
    config_maps=frozenset({"istio", "istio-sidecar-injector"}),
)
KINDS = {kind.info.kind: kind for kind in kinds.watched(ROOT)}
Raw = dict[str, Any]


def made(kind: str, name: str, namespace: str = "shop", **more: Any) -> Raw:
    """An object; ``uid``, ``labels`` and ``deletionTimestamp`` go into its metadata."""
    info = KINDS[kind].info
    metadata: Raw = {"name": name, "uid": more.pop("uid", f"{kind}-{namespace}-{name}")}
    metadata |= {field: more.pop(field) for field in ("labels", "annotations", "deletionTimestamp") if field in more}
    if info.namespaced:
        metadata["namespace"] = namespace
    version = f"{info.group}/{info.versions[0]}" if info.group else info.versions[0]
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def key_of(raw: Raw) -> ConfigKey:
    info, metadata = KINDS[raw["kind"]].info, raw["metadata"]
    return ConfigKey(info.group, info.kind, metadata.get("namespace", ""), metadata["name"])


class Played:
    """A store that follows events."""

    def __init__(self, place: Place = PLACE) -> None:
        self.objects = ObjectSet(place)
        self.store = ConfigStore()

    def event(self, verb: Verb, raw: Raw) -> Change:
        return self._apply(self.objects.take(KINDS[raw["kind"]], Event(verb=verb, item=raw)))

    def put(self, *raws: Raw) -> None:
        for raw in raws:
            self.event(Verb.CHANGED, raw)

    def delete(self, *raws: Raw) -> None:
        for raw in raws:
            self.event(Verb.DELETED, raw)

    def listing(self, kind: WatchedKind, *raws: Raw) -> Change:
        self.objects.begin(kind)
        for raw in raws:
            self.event(Verb.PRESENT, raw)
        return self._apply(self.objects.listed(kind))

    def names(self, kind: str = "") -> set[str]:
        return {key.name for key in tuple(self.store.keys()) if kind in ("", key.kind)}

    def content(self) -> dict[ConfigKey, Object]:
        return {key: item for key in tuple(self.store.keys()) if (item := self.store.get(key)) is not None}

    def _apply(self, change: Change) -> Change:
        for item in change.applied:
            self.store.apply(item)
        for key in change.removed:
            self.store.remove(key)
        return change
