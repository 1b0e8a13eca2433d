"""A second implementation of protobuf and of Envoy's API reads what we serve, and sees the same."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from istiod.config.resource import Resource
from istiod.envoy.compiler import Compiler
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
