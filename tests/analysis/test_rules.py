"""Rules of single analyzers that the corpus does not touch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from istiod.analysis import analyzers, networks, resources, selectors
from istiod.analysis.resources import Collection
from tests.analysis import samples


@pytest.mark.parametrize(
    ("operator", "values", "labels", "holds"),
    [
        ("In", ["a"], {"k": "a"}, True),
        ("In", ["a"], {}, False),
        ("NotIn", ["a"], {}, True),
        ("NotIn", ["a"], {"k": "a"}, False),
        ("Exists", [], {"k": ""}, True),
        ("Exists", [], {}, False),
        ("DoesNotExist", [], {}, True),
        ("DoesNotExist", [], {"k": ""}, False),
        ("Other", [], {"k": ""}, False),
    ],
)
def test_expressions_of_selectors(operator: str, values: list[str], labels: dict[str, str], holds: bool) -> None:  # noqa: FBT001 (a case)
    selector = {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}
    assert selectors.matches(selector, labels) is holds


def routes(kind: str, rules: str) -> str:
    return f"""
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {{name: r, namespace: shop}}
    spec: {{hosts: [reviews], {kind}: {rules}}}
    """


@pytest.mark.parametrize(
    ("kind", "rules", "codes"),
    [
        ("http", "[{match: [{uri: {exact: /a}}]}, {match: [{uri: {exact: /a}, name: x}]}]", ["IST0130", "IST0131"]),
        ("http", "[{name: all}, {name: never}]", ["IST0130"]),
        ("http", "[{name: all}, {match: [{uri: {exact: /a}}]}]", ["IST0130"]),
        ("http", "[{match: [{uri: {exact: /a}}, {uri: {exact: /a}}]}]", ["IST0131"]),
        ("tcp", "[{match: [{port: 1}]}, {match: [{port: 1}, {port: 2}]}]", ["IST0131"]),
        ("http", "[{match: [{uri: {prefix: /a}}]}, {match: [{uri: {prefix: /a/b}, port: 1}]}]", []),
        ("http", "[{match: [{uri: {prefix: /a}}]}, {match: [{uri: {prefix: /a/b}}]}]", ["IST0131"]),
    ],
)
def test_rules_of_one_object_that_are_never_used(kind: str, rules: str, codes: list[str]) -> None:
    found = {each.type.code for each in samples.analyse(samples.MESH, routes(kind, rules))}
    assert sorted(found & {"IST0130", "IST0131"}) == codes


@pytest.mark.parametrize(
    ("kind", "annotation", "codes"),
    [
        ("Service", "traffic.istio.io/nodeSelector", []),
        ("Pod", "traffic.istio.io/nodeSelector", ["IST0107"]),
        ("Pod", "sidecar.istio.io/extraStatTags", ["IST0135"]),
        ("Pod", "traffic.sidecar.istio.io/kubevirtInterfaces", ["IST0135"]),
        ("Pod", "traffic.sidecar.istio.io/excludeOutboundPorts", []),
        ("Service", "traffic.sidecar.istio.io/excludeOutboundPorts", ["IST0107"]),
    ],
)
def test_annotations_are_known_in_place_and_not_outdated(kind: str, annotation: str, codes: list[str]) -> None:
    said = (
        f"{{apiVersion: v1, kind: {kind}, metadata: {{name: a, namespace: shop, annotations: {{{annotation}: '1'}}}}}}"
    )
    found = {each.type.code for each in samples.analyse(samples.MESH, said)}
    assert sorted(found & {"IST0107", "IST0108", "IST0135"}) == codes


def test_an_unknown_registry_of_a_network_is_found() -> None:
    said = {"networks": {"far": {"endpoints": [{"fromRegistry": "gone"}, {"fromRegistry": "Kubernetes"}]}}}
    (one,) = analyzers.run([networks.ANALYZER], Collection([], networks=said))
    assert (
        str(one)
        == "Error [IST0126] (MeshNetworks istio-system/meshnetworks) Unknown service registry gone in network far"
    )


def telemetry(spec: dict[str, Any]) -> str:
    named = {"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "t", "namespace": "shop"}}
    return json.dumps({**named, "spec": spec})


def test_telemetry_with_a_provider_that_is_gone_or_for_no_pod() -> None:
    mesh: dict[str, object] = {"extensionProviders": [{"name": "light", "lightstep": {"service": "x"}}]}
    text = telemetry({"tracing": [{"providers": [{"name": "light"}]}], "selector": {"matchLabels": {"app": "gone"}}})
    assert samples.said(samples.MESH, text, mesh=mesh) == [
        ("IST0101", "Telemetry shop/t"),
        ("IST0002", "Telemetry shop/t"),
    ]


def test_sidecars_of_ambient_namespaces_have_no_impact() -> None:
    ambient = samples.MESH.replace("istio-injection: enabled", "istio.io/dataplane-mode: ambient")
    sidecar = """
    apiVersion: networking.istio.io/v1
    kind: Sidecar
    metadata: {name: s, namespace: shop}
    spec: {egress: [{hosts: [./*]}]}
    """
    assert samples.said(ambient, sidecar) == [("IST0167", "Sidecar shop/s")]
    assert samples.said(samples.MESH, sidecar, sidecar.replace("name: s", "name: z")) == [
        ("IST0111", "Sidecar shop/s"),
        ("IST0111", "Sidecar shop/z"),
        ("M0110", "Sidecar shop/z"),
    ]


def test_namespaces_may_be_injected_by_default() -> None:
    values = json.dumps({"sidecarInjectorWebhook": {"enableNamespacesByDefault": True}})
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio-sidecar-injector", "namespace": "istio-system"},
        "data": {"values": values},
    }
    bare = samples.MESH.replace(", labels: {istio-injection: enabled}", "")
    assert "IST0148" in [each.type.code for each in samples.analyse(bare, json.dumps(config_map))]
    assert "IST0102" in [each.type.code for each in samples.analyse(bare)]


def test_a_pod_that_missed_its_sidecar_is_found_and_one_that_does_not_want_it_is_not() -> None:
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {},
    }
    assert ("IST0103", "Pod shop/p") in samples.said(samples.MESH, json.dumps(pod))
    pod["metadata"] = {**pod["metadata"], "labels": {"sidecar.istio.io/inject": "false"}}
    assert ("IST0103", "Pod shop/p") not in samples.said(samples.MESH, json.dumps(pod))


def test_an_object_of_a_list_is_shown_on_its_own_line() -> None:
    read = resources.resource({"kind": "Pod"})
    assert read is None
    text = """
    apiVersion: v1
    kind: List
    items:
    - apiVersion: networking.istio.io/v1
      kind: DestinationRule
      metadata: {name: d}
      spec:
        host: gone
    """
    assert [each.reference for each in samples.analyse(text)] == ["0.yaml:5"]
