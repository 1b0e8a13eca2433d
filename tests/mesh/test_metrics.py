"""What is different about a workload's metrics (Q4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from istiod.mesh.metrics import NAMES, NOTHING, Metrics, Override
from tests.mesh import fleet
from tests.mesh.test_access_logs import PROXY, WORLD
from tests.mesh.test_telemetry import ROOT, telemetry

MINE = {"extensionProviders": [{"name": "mine", "prometheus": {}}]}
OFF = tuple(Override(metric=name, disabled=True) for name in sorted(NAMES.values()))

NONE = Metrics(client=OFF, server=OFF)


def mesh(*objects: tuple[str, str], **said: Any) -> fleet.Mesh:
    texts = [
        telemetry(f"t{index}", home, tracing=[], metrics=yaml.safe_load(text))
        for index, (home, text) in enumerate(objects)
    ]
    return fleet.Mesh(*WORLD, fleet.mesh_config(json.dumps(said)), *texts)


def found(*objects: tuple[str, str], **said: Any) -> Metrics:
    scope = mesh(*objects, **said).scope(PROXY)
    assert scope.inbound is not None
    (own,) = {one.own for one in (*scope.outbound.listeners.values(), *scope.inbound.listeners.values())}
    return own.metrics


def test_without_a_word_all_metrics_are_there() -> None:
    assert found() is NOTHING
    assert found((ROOT, "[{providers: [{name: prometheus}]}]")) == NOTHING
    assert found((ROOT, "[{overrides: [{disabled: false}]}]")) == NOTHING


def test_metrics_are_switched_off_all_or_some_on_one_side_or_both() -> None:
    assert found((ROOT, "[{overrides: [{disabled: true}]}]")) == Metrics(client=OFF, server=OFF)
    some = "[{overrides: [{match: {metric: REQUEST_SIZE, mode: CLIENT}, disabled: true}]}]"
    assert found((ROOT, some)) == Metrics(client=(Override(metric="request_bytes", disabled=True),))
    every = (ROOT, "[{overrides: [{match: {metric: ALL_METRICS, mode: SERVER}, disabled: true}]}]")
    back = ("default", "[{overrides: [{match: {customMetric: istio_requests_total}, disabled: false}]}]")
    left = tuple(one for one in OFF if one.metric != "requests_total")
    assert found(every, back) == Metrics(server=left)


def test_labels_are_set_and_left_out_and_later_words_win() -> None:
    first = "{a: {value: request.host}, b: {operation: REMOVE}, c: {value: \"'x'\"}}"
    said = (
        (ROOT, f"[{{overrides: [{{match: {{metric: REQUEST_COUNT}}, tagOverrides: {first}}}]}}]"),
        ("default", "[{overrides: [{match: {metric: REQUEST_COUNT, mode: SERVER}, tagOverrides: {c: {value: '1'}}}]}]"),
    )
    tags = {"a": "request.host", "b": None, "c": "'x'"}
    client = Override(metric="requests_total", tags=tuple(tags.items()))
    server = Override(metric="requests_total", tags=tuple({**tags, "c": "1"}.items()))
    assert found(*said) == Metrics(client=(client,), server=(server,))


@pytest.mark.parametrize(
    ("objects", "said", "wanted"),
    [
        (((ROOT, "[{providers: [{name: other}]}]"),), {}, NONE),
        (((ROOT, "[{providers: [{name: other}]}]"), ("default", "[{providers: [{name: prometheus}]}]")), {}, NOTHING),
        (
            ((ROOT, "[{providers: [{name: mine}]}]"),),
            {"extensionProviders": [{"name": "mine", "prometheus": {}}]},
            NOTHING,
        ),
        ((), {"defaultProviders": {"metrics": ["stackdriver"]}}, NONE),
        ((), {"defaultProviders": {"metrics": ["prometheus"]}}, NOTHING),
        (
            (),
            {
                "defaultProviders": {"metrics": ["prometheus"]},
                "extensionProviders": [{"name": "prometheus", "stackdriver": {}}],
            },
            NONE,
        ),
    ],
)
def test_without_prometheus_among_its_providers_a_workload_has_none(
    objects: tuple[tuple[str, str], ...], said: dict[str, Any], wanted: Metrics
) -> None:
    assert found(*objects, **said) == wanted


def test_overrides_for_other_providers_do_not_count() -> None:
    off = "{providers: [{name: other}], overrides: [{disabled: true}]}"
    assert found((ROOT, f"[{off}, {{providers: [{{name: prometheus}}]}}]")) == NOTHING


def test_what_has_no_effect_is_told() -> None:
    tags = "{tagOverrides: {a: {value: y}, istio-peer: {value: y}}}"
    overrides = f"[{{match: {{customMetric: x}}}}, {{match: {{metric: GRPC_REQUEST_MESSAGES}}}}, {tags}]"
    world = mesh((ROOT, f"[{{reportingInterval: 5s, providers: [{{name: other}}], overrides: {overrides}}}]"))
    assert sorted(one for one in world.told() if one[1] == "t0") == [
        ("NOT_SUPPORTED", "t0", "spec.metrics[0].overrides[0].match.customMetric"),
        ("NOT_SUPPORTED", "t0", "spec.metrics[0].overrides[1].match.metric"),
        ("NOT_SUPPORTED", "t0", "spec.metrics[0].overrides[2].tagOverrides.istio-peer"),
        ("NOT_SUPPORTED", "t0", "spec.metrics[0].reportingInterval"),
        ("UNKNOWN_ATTRIBUTE", "t0", "spec.metrics[0].overrides[2].tagOverrides.a"),
        ("UNKNOWN_ATTRIBUTE", "t0", "spec.metrics[0].overrides[2].tagOverrides.istio-peer"),
        ("UNKNOWN_LOG_PROVIDER", "t0", "spec.metrics[0].providers[0].name"),
    ]
