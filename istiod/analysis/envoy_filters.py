"""EnvoyFilters: operations that are ignored, or whose effect depends on which filter is applied first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from istiod.analysis import catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message, MessageType
from istiod.analysis.resources import Collection, Resource, Steps

_UNPATCHABLE: Final = frozenset(("ROUTE_CONFIGURATION", "HTTP_ROUTE"))
_REPLACEABLE: Final = frozenset(("NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"))
_RELATIVE: Final = frozenset(("REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER"))


def _run(known: Collection) -> Iterator[Message]:
    versioned: set[str] = set()
    for one in known.of(kinds.ENVOY_FILTER):
        yield from _patches(one, versioned)


def _patches(one: Resource, versioned: set[str]) -> Iterator[Message]:
    """Findings of one object; ``versioned`` gathers what earlier patches for one proxy version are about."""
    first = fields.number(one.spec, "priority") == 0
    for i, each in enumerate(fields.records(one.spec, "configPatches")):
        if not isinstance(fields.dig(each, "patch"), dict):
            return
        name = _name(each)
        operation, target = fields.text(each, "patch", "operation"), fields.text(each, "applyTo")
        kind = _wrong(operation, target)
        if kind is None and first and operation in _RELATIVE:
            kind = catalogue.RELATIVE_OPERATION_OF_VERSION if name in versioned else catalogue.RELATIVE_OPERATION
        if kind is not None:
            at: Steps = ("spec", "configPatches", i, "patch", "value")
            yield message.make(kind, one, at=at)
        if fields.text(each, "match", "proxy", "proxyVersion"):
            versioned.add(name)


def _wrong(operation: str, target: str) -> MessageType | None:
    if operation == "ADD" and target in _UNPATCHABLE:
        return catalogue.ADD_IS_IGNORED
    if operation == "REMOVE" and target in _UNPATCHABLE:
        return catalogue.REMOVE_IS_IGNORED
    if operation == "REPLACE" and target not in _REPLACEABLE:
        return catalogue.REPLACE_IS_INVALID
    return None


def _name(patch: Any) -> str:
    """What a patch is about: the name in its value, else that of the filter it looks for."""
    value = fields.record(patch, "patch", "value")
    if not value or "name" in value:
        return fields.text(value, "name")
    return fields.text(patch, "match", "listener", "filterChain", "filter", "name")


ANALYZER: Final = Analyzer(
    name="envoyfilter.EnvoyPatchAnalyzer", description="Checks the patches of EnvoyFilters", run=_run
)
