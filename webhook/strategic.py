"""A part of a pod merged over a pod as the Kubernetes API merges patches (features A6, A7). Pure.

Source: Kubernetes documentation, "strategic merge patch". Objects merge; lists of named things merge by name, new
things first unless the caller wants them last; null removes; ``$patch`` says replace or delete. Of a volume one source
is left: that of the patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from webhook.settings import Json

_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "ownerReferences": "uid",
    "resourceClaims": "name",
}
_DIRECTIVE: Final = "$patch"


# Values are as JSON and YAML give them, so objects are dicts: asking for Mapping costs a third of a merge.
def merge(target: Mapping[str, object], patch: Mapping[str, object], *, last: bool = False) -> Json:
    """The target with the patch over it; what is new in a list of named things is first in it, or ``last``."""
    if patch.get(_DIRECTIVE) == "replace":
        return _plain(patch)
    merged: Json = dict(target)
    for key, value in patch.items():
        mine = merged.get(key)
        if key == _DIRECTIVE:
            continue
        if value is None or (isinstance(value, dict) and value.get(_DIRECTIVE) == "delete"):
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge(mine if isinstance(mine, dict) else {}, value, last=last)
        elif isinstance(value, list) and key in _KEYS and _named(value, _KEYS[key]):
            merged[key] = _by_name(mine if isinstance(mine, list) else [], value, key, last=last)
        elif isinstance(value, list) and key == "finalizers" and isinstance(mine, list):
            merged[key] = [*mine, *(each for each in value if each not in mine)]
        else:
            merged[key] = value
    return merged


def _plain(patch: Mapping[str, object]) -> Json:
    return {key: value for key, value in patch.items() if key != _DIRECTIVE and value is not None}


def _named(items: Sequence[object], key: str) -> bool:
    return all(isinstance(each, dict) and (_name(each, key) is not None or _DIRECTIVE in each) for each in items)


def _name(item: object, key: str) -> str | int | None:
    """What tells a thing of a list apart; None where it says none, or something that can be no name."""
    found = item.get(key) if isinstance(item, dict) else None
    return found if isinstance(found, str | int) else None


def _by_name(target: Sequence[object], patch: Sequence[Mapping[str, object]], kind: str, *, last: bool) -> list[object]:
    key = _KEYS[kind]
    if any(each.get(_DIRECTIVE) == "replace" and key not in each for each in patch):
        return [_plain(each) for each in patch if key in each]
    removed = {_name(each, key) for each in patch if each.get(_DIRECTIVE) == "delete"} - {None}
    left = [each for each in target if _name(each, key) not in removed]
    known = {_name(each, key): each for each in left if isinstance(each, dict)}
    changed: dict[object, Json] = {}
    for each in patch:
        name = _name(each, key)
        if name is not None and name not in removed:
            changed[name] = _one(changed.get(name, known.get(name, {})), each, kind, last=last)
    new = [each for name, each in changed.items() if name not in known]
    there = [_changed(each, changed, key) for each in left]
    return [*there, *new] if last else [*new, *there]


def _one(mine: Mapping[str, object], theirs: Mapping[str, object], kind: str, *, last: bool) -> Json:
    """One thing of a list. Two sources of a volume, or of a variable, are refused by the API server."""
    if kind in {"volumes", "env"} and len(theirs) > 1 and theirs.keys() - mine.keys():
        mine = {"name": theirs["name"]}
    return merge(mine, theirs, last=last)


def _changed(each: object, changed: Mapping[object, Json], key: str) -> object:
    """What was there keeps its place."""
    name = _name(each, key)
    return each if name is None else changed.get(name, each)
