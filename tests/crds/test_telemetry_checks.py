"""What a Telemetry can be wrong about (Q3-Q6)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from crds import parse
from crds.diagnostic import Severity
from crds.parse import Parsed

FULL = """
selector: {matchLabels: {app: web}}
tracing:
- match: {mode: CLIENT}
  providers: [{name: a}]
  randomSamplingPercentage: 12
  disableSpanReporting: true
  disableContextPropagation: false
  useRequestIdForTraceSampling: true
  enableIstioTags: false
  customTags: {a: {literal: {value: b}}, c: {header: {name: d, defaultValue: e}}}
metrics:
- providers: [{name: prometheus}]
  reportingInterval: 5s
  overrides:
  - match: {metric: REQUEST_COUNT, mode: SERVER}
    disabled: false
    tagOverrides: {a: {operation: UPSERT, value: request.host}, b: {operation: REMOVE}, c: {value: "'x'"}}
  - match: {customMetric: mine}
accessLogging:
- match: {mode: SERVER}
  providers: [{name: envoy}, {name: otel}]
  disabled: false
  filter: {expression: response.code >= 400}
"""
WRONG: list[tuple[str, list[str]]] = [
    (FULL, []),
    ("{}", []),
    ("{selector: {matchLabels: {app: 'w*'}}, targetRefs: [{kind: Pod, name: a}]}", ["spec", "targetRefs[0]"]),
    ("tracing: [{randomSamplingPercentage: 101}]", ["Percentage"]),
    ("tracing: [{providers: [{name: a}]}]", []),
    (
        "tracing: [{customTags: {'': {literal: {value: a}}, a: {literal: {}}, b: {header: {}}, c: {environment: {}}}}]",
        ["customTags", "customTags.a.literal.value", "customTags.b.header.name", "customTags.c.environment.name"],
    ),
    (
        "tracing: [{customTags: {a: {formatter: {}}, b: {literal: {value: a}, header: {name: b}}, c: {}}}]",
        ["customTags.a.formatter.value", "customTags.b"],
    ),
    ("tracing: [{randomSamplingPercentage: -0.1}, {providers: [{}]}]", ["Percentage", "providers[0].name"]),
    ("accessLogging: [{providers: [{name: ''}]}]", ["accessLogging[0].providers[0].name"]),
    ("metrics: [{reportingInterval: 0s}]", ["reportingInterval"]),
    ("metrics: [{overrides: [{match: {metric: REQUEST_SIZE, customMetric: ''}}]}]", ["match", "customMetric"]),
    (
        "metrics: [{overrides: [{tagOverrides: {a: {}, b: {operation: REMOVE, value: c}, '': {value: d}}}]}]",
        ["tagOverrides.a.value", "tagOverrides.b.value", "tagOverrides"],
    ),
]


def parsed(spec: str, version: str = "v1") -> Parsed:
    document: dict[str, Any] = {
        "apiVersion": f"telemetry.istio.io/{version}",
        "kind": "Telemetry",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": yaml.safe_load(spec),
    }
    return parse.parse(document)


@pytest.mark.parametrize(("spec", "fields"), WRONG)
def test_each_mistake_is_told_at_its_field(spec: str, fields: list[str]) -> None:
    found = parsed(spec).diagnostics
    assert {each.severity for each in found} <= {Severity.ERROR}
    assert len(found) >= len(fields)
    assert all(any(field in each.field for each in found) for field in fields), found
    assert bool(found) == bool(fields)


def test_of_several_providers_of_spans_the_first_counts_which_is_said() -> None:
    (found,) = parsed("tracing: [{providers: [{name: a}, {name: b}]}]").diagnostics
    assert (found.severity, found.field) == (Severity.WARNING, "spec.tracing[0].providers")


@pytest.mark.parametrize("version", ["v1", "v1alpha1"])
def test_both_versions_are_read(version: str) -> None:
    assert parsed(FULL, version).object is not None


def test_values_that_there_are_not_are_told() -> None:
    found = parsed("accessLogging: [{match: {mode: BOTH}}]").diagnostics
    assert [each.field for each in found] == ["spec.accessLogging[0].match.mode"]
