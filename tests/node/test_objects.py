"""Objects as documents: what a text holds, and what is wrong with the rest."""

from __future__ import annotations

import json

import pytest

from crds.diagnostic import Code
from crds.key import ConfigKey
from node import objects

TWO = """\
apiVersion: v1
kind: Service
metadata: {name: b}
---  # the next one
apiVersion: apps/v1
kind: Deployment
metadata:
  name: b
  namespace: shop
"""


def test_documents_have_names_namespaces_and_lines() -> None:
    documents, found = objects.read(TWO, "two.yaml", "demo")
    assert found == []
    assert [(str(objects.key_of(d.raw)), str(d.at())) for d in documents] == [
        ("Service/demo/b", "two.yaml:1"),
        ("Deployment/shop/b", "two.yaml:5"),
    ]
    assert objects.key_of(documents[1].raw).group == "apps"


def test_a_bad_document_costs_only_itself() -> None:
    text = "kind: [\n---\n" + TWO + "---\njust text\n---\n---\nkind: Pod\napiVersion: v1\nmetadata: {}\n"
    documents, found = objects.read(text, "f")
    assert len(documents) == 2
    assert [(d.code, d.position.line if d.position else 0) for d in found] == [
        (Code.UNREADABLE, 2),
        (Code.NOT_AN_OBJECT, 12),
        (Code.NOT_AN_OBJECT, 16),
    ]


@pytest.mark.parametrize(
    ("kind", "name", "namespace"),
    [("Pod", "../../etc", "d"), ("Pod", "a", "../.."), ("Pod/..", "a", "d"), ("Pod", "", "d"), ("Pod", ".", "d")],
)
def test_a_name_that_leads_out_of_our_folder_is_none(kind: str, name: str, namespace: str) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}})
    documents, found = objects.read(text, "a.yaml")
    assert (documents, [each.code for each in found]) == ([], [Code.NOT_AN_OBJECT])


def test_the_items_of_a_list_are_objects() -> None:
    text = "kind: List\napiVersion: v1\nitems: [{apiVersion: v1, kind: Namespace, metadata: {name: a}}]\n"
    documents, _ = objects.read(text, "f", "demo")
    assert [objects.key_of(d.raw) for d in documents] == [ConfigKey("", "Namespace", "", "a")]


def test_the_items_of_a_typed_list_have_its_kind() -> None:
    text = "kind: ServiceList\napiVersion: v1\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n- 1\n"
    documents, [finding] = objects.read(text, "f")
    assert [str(objects.key_of(d.raw)) for d in documents] == ["Service/default/a", "Service/default/b"]
    assert [str(d.at("spec")) for d in documents] == ["f:4", "f:5"]
    assert (finding.code, str(finding.position)) == (Code.NOT_AN_OBJECT, "f:6")


@pytest.mark.parametrize("value", ["12:30", "2026-02-30", "2026-02-28", "1_0:0"])
def test_values_are_read_as_kubectl_reads_them(value: str) -> None:
    [document], _ = objects.read(
        f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}, data: {{v: {value}}}}}", "f"
    )
    assert document.raw["data"] == {"v": value}


def test_a_key_that_stands_twice_is_an_error_as_it_is_to_kubectl() -> None:
    documents, [finding] = objects.read("apiVersion: v1\nkind: Pod\nkind: Service\nmetadata: {name: a}\n", "f")
    assert (documents, str(finding.position)) == ([], "f:3")


@pytest.mark.parametrize(
    ("word", "group", "kind"),
    [
        ("Deployment", "apps", "Deployment"),
        ("services", "", "Service"),
        ("VirtualService", "networking.istio.io", "VirtualService"),
        ("virtualservice", "networking.istio.io", "VirtualService"),
        ("gateway", "networking.istio.io", "Gateway"),
        ("PeerAuthentication", "security.istio.io", "PeerAuthentication"),
        ("telemetries", "telemetry.istio.io", "Telemetry"),
        ("Unheard", "networking.istio.io", "Unheard"),
    ],
)
def test_kinds_are_named_as_kubectl_takes_them(word: str, group: str, kind: str) -> None:
    assert objects.kind_of(word) == (group, kind)


def test_data_of_secrets_is_decoded() -> None:
    secret = {"kind": "Secret", "data": {"a": "YQ==", "bad": "*", "bin": "/w=="}, "stringData": {"b": "c"}}
    assert objects.data_of(secret) == {"a": "a", "b": "c"}
    assert objects.data_of({"kind": "ConfigMap", "data": {"a": 1}}) == {"a": "1"}


def test_a_selector_needs_all_its_labels_and_an_empty_one_chooses_nothing() -> None:
    assert objects.selects({"a": 1}, {"a": "1", "b": "2"})
    assert not objects.selects({"a": "1", "c": "3"}, {"a": "1"})
    assert not objects.selects({}, {"a": "1"})
