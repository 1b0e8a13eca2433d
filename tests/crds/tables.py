"""What tables of specs and of the fields that are found fault with are tried by."""

from __future__ import annotations

from crds import text
from crds.diagnostic import Code, Severity
from crds.parse import Parsed, parse

MARKS = ("?", "~")
"""Before fields whose object is used all the same: of warnings, and of what the webhook refuses."""
_OF_SEVERITY = {Severity.ERROR: "", Severity.WARNING: "?"}


def parsed(kind: str, spec: str, group: str = "networking.istio.io") -> Parsed:
    """An object of this kind with a spec in YAML."""
    metadata = {"name": "a", "namespace": "ns"}
    return parse({"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "spec": text.load(spec)})


def fields(found: Parsed) -> list[str]:
    """The fields that are found fault with, each with its mark."""
    return [
        ("~" if one.code is Code.NOT_ADMITTED else _OF_SEVERITY[one.severity]) + one.field for one in found.diagnostics
    ]
