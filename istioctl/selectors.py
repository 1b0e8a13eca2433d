"""Label selectors of Kubernetes objects as the text that its API takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def text(found: Mapping[str, Any]) -> str:
    """A selector as text: a Service's map, or the labels and expressions of workloads."""
    if "matchLabels" in found or "matchExpressions" in found:
        return ",".join(_requirements(found))
    return ",".join(f"{key}={value}" for key, value in found.items())


def _requirements(found: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{key}={value}" for key, value in (found.get("matchLabels") or {}).items())
    for each in found.get("matchExpressions") or ():
        key, values = each["key"], f"({','.join(each.get('values') or ())})"
        written = {"In": f"{key} in {values}", "NotIn": f"{key} notin {values}", "Exists": key}
        yield written.get(each["operator"], f"!{key}")
