"""Objects with the verdicts of Istio's webhook and of the CRD schema: group validation, for the kinds we model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from conformance import difference
from conformance.difference import Difference
from crds import lines, registry
from crds.diagnostic import Severity, under_admission
from crds.parse import parse


@cache
def modelled() -> frozenset[str]:
    """Istio's kinds that have a model here."""
    return frozenset(kind for (group, kind), entry in registry.KINDS.items() if "istio.io" in group and entry.model)


def is_modelled(case: Any) -> bool:
    """Whether a case is of such a kind."""
    return case["kind"] in modelled()


def verdict(path: Path) -> Iterator[Difference]:
    """An API server admits an object only when webhook and schema both pass."""
    case = json.loads(path.read_text())
    wanted = bool(case.get("valid", case.get("webhook_valid")) and case["crd_valid"])
    (chunk,) = lines.split("case.yaml", case["object_yaml"])
    found = parse(lines.load("case.yaml", chunk))
    admitted = all(each.severity is not Severity.ERROR for each in under_admission(found.diagnostics))
    if (found.object is not None and admitted) != wanted:
        said = case.get("error") or case.get("crd_error") or [str(each) for each in found.diagnostics]
        yield difference.of(str(said)[:200], "valid", wanted, not wanted)
