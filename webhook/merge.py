"""What a user wrote of the container istio-proxy, laid over ours, as Kubernetes merges patches (features A7). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from webhook.settings import Json

AUTO = "auto"  # the image that says: this is no container of mine, complete it
_KEYS = {"env": "name", "volumeMounts": "mountPath", "ports": "containerPort"}


def overlay(ours: Mapping[str, object], theirs: Mapping[str, object]) -> Json:
    """Objects merge; lists of named things merge by name; everything else of theirs wins. None removes."""
    merged: Json = dict(ours)
    for key, value in theirs.items():
        mine = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(mine, Mapping) and isinstance(value, Mapping):
            merged[key] = overlay(mine, value)
        elif isinstance(mine, list) and isinstance(value, list) and key in _KEYS:
            merged[key] = _by_name(mine, value, _KEYS[key])
        else:
            merged[key] = value
    return merged


def _by_name(ours: list[Mapping[str, object]], theirs: list[Mapping[str, object]], key: str) -> list[Json]:
    # An overridden variable loses its old source: {value} and {valueFrom} together are refused by the API server.
    named: dict[object, Json] = {each.get(key): dict(each) for each in ours}
    for each in theirs:
        named[each.get(key)] = dict(each)
    return list(named.values())


def written(container: Mapping[str, object]) -> Json:
    """What the user really wrote: without the placeholder image."""
    return {key: value for key, value in container.items() if not (key == "image" and value == AUTO)}
