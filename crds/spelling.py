"""What a user may have meant by a field that nobody knows: another case, an underscore, a letter too many. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel

_ALIKE: Final = 0.65
"""How alike two names are that one writes for the other (difflib's ratio)."""


def near(kind: type[BaseModel], steps: Sequence[int | str]) -> str:
    """The field that the last step may have meant, in a model of ``kind`` where the steps before lead; "" for none."""
    known = {_bare(name): name for each in _at(kind, steps[:-1]) for name in _fields(each)}
    found = difflib.get_close_matches(_bare(str(steps[-1])), known, 1, _ALIKE)
    return known[found[0]] if found else ""


def _bare(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _at(kind: type[BaseModel], steps: Sequence[int | str]) -> list[type[BaseModel]]:
    """The models that a value may be of. Steps that are no fields are places in lists, keys, or parts of a union."""
    kinds = [kind]
    for step in steps:
        inner = [_fields(each)[step] for each in kinds if isinstance(step, str) and step in _fields(each)]
        kinds = [model for annotation in inner for model in _models(annotation)] if inner else kinds
    return kinds


def _fields(kind: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
