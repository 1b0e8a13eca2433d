"""Each object by itself: what its model says of it (crds), and matches of a VirtualService that are never used."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from crds.diagnostic import Code, Severity, under_admission
from istiod.analysis import catalogue, kinds, matches, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.kinds import Kind
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection

_ELSEWHERE: Final = frozenset((Code.SHADOWED_ROUTE, Code.NOT_SUPPORTED))
"""The former are IST0130 and IST0131; the latter no mistake, and reported with their own code (compiled)."""


def _run(kind: Kind, known: Collection) -> Iterator[Message]:
    for resource in known.of(kind):
        for each in under_admission(known.parsed(resource).diagnostics):
            if each.code not in _ELSEWHERE:
                error = each.severity is Severity.ERROR
                row = catalogue.SCHEMA_ERROR if error else catalogue.SCHEMA_WARNING
                said = f"{each.field}: {each.message}" if each.field else each.message
                yield message.of_field(row, resource, said, field=each.field)
        if kind == kinds.VIRTUAL_SERVICE:
            yield from matches.findings(resource)


def analyzers() -> list[Analyzer]:
    """One for each kind of Istio's API, as Istio has them."""
    return [
        Analyzer(
            name=f"schema.ValidationAnalyzer.{kind.name}",
            description=f"Runs schema validation as an analyzer on '{kind.name}' resources",
            run=partial(_run, kind),
        )
        for kind in kinds.ISTIO
    ]
