from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from crds import core, parse, registry
from crds.diagnostic import Code, Severity
from crds.key import NETWORKING, SECURITY, ConfigKey
from crds.mesh_config import MeshConfig
from crds.meta import ObjectMeta
from crds.virtual_service import VirtualService

VERSION = f"{NETWORKING}/v1"


def document(kind: str = "VirtualService", version: str = VERSION, **rest: object) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "n"}, **rest}


def service(**metadata: object) -> Mapping[str, object]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", **metadata}}


def test_an_object_comes_with_its_fields_and_no_findings() -> None:
    route = {"route": [{"destination": {"host": "b"}}], "timeout": "3s"}
    parsed = parse.parse(document(spec={"hosts": ["b"], "http": [route]}))
    assert isinstance(parsed.object, VirtualService)
    assert parsed.diagnostics == ()
    assert parsed.key == parsed.object.key == ConfigKey(NETWORKING, "VirtualService", "n", "a")
    assert parsed.object.spec.http[0].timeout == timedelta(seconds=3)


def test_unknown_fields_are_warnings_with_their_path_and_do_no_harm() -> None:
    route = {"route": [{"destination": {"host": "b"}}], "matchh": [1], "retries": {"x.y": 1}}
    parsed = parse.parse(document(spec={"hosts": ["b"], "http": [route], "extra": None}))
    assert sorted(d.field for d in parsed.diagnostics) == ["spec.http[0].matchh", 'spec.http[0].retries["x.y"]']
    assert {(d.code, d.severity) for d in parsed.diagnostics} == {(Code.UNKNOWN_FIELD, Severity.WARNING)}
    assert isinstance(parsed.object, VirtualService)
    assert parsed.object.spec.http[0].route[0].destination is not None


def test_nulls_are_as_if_they_were_not_there() -> None:
    parsed = parse.parse(service(labels=None, annotations={"a": None, "b": "c"}))
    assert isinstance(parsed.object, core.Service)
    assert parsed.object.metadata.annotations == {"b": "c"}
    assert parsed.diagnostics == ()


@pytest.mark.parametrize(
    ("metadata", "field", "words"),
    [
        ({"labels": {"version": 1}}, "metadata.labels.version", "must be a valid string, not 1"),
        ({"labels": {"app.x/y": True}}, 'metadata.labels["app.x/y"]', "not true"),
        ({"labels": ["a"]}, "metadata.labels", "must be an object, not a list"),
        ({"ownerReferences": "a"}, "metadata.ownerReferences", "must be a list, not 'a'"),
        ({"annotations": {"a": {}}}, "metadata.annotations.a", "not an object"),
        ({"creationTimestamp": "x" * 100}, "metadata.creationTimestamp", "..."),
    ],
)
def test_values_of_a_wrong_type_reject_the_object(metadata: dict[str, object], field: str, words: str) -> None:
    parsed = parse.parse(service(**metadata))
    assert parsed.object is None
    assert parsed.key == ConfigKey("", "Service", "default", "a")
    assert [(d.code, d.severity, d.field) for d in parsed.diagnostics] == [(Code.BAD_VALUE, Severity.ERROR, field)]
    assert words in parsed.diagnostics[0].message


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"http": [{"timeout": "soon"}]}, "spec.http[0].timeout", "no duration"),
        ({"http": [{"timeout": 3}]}, "spec.http[0].timeout", "a duration is a string"),
        ({"http": [{"route": [{"weight": "80"}]}]}, "spec.http[0].route[0].weight", "valid integer, not '80'"),
        ({"http": [{"match": [{"ignoreUriCase": "yes"}]}]}, "spec.http[0].match[0].ignoreUriCase", "not 'yes'"),
        ({"hosts": "b"}, "spec.hosts", "not 'b'"),
    ],
)
def test_findings_name_the_field_and_the_value(spec: dict[str, object], field: str, words: str) -> None:
    parsed = parse.parse(document(spec=spec))
    assert parsed.object is None
    assert parsed.diagnostics[0].field == field
    assert words in parsed.diagnostics[0].message


def test_snake_case_is_unknown_in_objects_as_it_is_to_an_api_server() -> None:
    parsed = parse.parse(document(spec={"hosts": ["b"], "export_to": ["*"], "tcp": [{"route": [_to("b")]}]}))
    assert [d.field for d in parsed.diagnostics] == ["spec.export_to"]
    assert parsed.object is not None


def _to(host: str) -> dict[str, object]:
    return {"destination": {"host": host}}


def test_secrets_do_not_leak_into_findings() -> None:
    parsed = parse.parse({**service(), "kind": "Secret", "data": {"password": 12345}})
    assert "12345" not in str(parsed.diagnostics[0])
    assert "hunter2" not in repr(
        core.Secret(api_version="v1", kind="Secret", metadata=ObjectMeta(), data={"a": "hunter2"})
    )


def test_keys_of_mappings_are_checked() -> None:
    spec = {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"http": {"mode": "STRICT"}}}
    parsed = parse.parse(document("PeerAuthentication", f"{SECURITY}/v1", spec=spec))
    assert [d.field for d in parsed.diagnostics] == ["spec.portLevelMtls.http"]
    spec["portLevelMtls"] = {"8080": {"mode": "STRICT"}, 9090: {}}
    assert parse.parse(document("PeerAuthentication", f"{SECURITY}/v1", spec=spec)).diagnostics == ()


def test_findings_of_one_object_are_bounded() -> None:
    parsed = parse.parse(service(labels={f"l{number}": number for number in range(80)}))
    assert len(parsed.diagnostics) == 51
    assert parsed.diagnostics[-1].message == "and 30 more findings in this object"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "apiVersion"),
        ({"apiVersion": 1, "kind": "Service", "metadata": {"name": "a"}}, "apiVersion"),
        ({"apiVersion": "v1", "metadata": {"name": "a"}}, "kind"),
        ({"apiVersion": "v1", "kind": "Service", "metadata": {}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "Service", "metadata": "a"}, "metadata.name"),
    ],
)
def test_what_names_no_object_is_said_to_be_none(value: dict[str, object], field: str) -> None:
    parsed = parse.parse(value)
    assert (parsed.key, parsed.object) == (None, None)
    assert [(d.code, d.field) for d in parsed.diagnostics] == [(Code.NOT_AN_OBJECT, field)]


@pytest.mark.parametrize(
    "metadata", [{"name": "A b"}, {"name": "../x"}, {"name": "a", "namespace": "N/m"}, {"name": "a", "namespace": 3}]
)
def test_names_are_names(metadata: dict[str, object]) -> None:
    parsed = parse.parse({"apiVersion": "v1", "kind": "Service", "metadata": metadata})
    assert [d.code for d in parsed.diagnostics] == [Code.BAD_VALUE]


def test_cluster_scoped_objects_have_no_namespace_and_others_a_default() -> None:
    node = parse.parse({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "namespace": "n"}})
    assert node.key == ConfigKey("", "Node", "", "a")
    assert node.object is not None
    assert node.object.key == node.key
    assert parse.parse(service()).key == ConfigKey("", "Service", "default", "a")
    assert parse.parse(service(namespace=None)).key == ConfigKey("", "Service", "default", "a")


@pytest.mark.parametrize(
    ("kind", "version", "code"),
    [
        ("IstioOperator", "install.istio.io/v1alpha1", Code.NOT_SUPPORTED),
        ("HTTPRoute", "gateway.networking.k8s.io/v1", Code.NOT_SUPPORTED),
        ("VirtualService", f"{NETWORKING}/v9", Code.UNKNOWN_KIND),
        ("Application", "argoproj.io/v1", Code.UNKNOWN_KIND),
        ("Nonsense", "gateway.networking.k8s.io/v1", Code.UNKNOWN_KIND),
        ("ClusterRole", "rbac.authorization.k8s.io/v1", None),
        ("PersistentVolume", "v1", None),
        ("HorizontalPodAutoscaler", "autoscaling/v2", None),
    ],
)
def test_kinds_without_effect_are_said_to_have_none(kind: str, version: str, code: Code | None) -> None:
    parsed = parse.parse(document(kind, version))
    assert parsed.object is None
    assert [d.code for d in parsed.diagnostics] == ([code] if code else [])
    assert all(d.severity is Severity.WARNING for d in parsed.diagnostics)


def test_every_kind_that_is_read_has_a_model_of_that_name() -> None:
    for (group, kind), info in registry.KINDS.items():
        assert (info.group, info.kind) == (group, kind)
        assert info.model is not None or info.effect is not registry.Effect.READ
        assert info.model is None or info.model.__name__ == kind


def test_mesh_settings_take_both_spellings_of_a_name() -> None:
    given = {"mesh_mtls": {"minProtocolVersion": "TLSV1_3"}, "enableAutoMtls": False, "nonsense": 1}
    config, findings = parse.part(MeshConfig, given, None)
    assert config is not None
    assert config.mesh_mtls is not None
    assert config.enable_auto_mtls is False
    assert [d.field for d in findings] == ["nonsense"]
    config, findings = parse.part(MeshConfig, {"connectTimeout": 3}, None)
    assert config is None
    assert [d.code for d in findings] == [Code.BAD_VALUE]


def test_what_an_api_server_counts_makes_no_object_different() -> None:
    first = parse.parse(service(resourceVersion="1", generation=1, uid="x", managedFields=[{"a": 1}])).object
    second = parse.parse(service(resourceVersion="2", generation=2, uid="y", selfLink="/z")).object
    assert first is not None
    assert first == second
    assert first.metadata.uid == "x"
    assert hash(first.metadata) == hash(second.metadata if second else None)
    assert first != parse.parse(service(labels={"a": "b"})).object
    assert first.metadata != "a"


def test_ports_may_be_names_or_numbers_and_nothing_else() -> None:
    def target(value: object) -> parse.Parsed:
        return parse.parse({**service(), "spec": {"ports": [{"port": 80, "targetPort": value}]}})

    for value in ("http", 8080):
        found = target(value).object
        assert isinstance(found, core.Service)
        assert found.spec.ports[0].target_port == value
    assert target(True).diagnostics[0].field == "spec.ports[0].targetPort"  # noqa: FBT003 (a value, no flag)


@pytest.mark.parametrize(
    ("fields", "stem"),
    [
        ({"metadata": {"name": "a"}}, None),
        ({"metadata": {"name": 1}}, None),
        ({"metadata": {}}, "unnamed-service-"),
        ({"metadata": {"name": "", "generateName": 1}}, "unnamed-service-"),
        ({}, "unnamed-service-"),
        ({"metadata": {"name": None, "generateName": "web-"}}, "web-"),
        ({"kind": 1}, None),
        ({"apiVersion": ""}, None),
    ],
)
def test_an_object_without_a_name_says_how_one_may_begin(fields: dict[str, object], stem: str | None) -> None:
    assert parse.name_stem({"apiVersion": "v1", "kind": "Service", **fields}) == stem


def test_an_object_may_be_given_a_name_and_says_so() -> None:
    parsed = parse.parse({"apiVersion": "v1", "kind": "Service"}, "given")
    assert parsed.object is not None
    assert parsed.object.key == ConfigKey("", "Service", "default", "given")
    assert [(d.code, d.field, d.severity) for d in parsed.diagnostics] == [
        (Code.MISSING_FIELD, "metadata", Severity.WARNING)
    ]
    assert parse.parse({"apiVersion": "v1", "kind": "Lease"}, "given") == parse.Parsed()
