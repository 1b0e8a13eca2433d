"""What a real API server takes and refuses by the CustomResourceDefinitions alone, compared with Istio's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness.controlplane import Cluster
from tests import samples
from tests.kube_api import Api, connect

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / os.environ.get("CONFORMANCE", "../shared/conformance") / "validation" / "cases"
ELSEWHERE = {
    "schema/serviceentry-valid-00-full.json": "an address of it was read as an object, which no schema takes",
    "Gateway/r0059-TestValidateTlsOptions__mutual_sds_with_credential_name_and_tls_certs.json": (
        "its webhook refuses credentialName beside tlsCertificates; our schema does so already"
    ),
}


@pytest.fixture(scope="module")
def api(apiserver: Cluster) -> Iterator[Api]:
    apiserver.kubectl("apply", "-f", str(ROOT / "crds"))
    apiserver.kubectl("wait", "--for=condition=Established", "crd", "-l", "app=istio-pilot", "--timeout=60s")
    with connect(apiserver) as connected:
        yield connected


def documents(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, object) of all YAML files; files that are no plain YAML (Helm templates) are left out."""
    for file in sorted(folder.rglob("*.yaml")):
        try:
            found = list(yaml.safe_load_all(file.read_text()))
        except yaml.YAMLError:
            assert "{{" in file.read_text(), file
            continue
        for document in found:
            if isinstance(document, dict) and document.get("apiVersion") and document.get("kind"):
                for item in document["items"] if document["kind"] == "List" else [document]:
                    yield str(file.relative_to(folder)), item


@pytest.mark.skipif(not CASES.is_dir(), reason="no validation/cases below CONFORMANCE")
def test_it_admits_what_istios_definitions_admit(api: Api) -> None:
    different = {}
    for file in sorted(CASES.glob("*/*.json")):
        case = json.loads(file.read_text())
        refusal = api.refusal(yaml.safe_load(case["object_yaml"]), strict=case["crd_valid"])
        if (refusal == "") != case["crd_valid"]:
            different[str(file.relative_to(CASES))] = refusal

    assert set(different) == set(ELSEWHERE), different


@pytest.mark.parametrize("folder", [samples.FOLDER, ROOT / "examples"], ids=["samples", "examples"])
def test_no_field_of_anybodys_yaml_is_cut_off(api: Api, folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip("no samples below CONFORMANCE")
    refused, seen = {}, 0
    for where, document in documents(folder):
        if api.served(document["apiVersion"], document["kind"]) is None:
            assert not document["apiVersion"].split("/")[0].endswith((".istio.io",)) or (
                document["kind"] == "IstioOperator"
            ), where
            continue
        refusal, seen = api.refusal(document), seen + 1
        is_istios = ".istio.io/" in document["apiVersion"]
        if refusal and (is_istios or "strict decoding error" in refusal):
            refused[where, document["kind"], document["metadata"]["name"]] = refusal

    assert refused == {}
    assert seen > 10


@pytest.mark.parametrize(
    ("kind", "spec", "says"),
    [
        (
            "VirtualService",
            {"http": [{"match": [{"uri": {"exact": "/a", "prefix": "/b"}}]}]},
            "spec.http[0].match[0].uri",
        ),
        ("VirtualService", {"http": [{"timeout": "5"}]}, "spec.http[0].timeout"),
        ("VirtualService", {"http": [{"retries": {"attempts": "3"}}]}, "spec.http[0].retries.attempts"),
        ("DestinationRule", {}, "spec.host"),
        ("ServiceEntry", {"hosts": ["*"]}, "a host cannot be *"),
        ("PeerAuthentication", {"portLevelMtls": {"99999": {"mode": "STRICT"}}}, "keys must be ports"),
    ],
)
def test_a_mistake_is_refused_with_its_field(api: Api, kind: str, spec: Mapping[str, Any], says: str) -> None:
    group = "security" if kind == "PeerAuthentication" else "networking"
    document = {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}

    assert says in api.refusal(document)


def test_a_misspelt_field_is_named(api: Api) -> None:
    spec = {"hosts": ["a"], "htp": []}
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "x"},
        "spec": spec,
    }

    assert 'unknown field "spec.htp"' in api.refusal(document)


def test_get_shows_the_columns_that_users_know(api: Api, apiserver: Cluster, namespace: str) -> None:
    spec = {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]}
    document = {"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "spec": spec}
    assert api.refusal({**document, "metadata": {"name": "reviews"}}) == ""
    apiserver.apply(json.dumps({**document, "metadata": {"name": "reviews"}}), namespace)

    head, row = apiserver.kubectl("get", "vs", "-n", namespace).strip().splitlines()

    assert head.split() == ["NAME", "GATEWAYS", "HOSTS", "AGE"]
    assert row.split()[:2] == ["reviews", '["reviews"]']
    assert "reviews" in apiserver.kubectl("get", "istio-io", "-n", namespace, "-o", "name")
