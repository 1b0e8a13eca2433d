"""What a proxy is sent instead of another network's endpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from istiod.envoy import endpoint
from istiod.envoy.assignments import relevant
from istiod.mesh import context
from istiod.mesh.endpoint import Crossing, Endpoint, Health, Query, View
from istiod.mesh.networks import Gateways
from tests.envoy import made
from tests.mesh import fleet
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
    assert [(group.locality.region, group.load_balancing_weight.value) for group in groups] == [("", 1), ("r2", 1)]


@pytest.mark.parametrize(
    "view", [replace(VIEW, network="n2"), replace(VIEW, network=""), replace(VIEW, gateways=()), made.VIEW]
)
def test_what_is_near_is_called_directly(view: View) -> None:
    assert [address for address, _, _ in sent(AT_TWO[:2], view)] == ["10.2.0.1", "10.2.0.2"]


def test_a_network_without_gateways_is_called_directly() -> None:
    assert sent((made.endpoint("10.4.0.1", network="n4"),)) == [("10.4.0.1", 9080, 1)]


def test_who_has_no_address_is_reached_by_a_gateway_only() -> None:
    nowhere = made.endpoint("", network="n3")
    assert sent((nowhere,)) == [("192.0.2.3", 443, 1)]
    for view in (replace(VIEW, network="n3"), made.VIEW):
        assert sent((nowhere,), view) == []


COUNTS = (101, 97, 89, 83, 79, 73)


def doors(counts: Sequence[int]) -> Gateways:
    return tuple((f"f{i}", tuple((f"198.51.{i}.{n}", 15443) for n in range(count))) for i, count in enumerate(counts))


def test_made_up_networks_change_nothing_of_who_is_not_in_them() -> None:
    services = (
        fleet.kube_service(
            f"s{i}", spec={"externalIPs": [one for one, _ in at]}, labels={"topology.istio.io/network": name}
        )
        for i, (name, at) in enumerate(doors(COUNTS))
    )
    mesh = fleet.Mesh(*services)
    for network in ("", "n1"):
        view = context.view(mesh.context, fleet.proxy(NETWORK=network))
        assert (view.network, [len(at) for _, at in view.gateways]) == (network, list(COUNTS))
        assert sent((AT_ONE,), view) == [("10.0.0.1", 9080, 3)]


def test_many_gateways_of_many_networks_share_within_envoys_bounds() -> None:
    view = replace(made.VIEW, network="n1", gateways=doors(COUNTS))
    found = sent((AT_ONE, *(made.endpoint(f"10.1.0.{i}", network=f"f{i}") for i in range(6))), view)
    assert len(found) == 1 + sum(COUNTS)
    total = sum(weight for _, _, weight in found)
    assert total < 2**32
    assert found[0][2] / total == pytest.approx(3 / 9, rel=0.001)
    assert found[1][2] / total == pytest.approx(1 / 9 / 101, rel=0.001)


weights = st.one_of(st.integers(0, 9), st.integers(2**31, 2**32 - 1), st.integers(0, 2**32 - 1))
places = st.sampled_from((made.VIEW.locality, FAR))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(weights, st.integers(-1, 5), places), min_size=1, max_size=12),
    st.lists(st.integers(1, 60), max_size=5),
)
def test_any_weights_and_gateways_give_what_envoy_takes_in_the_right_shares(
    written: list[tuple[int, int, Locality]], counts: list[int]
) -> None:
    members = tuple(
        made.endpoint(f"10.1.0.{i}", weight=weight, network=f"f{network}" if network >= 0 else "n1", locality=where)
        for i, (weight, network, where) in enumerate(written)
    )
    view = replace(made.VIEW, network="n1", gateways=doors(counts))
    groups = made.parsed(endpoint.compile(made.query(), members, view), endpoint_pb2.ClusterLoadAssignment).endpoints
    asked = sum(max(one.weight, 1) for one in members)
    total = sum(group.load_balancing_weight.value for group in groups)
    assert 1 <= total < 2**32
    for group in groups:
        own = [one.load_balancing_weight.value for one in group.lb_endpoints]
        assert min(own) >= 1
        assert sum(own) == group.load_balancing_weight.value
        there = [one for one in members if one.locality.region == group.locality.region]
        shares = Counter[str]()
        for one in there:
            at = dict(view.gateways).get(one.network, ((one.address, one.port),))
            shares.update({address: Fraction(max(one.weight, 1), len(at)) for address, _ in at})
        sent_shares = {
            one.endpoint.address.socket_address.address: one.load_balancing_weight.value for one in group.lb_endpoints
        }
        assert sent_shares.keys() == shares.keys()
        for address, share in shares.items():
            assert sent_shares[address] / total == pytest.approx(float(share / asked), rel=0.01, abs=1e-6)
