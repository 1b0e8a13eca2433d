"""From a pydantic model to a structural schema: what the model reads, and what limits.py and words.py say beside it.

A model says which fields there are and what they hold. Conditions that only the API server checks (CEL, lengths), and
what each field is for, stand in tables of their own, so that a model stays what the mesh needs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from datetime import timedelta
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from crds.meta import Model
from crds.schema import common, limits, words
from crds.schema.shape import UINT32, Schema, array, choice, constrain, mapping, string, thing, tree

_ROW: Final = re.compile(r"\s*\([A-Z]\d+(?:[-, ]+(?:to )?[A-Z]\d+)*\)")
_SCALARS: Final[Mapping[object, Schema]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number", "format": "double"},
}
_INT32: Final = 2**31 - 1


def schema(model: type[Model]) -> Schema:
    """The schema of objects of a model.

    Raises:
        TypeError: a field has a type that no schema is known for.
    """
    limit, said = limits.LIMITS.get(model, limits.NONE), words.WORDS.get(model, {})
    alone = {name for group in limit.one_of for name in group}
    fields: dict[str, Schema] = {}
    for name, info in model.model_fields.items():
        alias = info.alias or name
        if alias not in limit.without:
            made = _field(info, nullable=alias not in alone)
            fields[alias] = _described(_merged(made, limit.fields.get(alias, {})), said.get(alias, ""))
    made = thing(_about(model), {**fields, **limit.more})
    return constrain(made, required=limit.required, one_of=limit.one_of, rules=limit.rules)


def _about(model: type[Model]) -> str:
    """What a model's docstring says to users: its first paragraph, without numbers of feature rows."""
    first = inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    return _ROW.sub("", first).replace("``", "")


def _described(made: Schema, text: str) -> Schema:
    return {**made, "description": text} if text else made


def _field(info: FieldInfo, *, nullable: bool) -> Schema:
    made = _type(info.annotation, tuple(info.metadata))
    optional = NoneType in get_args(info.annotation) and made.get("type") in {"boolean", "integer", "number"}
    return {**made, "nullable": True} if optional and nullable else made


def _type(annotation: Any, metadata: tuple[object, ...] = ()) -> Schema:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], (*arguments[1:], *metadata))
    if origin in {Union, UnionType}:
        return _type(next(each for each in arguments if each is not NoneType), metadata)
    if origin is Literal:
        return choice(arguments)
    if origin is tuple:
        return array(_type(arguments[0]))
    if origin is not None and issubclass(origin, Mapping):
        return tree() if arguments[1] is Any else mapping(_type(arguments[1]))
    return _plain(annotation, metadata)


def _plain(annotation: Any, metadata: tuple[object, ...]) -> Schema:
    if annotation is timedelta:
        return constrain(string(), rules=(common.DURATION_RULE,))
    if annotation in _SCALARS:
        return {**_SCALARS[annotation], **_range(metadata)}
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return schema(annotation)
    raise TypeError(f"no schema is known for {annotation!r}")


def _range(metadata: tuple[object, ...]) -> Schema:
    """Bounds of a number. Those of 32 bits with a sign are a format, and those of 64 bits are left out."""
    inner = [part for each in metadata for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
    low = next((bound for each in inner if (bound := getattr(each, "ge", None)) is not None), None)
    high = next((bound for each in inner if (bound := getattr(each, "le", None)) is not None), None)
    if high == _INT32:
        return {"format": "int32"}
    bounds = {"minimum": low, "maximum": high if high is None or float(str(high)) <= UINT32 else None}
    return {key: value for key, value in bounds.items() if value is not None}


def _merged(made: Schema, more: Mapping[str, Any]) -> Schema:
    """``more`` laid over a schema, also inside of it; a value None takes a key away."""
    result = dict(made)
    for key, value in more.items():
        if value is None:
            del result[key]
        else:
            inner = isinstance(value, Mapping) and isinstance(result.get(key), dict)
            result[key] = _merged(result[key], value) if inner else value
    return result
