"""What a proxy is sent instead of another network's endpoints."""

from __future__ import annotations

from dataclasses import replace

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2

from istiod.envoy import endpoint
from istiod.envoy.assignments import relevant
from istiod.mesh.endpoint import Crossing, Endpoint, Health, Query, View
from tests.envoy import made
from wire.node import Locality

FAR = Locality(region="r2")
TWO = (("n2", (("192.0.2.1", 15443), ("192.0.2.2", 15443))), ("n3", (("192.0.2.3", 443),)))
VIEW = replace(made.VIEW, network="n1", gateways=TWO)
AT_ONE = made.endpoint("10.0.0.1", network="n1", weight=3)
AT_TWO = (
    made.endpoint("10.2.0.1", network="n2", weight=2),
    made.endpoint("10.2.0.2", network="n2"),
    made.endpoint("10.2.0.3", network="n2", tls=False, weight=7),
    made.endpoint("10.2.0.4", network="n2", health=Health.DRAINING, weight=7),
)


def sent(found: tuple[Endpoint, ...], view: View = VIEW, query: Query | None = None) -> list[tuple[str, int, int]]:
    """Address, port and weight of all that is sent."""
    asked = query or made.query()
    resource = endpoint.compile(asked, found, relevant(asked, view))
    groups = made.parsed(resource, endpoint_pb2.ClusterLoadAssignment).endpoints
    return [
        (one.endpoint.address.socket_address.address, one.endpoint.address.socket_address.port_value, weight)
        for group in groups
        for one in group.lb_endpoints
        if (weight := one.load_balancing_weight.value)
    ]


def test_gateways_have_the_weight_of_who_is_behind_them() -> None:
    assert sent((AT_ONE, *AT_TWO)) == [("10.0.0.1", 9080, 6), ("192.0.2.1", 15443, 3), ("192.0.2.2", 15443, 3)]


@pytest.mark.parametrize(("crossing", "count"), [(Crossing.NEVER, 0), (Crossing.BY_SIDECAR, 3), (Crossing.ALWAYS, 10)])
def test_only_mesh_mtls_crosses(crossing: Crossing, count: int) -> None:
    assert sum(weight for _, _, weight in sent(AT_TWO, query=made.query(crossing=crossing))) == 2 * count


def test_each_locality_has_its_gateways() -> None:
    found = (made.endpoint("10.3.0.1", network="n3"), made.endpoint("10.3.0.2", network="n3", locality=FAR))
    resource = endpoint.compile(made.query(), found, VIEW)
    groups = made.parsed(resource, endpoint_pb2.ClusterLoadAssignment).endpoints
    assert [(group.locality.region, group.load_balancing_weight.value) for group in groups] == [("", 2), ("r2", 2)]


@pytest.mark.parametrize(
    "view", [replace(VIEW, network="n2"), replace(VIEW, network=""), replace(VIEW, gateways=()), made.VIEW]
)
def test_what_is_near_is_called_directly(view: View) -> None:
    assert [address for address, _, _ in sent(AT_TWO[:2], view)] == ["10.2.0.1", "10.2.0.2"]


def test_a_network_without_gateways_is_called_directly() -> None:
    assert sent((made.endpoint("10.4.0.1", network="n4"),)) == [("10.4.0.1", 9080, 2)]


def test_who_has_no_address_is_reached_by_a_gateway_only() -> None:
    nowhere = made.endpoint("", network="n3")
    assert sent((nowhere,)) == [("192.0.2.3", 443, 2)]
    for view in (replace(VIEW, network="n3"), made.VIEW):
        assert sent((nowhere,), view) == []
