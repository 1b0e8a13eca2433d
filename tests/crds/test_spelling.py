"""Fields that are spelled as other tools spell them, or wrongly, are told with the name that they have."""

from __future__ import annotations

import pytest

from crds import text
from crds.diagnostic import Code
from crds.parse import parse

TO = "route: [{destination: {host: b}}]"


@pytest.mark.parametrize(
    ("group", "kind", "end"),
    [
        ("networking.istio.io", "VirtualServices", "VirtualService"),
        ("networking.istio.io", "virtualservice", "VirtualService"),
        ("security.istio.io", "VirtualService", "apiVersion networking.istio.io/v1"),
        ("networking.isto.io", "DestinationRule", "apiVersion networking.istio.io/v1"),
        ("networking.istio.io", "Envoyfilters", "EnvoyFilter"),
        ("authentication.istio.io", "Policy", ""),
        ("serving.knative.dev", "Service", ""),
        ("example.com", "VirtualServices", ""),
    ],
)
def test_a_kind_is_told_with_the_name_or_version_that_was_meant(group: str, kind: str, end: str) -> None:
    [finding] = parse({"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "a"}}).diagnostics
    more = f"; did you mean {end}?" if end else ""
    assert finding.message == f"{kind} of group {group} is not known here{more}"


@pytest.mark.parametrize(
    ("kind", "spec", "end"),
    [
        (
            "VirtualService",
            f"{{hosts: [a], http: [{{{TO}, retries: {{attempts: 1, per_try_timeout: 1s}}}}]}}",
            "perTryTimeout",
        ),
        ("VirtualService", f"{{hosts: [a], http: [{{{TO}, timeOut: 1s}}]}}", "timeout"),
        ("VirtualService", f"{{hosts: [a], http: [{{{TO}, match: [{{uri: {{prefx: /, exact: /}}}}]}}]}}", "prefix"),
        (
            "VirtualService",
            f"{{hosts: [a], http: [{{{TO}, match: [{{headers: {{x: {{Exact: b, exact: b}}}}}}]}}]}}",
            "exact",
        ),
        ("DestinationRule", "{host: a, traficPolicy: {}}", "trafficPolicy"),
        (
            "DestinationRule",
            "{host: a, trafficPolicy: {connectionPool: {http: {http1MaxPendingRequest: 1}}}}",
            "http1MaxPendingRequests",
        ),
        ("Gateway", "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [a], tsl: {}}]}", "tls"),
        ("Sidecar", "{egress: [{hosts: ['./*']}], somethingElse: 1}", ""),
    ],
)
def test_a_field_is_told_with_the_name_that_was_meant(kind: str, spec: str, end: str) -> None:
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": "a"},
        "spec": text.load(spec),
    }
    [finding] = [each for each in parse(document).diagnostics if each.code is Code.UNKNOWN_FIELD]
    assert finding.message == "unknown field; it has no effect" + (f"; did you mean {end}?" if end else "")
