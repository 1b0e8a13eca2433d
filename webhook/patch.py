"""The difference of two JSON values as an RFC 6902 patch. Pure.

Lists that only grew at an end become single additions, so that the patch says what was injected; other lists are
compared item by item where their lengths agree, and replaced whole where not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

Operation = Mapping[str, object]


def diff(before: object, after: object, path: str = "") -> Iterator[Operation]:
    """Operations that turn one value into the other, in the order in which they must be applied."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _objects(before, after, path)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _lists(before, after, path)
    elif type(before) is not type(after) or before != after:
        yield {"op": "replace", "path": path, "value": after}


def _objects(before: Mapping[str, object], after: Mapping[str, object], path: str) -> Iterator[Operation]:
    for key in before.keys() - after.keys():
        yield {"op": "remove", "path": f"{path}/{_escape(key)}"}
    for key, value in after.items():
        if key in before:
            yield from diff(before[key], value, f"{path}/{_escape(key)}")
        else:
            yield {"op": "add", "path": f"{path}/{_escape(key)}", "value": value}


def _lists(before: Sequence[object], after: Sequence[object], path: str) -> Iterator[Operation]:
    if len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from diff(old, new, f"{path}/{index}")
        return
    more = len(after) - len(before)
    if more > 0 and not any(diff(before, after[: len(before)])):
        for value in after[len(before) :]:
            yield {"op": "add", "path": f"{path}/-", "value": value}
    elif more > 0 and not any(diff(before, after[more:])):
        for index, value in enumerate(after[:more]):
            yield {"op": "add", "path": f"{path}/{index}", "value": value}
    else:
        yield {"op": "replace", "path": path, "value": after}


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
