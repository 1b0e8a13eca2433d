"""Conditions in the status of objects that say that something does not work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from istiod.analysis import catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.kinds import Kind
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource

_BOUND: Final = frozenset(("istio.io/WaypointBound",))
_ROUTE: Final = frozenset(("Accepted", "Programmed", "ResolvedRefs"))
_CONDITIONS: Final[Mapping[Kind, frozenset[str]]] = {
    kinds.SERVICE: _BOUND,
    kinds.SERVICE_ENTRY: _BOUND,
    kinds.AUTHORIZATION_POLICY: frozenset(("ZtunnelAccepted", "WaypointAccepted")),
    kinds.KUBERNETES_GATEWAY: _ROUTE,
    kinds.HTTP_ROUTE: _ROUTE,
    kinds.GRPC_ROUTE: _ROUTE,
}


def _run(known: Collection) -> Iterator[Message]:
    for kind, types in _CONDITIONS.items():
        for resource in known.of(kind):
            for each in _conditions(resource):
                type_, reason = fields.text(each, "type"), fields.text(each, "reason")
                failed = type_ in types and fields.text(each, "status") == "False"
                partly = kind == kinds.AUTHORIZATION_POLICY and (type_, reason) == (
                    "WaypointAccepted",
                    "PartiallyInvalid",
                )
                if failed or partly:
                    said = fields.text(each, "message")
                    yield message.make(catalogue.NEGATIVE_CONDITION, resource, type_, reason, said)


def _conditions(resource: Resource) -> Iterator[fields.Record]:
    yield from fields.records(resource.document, "status", "conditions")
    for parent in fields.records(resource.document, "status", "parents"):
        yield from fields.records(parent, "conditions")


ANALYZER: Final = Analyzer(
    name="conditions.ConditionAnalyzer",
    description="Checks for negative status conditions on resources",
    run=_run,
)
