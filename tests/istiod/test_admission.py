"""What an object is told at admission beyond its own model: fields that nothing does anything with yet."""

from __future__ import annotations

from typing import Any

import pytest

from crds.diagnostic import Code, Severity
from istiod import admission

META = {"name": "web", "namespace": "demo"}


def rule(http: dict[str, Any]) -> dict[str, Any]:
    spec = {"hosts": ["web"], "gateways": ["absent"], "http": [http]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": META, "spec": spec}


@pytest.mark.parametrize(
    ("given", "severity", "field"),
    [
        (rule({"delegate": {"name": "other"}}), Severity.ERROR, "spec.http[0].delegate"),
        (
            rule({"websocketUpgrade": True, "route": [{"destination": {"host": "w"}}]}),
            Severity.WARNING,
            "spec.http[0].websocketUpgrade",
        ),
    ],
)
def test_fields_without_effect_are_said(given: dict[str, Any], severity: Severity, field: str) -> None:
    found = [each for each in admission.judge(given) if each.code is Code.NOT_SUPPORTED]
    assert [(each.severity, each.field) for each in found] == [(severity, field)]


def test_what_is_missing_beside_an_object_is_none_of_its_faults() -> None:
    assert admission.judge(rule({"route": [{"destination": {"host": "nowhere", "subset": "v9"}}]})) == ()


def test_what_is_wrong_by_itself_is_said_once() -> None:
    (found,) = admission.judge(rule({"route": [{"destination": {"host": ""}}]}))
    assert found.field == "spec.http[0].route[0].destination.host"
