"""Long lists of an object are validated some elements at a time.

Pydantic holds Python's lock for a whole call, and ten thousand routes in one call would keep all other threads waiting
for half a second (fault FT21). Between two calls they have their turn. What it comes to is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from crds.meta import Model

PART: Final = 200
"""Elements that are validated at once: some milliseconds, where they are routes."""


def read(kind: type[Model], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document with the long lists of its spec as models already, or as it was where something is wrong with them.

    Only by alias, as objects are read; nobody but a validation of the whole says what is wrong.
    """
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        return document
    long = {name: items for name, items in spec.items() if isinstance(items, list) and len(items) > PART}
    if not long:
        return document
    adapters = _adapters(kind)
    try:
        made = {name: _read(adapters[name], items) for name, items in long.items() if name in adapters}
    except ValidationError:
        return document
    return {**document, "spec": {**spec, **made}}


def _read(adapter: TypeAdapter[tuple[Any, ...]], items: list[Any]) -> tuple[Any, ...]:
    parts = (items[start : start + PART] for start in range(0, len(items), PART))
    return tuple(item for part in parts for item in adapter.validate_python(part, by_alias=True, by_name=False))


@lru_cache(maxsize=64)
def _adapters(kind: type[Model]) -> Mapping[str, TypeAdapter[tuple[Any, ...]]]:
    """Validators of the lists of models in a kind's spec, by the name that the field has in documents."""
    found: dict[str, TypeAdapter[tuple[Any, ...]]] = {}
    whole = kind.model_fields.get("spec")
    spec: Any = None if whole is None else whole.annotation
    for name, field in getattr(spec, "model_fields", {}).items():
        said: Any = field.annotation
        element = next(iter(get_args(said)), None)
        if get_origin(said) is tuple and isinstance(element, type) and issubclass(element, Model):
            found[field.alias or name] = TypeAdapter(said)
    return found
