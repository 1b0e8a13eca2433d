"""Whether the fields of ProxyConfig that a bootstrap is made of are objects, lists and numbers where they have to be.

The control plane has seen to that where it injected the pod; who writes PROXY_CONFIG or the annotation himself is told
the field. What addresses and durations have to be is said where they are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from agent.bootstrap.inputs import InputError
from wire import decimal

_OBJECTS: Final = (
    *("tracing", "tracing.zipkin", "tracing.datadog", "tracing.tlsSettings"),
    *("envoyMetricsService", "envoyMetricsService.tlsSettings"),
    *("envoyAccessLogService", "envoyAccessLogService.tlsSettings"),
    *("proxyStatsMatcher", "connectionSettings", "runtimeValues"),
)
"""Each behind the one that it is in."""
_LISTS: Final = (
    "extraStatTags",
    *(f"proxyStatsMatcher.inclusion{which}" for which in ("Prefixes", "Suffixes", "Regexps")),
)
_LAST_PORT: Final = 65_535
_MOST: Final = 2**31 - 1
_NUMBERS: Final[Mapping[str, int]] = {
    "proxyAdminPort": _LAST_PORT,
    "statusPort": _LAST_PORT,
    "concurrency": _MOST,
    "connectionSettings.globalDownstreamConnectionLimit": _MOST,
}
_LONGEST: Final = 60


def check(config: Mapping[str, Any]) -> None:
    """See that they are.

    Raises:
        InputError: a field is something else.
    """
    for path, words, holds in _wanted():
        value = _at(config, path)
        if value is not None and not holds(value):
            raise InputError(f"ProxyConfig {path} must be {words}, not {json.dumps(value)[:_LONGEST]}")


def _wanted() -> Iterator[tuple[str, str, Callable[[object], bool]]]:
    yield from ((path, "an object", _is_object) for path in _OBJECTS)
    yield "runtimeValues", "an object of texts", _is_flat
    yield from ((path, "a list of texts", _is_list_of_texts) for path in _LISTS)
    yield from ((path, f"a whole number up to {most}", partial(_is_number, most)) for path, most in _NUMBERS.items())


def _at(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for step in path.split("."):
        if value is None:
            return None
        value = value.get(step)
    return value


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_flat(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, str | int | float) for each in value.values())


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_number(most: int, value: object) -> bool:
    """Numbers may be texts, as everywhere in protobuf's JSON."""
    found = decimal.number(str(value))
    return found is not None and found <= most
