"""ProxyConfig as the pod gets it: YAML or JSON texts, later ones over earlier ones over the defaults.

The control plane has checked and merged it already (injection puts it into PROXY_CONFIG); here a mistake is an error at
start, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from agent.bootstrap import inputs, shapes

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def merge(*texts: str) -> dict[str, Any]:
    """The defaults with each text (YAML or JSON mapping; empty ones are skipped) laid over them, field by field.

    A null takes back what earlier texts say.

    Raises:
        InputError: a text is no YAML mapping, or a field is of another kind than ProxyConfig's.
    """
    merged: dict[str, Any] = {}
    for text in texts:
        merged = _overlay(merged, parse(text))
    found = {**inputs.DEFAULTS, **_without_nulls(merged)}
    shapes.check(found)
    return found


def parse(text: str) -> dict[str, Any]:
    """One text as a mapping with camelCase keys.

    Raises:
        InputError: it is no YAML mapping.
    """
    try:
        content = yaml.safe_load(text) if text.strip() else {}
        json.dumps(content, allow_nan=False)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: the 99th of a month
        raise inputs.InputError(f"ProxyConfig is no YAML: {' '.join(str(error).split())}") from error
    except TypeError as error:  # a date
        raise inputs.InputError(f"ProxyConfig is no YAML of texts, numbers, lists and objects: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise inputs.InputError(f"ProxyConfig must be a mapping, not {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def seconds(text: str) -> float:
    """A Go duration (``1h2m3.5s``) in seconds.

    Raises:
        InputError: it is none.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise inputs.InputError(f"{text!r} is no duration such as 5s or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(item) if isinstance(item, Mapping) else item
        for key, item in value.items()
        if item is not None
    }


def _overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _overlay(below, value) if both and below and value else value
    return merged
