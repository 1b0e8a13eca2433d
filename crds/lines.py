"""Documents of a file, and on which line of it each field stands.

Lines are looked up when a finding needs one: a clean document is read once and nothing is kept but its text.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from crds import path, text
from crds.text import Chunk, UnreadableError

_LIST: Final = "List"
_RECENT: Final = 4  # documents whose lines are remembered: the findings of a large List ask for its lines one by one


def split(name: str, content: str) -> Iterator[Chunk]:
    """The documents of a file. A file whose name ends in .json is one document."""
    if not name.endswith(".json"):
        yield from text.split(content)
    elif content.strip():
        yield Chunk(0, content)


def load(name: str, chunk: Chunk) -> Any:
    """The value of one document of the file ``name``; None where it is empty.

    Raises:
        UnreadableError: the text is neither YAML nor, in a file so named, JSON.
    """
    if not name.endswith(".json"):
        return text.load(chunk.text)
    try:
        value = json.loads(chunk.text, object_pairs_hook=_once, parse_constant=_refuse)
        _bounded(value)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"no JSON: {error.msg}", error.lineno - 1) from error
    except RecursionError as error:
        raise UnreadableError("nested too deep", 0) from error
    except ValueError as error:
        raise UnreadableError(f"no JSON: {error}", 0) from error
    return value


def unroll(document: Any) -> Iterator[tuple[str, Any]]:
    """(path in the document, object) of a document; the items of a List, and of Lists in it, one by one.

    Items of a typed list (PodList) without apiVersion and kind of their own have the list's.
    """
    todo = [("", document)]
    while todo:
        place, item = todo.pop()
        if not _is_list(item):
            yield place, item
            continue
        kind, below = item["kind"].removesuffix(_LIST), path.child(place, "items")
        base = {"apiVersion": item["apiVersion"], "kind": kind} if kind else {}
        children = [{**base, **child} if isinstance(child, Mapping) else child for child in item["items"]]
        todo.extend((path.child(below, index), child) for index, child in reversed(list(enumerate(children))))


@functools.lru_cache(maxsize=_RECENT)
def find(chunk: Chunk) -> Mapping[str, int]:
    """Field path -> line in the file, from 1; "" is the document's first line that says something."""
    try:
        found = text.lines(chunk.text)
    except UnreadableError:  # JSON that is no YAML, such as one with surrogate escapes
        found = {}
    first = min(found.values(), default=0)
    return {"": chunk.line + first + 1, **{field: chunk.line + line + 1 for field, line in found.items()}}


def nearest(index: Mapping[str, int], prefix: str, field: str) -> int:
    """The line of a field of the object at ``prefix``, else of its nearest parent that is in the document."""
    place = f"{prefix}.{field}" if prefix and field and field[0] != "[" else prefix + field
    while place not in index:
        place = path.parent(place)
    return index[place]


def _is_list(item: Any) -> bool:
    return (
        isinstance(item, Mapping)
        and isinstance(item.get("kind"), str)
        and item["kind"].endswith(_LIST)
        and isinstance(item.get("apiVersion"), str)
        and isinstance(item.get("items"), list)
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key stands twice in one place")
    return fields


def _bounded(value: Any) -> None:
    """Hold JSON to the limits of YAML: its nesting, and text that is Unicode.

    Raises:
        ValueError: it nests deeper, or an escape is half a character, which no encoding can write.
    """
    todo = [(value, 0)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, str):
            item.encode()
        elif isinstance(item, dict | list):
            if depth >= text.DEEPEST:
                raise ValueError(f"nested deeper than {text.DEEPEST}")
            inner = [*item, *item.values()] if isinstance(item, dict) else item
            todo.extend((each, depth + 1) for each in inner)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
