"""The few forms that a structural schema is made of (Kubernetes: CustomResourceDefinition, "structural schema")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Schema = dict[str, Any]
Rule = tuple[str, str]
"""A rule in CEL (Common Expression Language), and what to say where it does not hold."""

UINT32: Final = 2**32 - 1


def string(text: str = "", **more: Any) -> Schema:
    """A string; ``more`` are keys of the schema, such as maxLength."""
    return _with(text, {"type": "string", **more})


def choice(values: Iterable[str], text: str = "") -> Schema:
    """One of some words."""
    return string(text, enum=list(values))


def boolean(text: str = "", **more: Any) -> Schema:
    """True or false."""
    return _with(text, {"type": "boolean", **more})


def uint32(text: str = "", **more: Any) -> Schema:
    """A number that is not negative and has at most 32 bits."""
    return _with(text, {"type": "integer", "minimum": 0, "maximum": UINT32, **more})


def int32(text: str = "", **more: Any) -> Schema:
    """A number with a sign, of at most 32 bits."""
    return _with(text, {"type": "integer", "format": "int32", **more})


def number(text: str = "", **more: Any) -> Schema:
    """A number that may have a fraction."""
    return _with(text, {"type": "number", "format": "double", **more})


def array(item: Schema, text: str = "", **more: Any) -> Schema:
    """A list."""
    return _with(text, {"type": "array", "items": item, **more})


def strings(text: str = "", **more: Any) -> Schema:
    """A list of strings."""
    return array(string(), text, **more)


def mapping(value: Schema, text: str = "", **more: Any) -> Schema:
    """Names to values."""
    return _with(text, {"type": "object", "additionalProperties": value, **more})


def tree(text: str = "") -> Schema:
    """Any object; nothing of it is cut off."""
    return _with(text, {"type": "object", "x-kubernetes-preserve-unknown-fields": True})


def thing(
    text: str,
    fields: Mapping[str, Schema],
    *,
    required: Sequence[str] = (),
    one_of: Sequence[Sequence[str]] = (),
    rules: Sequence[Rule] = (),
) -> Schema:
    """An object with named fields.

    Args:
        text: what it is, for people.
        fields: name -> schema.
        required: fields that must be there.
        one_of: groups of fields of which at most one may be there.
        rules: what else must hold.
    """
    schema = _with(text, {"type": "object", "properties": dict(sorted(fields.items()))})
    return constrain(schema, required=required, one_of=one_of, rules=rules)


def constrain(
    schema: Schema,
    *,
    required: Sequence[str] = (),
    one_of: Sequence[Sequence[str]] = (),
    rules: Sequence[Rule] = (),
) -> Schema:
    """The same schema with more conditions; see ``thing``."""
    more: Schema = {}
    if required:
        more["required"] = list(required)
    if len(one_of) == 1:
        more |= _at_most_one(one_of[0])
    elif one_of:
        more["allOf"] = [_at_most_one(group) for group in one_of]
    if rules:
        more["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in rules]
    return {**schema, **more}


def _at_most_one(names: Sequence[str]) -> Schema:
    """None of the fields, or exactly one: the form that the API server accepts in a structural schema."""
    each: list[Schema] = [{"required": [name]} for name in names]
    return {"oneOf": [{"not": {"anyOf": each}}, *each]}


def _with(text: str, schema: Schema) -> Schema:
    return {"description": text, **schema} if text else schema
