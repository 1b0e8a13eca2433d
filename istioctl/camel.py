"""Envoy's JSON (field names as in the protos) in the spelling that istioctl prints: lowerCamelCase.

Done on the JSON itself, since a typed detour would need every extension that any Envoy may carry. What users name
freely stays as it is: metadata, labels, and maps keyed by filter names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_FIELD: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")
_CAMEL: Final = re.compile(r"[a-z][a-z0-9]*([A-Z0-9][a-z0-9]*)+")
_CAPITAL: Final = re.compile(r"[A-Z]")
_FREE: Final = frozenset(("filter_metadata", "static_layer", "admin_layer", "json_format"))
"""Fields whose content is a google.protobuf.Struct."""


def converted(value: Any) -> Any:
    """The same JSON with its fields renamed, at every depth."""
    if isinstance(value, list):
        return [converted(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name(key): each if _free(key, value) else converted(each) for key, each in value.items()}


def name(field: str) -> str:
    """One field's name; a name that is no field of a proto (with dots, or capitals) stays."""
    if not _FIELD.fullmatch(field):
        return field
    first, *rest = field.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def restored(value: Any) -> Any:
    """The opposite: JSON that istioctl printed, with the fields' own names. What stayed free stays so."""
    if isinstance(value, list):
        return [restored(each) for each in value]
    if not isinstance(value, dict):
        return value
    named = {
        _CAPITAL.sub(lambda found: f"_{found[0].lower()}", key) if _CAMEL.fullmatch(key) else key: key for key in value
    }
    return {key: value[old] if _free(key, named) else restored(value[old]) for key, old in named.items()}


def _free(key: str, owner: Mapping[str, Any]) -> bool:
    """Whether the field's content is the user's own structure."""
    if key == "metadata":  # a Node's; other messages have their Struct one level below, in filter_metadata
        return "user_agent_name" in owner or "locality" in owner or "cluster" in owner
    return key in _FREE or (key == "value" and "type_url" in owner)
