"""A second implementation of protobuf and of Envoy's API reads what we serve, and sees the same."""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import Any

import pytest

from istiod.config.resource import Resource
from istiod.envoy import cluster
from istiod.envoy.compiler import Compiler
from istiod.mesh.policy import RetryBudget, TrafficPolicy
from tests.envoy import made, rich
from tests.envoy.test_compiler import ENDPOINTS
from wire import names

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using `@model_validator`"),  # that library with the newest pydantic
    pytest.mark.filterwarnings(r"ignore:[A-Za-z]+\.[a-z_]+ is deprecated"),  # fields that Istio still sends
]
PACKAGES = {
    names.CLUSTER: ("config.cluster.v3", "Cluster"),
    names.ENDPOINT: ("config.endpoint.v3", "ClusterLoadAssignment"),
    names.LISTENER: ("config.listener.v3", "Listener"),
    names.ROUTE: ("config.route.v3", "RouteConfiguration"),
}
RESOURCES = Compiler().compile(rich.scope(), ENDPOINTS, made.VIEW)


def decoded(resource: Resource) -> Any:
    package, kind = PACKAGES[resource.type_url]
    module = importlib.import_module(f"envoy_data_plane.envoy.{package}")
    return getattr(module, kind).parse(made.body(resource).value)


@pytest.mark.parametrize("type_url", PACKAGES)
def test_the_other_implementation_reads_and_writes_the_same_message(type_url: str) -> None:
    for resource in RESOURCES.of(type_url):
        message = decoded(resource)
        name = message.cluster_name if type_url == names.ENDPOINT else message.name
        assert name == resource.name
        assert len(bytes(message)) == len(made.body(resource).value)


def test_a_field_that_our_messages_do_not_know_is_there() -> None:
    budget = RetryBudget(interval=timedelta(milliseconds=1500))
    found = decoded(cluster.compile(made.cluster(policy=TrafficPolicy(retry_budget=budget)), made.SETTINGS))
    said = found.circuit_breakers.thresholds[0].retry_budget
    assert (said.budget_interval, said.min_retry_concurrency) == (timedelta(milliseconds=1500), 3)
