"""Label selectors, as Kubernetes writes and matches them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from istiod.analysis import fields
from istiod.analysis.resources import Steps


def written(selector: Mapping[str, str]) -> str:
    """A selector as text, by label."""
    return ",".join(f"{label}={value}" for label, value in sorted(selector.items()))


def first(selector: Mapping[str, str], *before: str | int) -> Steps:
    """The way to the first label of a selector, whose line a finding shows."""
    return (*before, min(selector, default=""))


def matches(selector: Any, labels: Mapping[str, str]) -> bool:
    """Whether a selector with matchLabels and matchExpressions holds for labels; none holds for all."""
    wanted = fields.labels(selector, "matchLabels")
    if any(labels.get(label) != value for label, value in wanted.items()):
        return False
    return all(_holds(each, labels) for each in fields.records(selector, "matchExpressions"))


def _holds(expression: fields.Record, labels: Mapping[str, str]) -> bool:
    label, values = fields.text(expression, "key"), fields.texts(expression, "values")
    match fields.text(expression, "operator"):
        case "In":
            return label in labels and labels[label] in values
        case "NotIn":
            return labels.get(label) not in values
        case "Exists":
            return label in labels
        case "DoesNotExist":
            return label not in labels
    return False
