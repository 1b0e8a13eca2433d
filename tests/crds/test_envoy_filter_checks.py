"""EnvoyFilter: what the webhook refuses, as Istio's does."""

from __future__ import annotations

from typing import Any

import pytest

from crds import parse
from crds.diagnostic import Severity

HCM = "envoy.filters.network.http_connection_manager"
ADD = {"operation": "ADD", "value": {}}


def findings(*patches: dict[str, Any], **spec: Any) -> list[tuple[Severity, str]]:
    document = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"configPatches": list(patches), **spec},
    }
    return [
        (each.severity, each.field.removeprefix("spec.configPatches[0]")) for each in parse.parse(document).diagnostics
    ]


def filters(name: str, inside: str | None = None) -> dict[str, Any]:
    said: dict[str, Any] = {"name": name} if inside is None else {"name": name, "subFilter": {"name": inside}}
    return {"listener": {"filterChain": {"filter": said}}}


def test_a_selector_has_no_wildcards() -> None:
    said = {"workloadSelector": {"labels": {"app": "a*"}}}
    assert findings(**said) == [(Severity.ERROR, "spec.workloadSelector.labels.app")]


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"patch": ADD}, ".applyTo"),
        ({"applyTo": "CLUSTER"}, ".patch"),
        ({"applyTo": "CLUSTER", "patch": {"value": {}}}, ".patch.operation"),
        ({"applyTo": "CLUSTER", "patch": {"operation": "ADD"}}, ".patch.value"),
        ({"applyTo": "CLUSTER", "patch": ADD, "match": {"proxy": {"proxyVersion": "("}}}, ".match.proxy.proxyVersion"),
        ({"applyTo": "CLUSTER", "patch": ADD, "match": {"proxy": {"metadata": {"": "a"}}}}, ".match.proxy.metadata"),
        ({"applyTo": "CLUSTER", "patch": ADD, "match": {"listener": {}}}, ".match"),
        ({"applyTo": "HTTP_ROUTE", "patch": ADD, "match": {"cluster": {}}}, ".match"),
        ({"applyTo": "HTTP_FILTER", "patch": ADD, "match": {"cluster": {}}}, ".match"),
        ({"applyTo": "BOOTSTRAP", "patch": ADD, "match": {"cluster": {}, "listener": {}}}, ".match"),
        ({"applyTo": "HTTP_FILTER", "patch": ADD, "match": {"context": "WAYPOINT"}}, ".match.context"),
        ({"applyTo": "HTTP_FILTER", "patch": ADD, "match": {"waypoint": {}}}, ".match.context"),
        (
            {
                "applyTo": "HTTP_FILTER",
                "patch": ADD,
                "match": {"context": "WAYPOINT", "waypoint": {"portNumber": 65536}},
            },
            ".match.waypoint.portNumber",
        ),
        ({"applyTo": "NETWORK_FILTER", "patch": ADD, "match": filters("")}, ".match.listener.filterChain.filter.name"),
        (
            {"applyTo": "NETWORK_FILTER", "patch": ADD, "match": filters(HCM, "a")},
            ".match.listener.filterChain.filter.subFilter",
        ),
        (
            {"applyTo": "HTTP_FILTER", "patch": ADD, "match": filters("a", "b")},
            ".match.listener.filterChain.filter.name",
        ),
        (
            {"applyTo": "HTTP_FILTER", "patch": ADD, "match": filters(HCM, "")},
            ".match.listener.filterChain.filter.subFilter.name",
        ),
    ],
)
def test_patches_that_do_not_fit_together(patch: dict[str, Any], field: str) -> None:
    assert findings(patch) == [(Severity.ERROR, field)]


def test_a_filter_match_in_vain_is_a_warning() -> None:
    said = {"applyTo": "FILTER_CHAIN", "patch": ADD, "match": filters("a")}
    assert findings(said) == [(Severity.WARNING, ".match.listener.filterChain.filter")]


@pytest.mark.parametrize(
    "patch",
    [
        {"applyTo": "HTTP_FILTER", "patch": {"operation": "REMOVE"}, "match": filters(HCM, "a")},
        {"applyTo": "NETWORK_FILTER", "patch": ADD, "match": filters("a")},
        {"applyTo": "HTTP_FILTER", "patch": ADD, "match": {"context": "WAYPOINT", "waypoint": {"portNumber": 80}}},
        {"applyTo": "CLUSTER", "patch": ADD, "match": {"cluster": {}, "proxy": {"proxyVersion": "^1.*"}}},
        {"applyTo": "BOOTSTRAP", "patch": ADD},
    ],
)
def test_patches_that_fit(patch: dict[str, Any]) -> None:
    assert findings(patch) == []


def test_whom_it_is_for_is_said_once() -> None:
    refs = [{"kind": "Gateway", "name": "a"}]
    assert findings(workloadSelector={"labels": {}}, targetRefs=refs) == [(Severity.ERROR, "spec.targetRefs")]
