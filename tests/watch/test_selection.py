from __future__ import annotations

import pytest

from istiod.watch import kinds, selection
from tests.watch.cluster import KINDS


def chosen(text: str) -> selection.Selectors:
    return selection.selectors(text, ())


@pytest.mark.parametrize(
    ("expression", "labels", "expected"),
    [
        ("{key: env, operator: In, values: [prod]}", {"env": "prod"}, True),
        ("{key: env, operator: In, values: [prod]}", {}, False),
        ("{key: env, operator: NotIn, values: [prod]}", {}, True),
        ("{key: env, operator: NotIn, values: [prod]}", {"env": "prod"}, False),
        ("{key: env, operator: Exists}", {"env": ""}, True),
        ("{key: env, operator: DoesNotExist}", {"env": ""}, False),
        ("{key: env, operator: Near}", {"env": ""}, False),
    ],
)
def test_expressions_mean_what_they_mean_to_kubernetes(
    expression: str, labels: dict[str, str], *, expected: bool
) -> None:
    found = chosen(f"discoverySelectors: [{{matchExpressions: [{expression}]}}]")
    assert selection.selected(found, labels) is expected


def test_one_of_several_selectors_is_enough_and_none_selects_all() -> None:
    found = chosen("discoverySelectors: [{matchLabels: {a: b}}, {matchLabels: {c: d}}]")
    assert selection.selected(found, {"c": "d"})
    assert not selection.selected(found, {"e": "f"})
    assert selection.selected((), {})


@pytest.mark.parametrize("text", ["{", "- a", "discoverySelectors: 3"])
def test_what_cannot_be_read_leaves_the_selectors_of_before(text: str) -> None:
    before = chosen("discoverySelectors: [{matchLabels: {a: b}}]")
    assert selection.selectors(text, before) == before


@pytest.mark.parametrize("config_map", [None, {}, {"data": None}, {"data": {"mesh": "rootNamespace: a"}}])
def test_without_selectors_there_are_none(config_map: dict[str, object] | None) -> None:
    assert (
        selection.selectors(selection.text_of(config_map), chosen("discoverySelectors: [{matchLabels: {a: b}}]")) == ()
    )


def test_policies_and_what_the_mesh_is_made_of_are_never_optional() -> None:
    assert {name for name, kind in KINDS.items() if not kind.optional} == {
        "Namespace",
        "ConfigMap",
        "Service",
        "EndpointSlice",
        "Pod",
        "Node",
        "AuthorizationPolicy",
        "PeerAuthentication",
        "RequestAuthentication",
    }


def test_config_maps_are_watched_in_the_root_namespace_and_versions_are_tried_in_turn() -> None:
    (config_maps,) = (kind for kind in kinds.watched("mesh") if kind.kind == kinds.CONFIG_MAP)
    assert config_maps.resource().namespace == "mesh"
    rules = KINDS["VirtualService"]
    assert [rules.resource(attempt).version for attempt in range(4)] == ["v1", "v1beta1", "v1alpha3", "v1"]
    assert str(rules.resource()) == "virtualservices.networking.istio.io"
    assert str(KINDS["Pod"].resource()) == "pods"
