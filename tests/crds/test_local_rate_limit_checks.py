"""What a LocalRateLimit can be wrong about; Envoy would refuse a listener for most of it (X1)."""

from __future__ import annotations

from typing import Any

import pytest

from crds import parse
from crds.diagnostic import Severity

GOOD: dict[str, Any] = {"limit": {"requests": 10, "per": "1s"}}
FULL: dict[str, Any] = {
    "name": "api",
    "match": {
        "methods": ["GET"],
        "paths": ["/api/*", "*.html", "/", "*"],
        "hosts": ["web.example"],
        "headers": [{"name": "x-a", "values": ["b"], "notValues": ["c"]}],
    },
    "limit": {"requests": 10, "per": "50ms", "burst": 20},
    "perConnection": True,
    "status": 503,
    "responseHeaders": {"retry-after": "1"},
}


def parsed(*rules: dict[str, Any], selector: dict[str, str] | None = None) -> parse.Parsed:
    spec = {"rules": list(rules), **({"selector": {"matchLabels": selector}} if selector else {})}
    head = {"apiVersion": "extensions.istiod.dev/v1alpha1", "kind": "LocalRateLimit"}
    return parse.parse({**head, "metadata": {"name": "a", "namespace": "default"}, "spec": spec})


@pytest.mark.parametrize("rule", [GOOD, FULL])
def test_what_is_right_has_no_finding(rule: dict[str, Any]) -> None:
    found = parsed(rule, selector={"app": "web"})
    assert found.object is not None
    assert found.diagnostics == ()


def with_match(**match: object) -> dict[str, Any]:
    return {**GOOD, "match": match}


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ([], "spec.rules"),
        ([GOOD] * 33, "spec.rules"),
        ([{"limit": {"requests": 0, "per": "1s"}}], "spec.rules[0].limit.requests"),
        ([{"limit": {"requests": 1}}], "spec.rules[0].limit.per"),
        ([{"limit": {"requests": 1, "per": "49ms"}}], "spec.rules[0].limit.per"),
        ([{"limit": {"requests": 2, "per": "1s", "burst": 1}}], "spec.rules[0].limit.burst"),
        ([{**GOOD, "status": 200}], "spec.rules[0].status"),
        ([{**GOOD, "status": 499}], "spec.rules[0].status"),
        ([{**GOOD, "name": "A b"}], "spec.rules[0].name"),
        ([{**GOOD, "name": "a"}, {**GOOD, "name": "a"}], "spec.rules[1].name"),
        ([{**GOOD, "responseHeaders": {"a b": "c"}}], 'spec.rules[0].responseHeaders["a b"]'),
        ([{**GOOD, "responseHeaders": {"a": "b\r\nc: d"}}], "spec.rules[0].responseHeaders.a"),
        ([{**GOOD, "responseHeaders": {"a": "%b"}}], "spec.rules[0].responseHeaders.a"),
        ([with_match()], "spec.rules[0].match"),
        ([with_match(paths=[""])], "spec.rules[0].match.paths[0]"),
        ([with_match(paths=["/a*b"])], "spec.rules[0].match.paths[0]"),
        ([with_match(hosts=["**"])], "spec.rules[0].match.hosts[0]"),
        ([with_match(methods=["*E*"])], "spec.rules[0].match.methods[0]"),
        ([with_match(paths=["/a\nb"])], "spec.rules[0].match.paths[0]"),
        ([with_match(headers=[{"name": "", "values": ["a"]}])], "spec.rules[0].match.headers[0].name"),
        ([with_match(headers=[{"name": "a"}])], "spec.rules[0].match.headers[0].values"),
        ([with_match(headers=[{"name": "a", "notValues": ["b*c"]}])], "spec.rules[0].match.headers[0].notValues[0]"),
    ],
)
def test_what_is_wrong_is_refused_at_its_field(rules: list[dict[str, Any]], field: str) -> None:
    found = parsed(*rules)
    assert field in {one.field for one in found.diagnostics if one.severity is Severity.ERROR}, found.diagnostics


@pytest.mark.parametrize("selector", [{"": "a"}, {"app": "*"}])
def test_a_selector_has_no_wildcards(selector: dict[str, str]) -> None:
    assert any("spec.selector" in one.field for one in parsed(GOOD, selector=selector).diagnostics)
