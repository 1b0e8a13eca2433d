"""Variables that the agent sets for tracers."""

from __future__ import annotations

import pytest

from wire import telemetry


@pytest.mark.parametrize(
    ("said", "attributes", "datadog"),
    [
        ({}, "service.name=web.default", "web.default"),
        ({"DD_SERVICE": "mine"}, "service.name=web.default", "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b, c=d"}, "a=b,c=d,service.name=web.default", "web.default"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine"}, "service.name=mine", "web.default"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "nonsense,a=,=b,a=b=c"}, "service.name=web.default", "web.default"),
    ],
)
def test_tracers_know_a_proxys_name(said: dict[str, str], attributes: str, datadog: str) -> None:
    assert telemetry.service("web.default", said) == {
        "OTEL_RESOURCE_ATTRIBUTES": attributes,
        "DD_SERVICE": datadog,
    }


def test_a_name_breaks_no_list() -> None:
    assert telemetry.service("a,b=c", {})["OTEL_RESOURCE_ATTRIBUTES"] == "service.name=a-b-c"


def test_the_mesh_has_a_name_too() -> None:
    assert telemetry.environment({"MESH_ID": "m1"})["OWN_MESH"] == "m1"
    assert telemetry.environment({})["OWN_MESH"] == "unknown"
