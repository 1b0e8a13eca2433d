"""Assignments: which endpoints, in which priority, with which weight. The locality cases follow Istio's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from hypothesis import given
from hypothesis import strategies as st

from istiod.envoy import endpoint
from istiod.mesh.endpoint import Endpoint, Health, Query, View
from istiod.mesh.policy import LocalityLb
from tests.envoy import made
from wire.node import Locality

A = Locality(region="r1", zone="za", subzone="s1")
A2 = Locality(region="r1", zone="za", subzone="s2")
B = Locality(region="r1", zone="zb")
C = Locality(region="r2", zone="zc")
D = Locality(region="r3", zone="zd")
SPREAD = (
    made.endpoint("10.0.0.1", locality=A, labels=frozenset({("net", "x")})),
    made.endpoint("10.0.0.2", locality=A, labels=frozenset({("net", "x")})),
    made.endpoint("10.0.0.3", locality=B, labels=frozenset({("net", "y")})),
    made.endpoint("10.0.0.4", locality=C, labels=frozenset({("net", "x")})),
    made.endpoint("10.0.0.5", locality=C, labels=frozenset({("net", "x")})),
    made.endpoint("10.0.0.6", locality=C, labels=frozenset({("net", "x")})),
)


def assignment(query: Query, endpoints: tuple[Endpoint, ...], view: View | None = None) -> Any:
    return made.parsed(endpoint.compile(query, endpoints, view), endpoint_pb2.ClusterLoadAssignment)


def addresses(found: Any) -> list[list[str]]:
    return [[e.endpoint.address.socket_address.address for e in group.lb_endpoints] for group in found.endpoints]


def spread(setting: LocalityLb | None, view: View = made.VIEW) -> dict[str, tuple[int, int]]:
    """Zone -> (priority, weight) of what a proxy at ``view`` gets."""
    found = assignment(made.query(locality_lb=setting), SPREAD, view)
    return {group.locality.zone: (group.priority, group.load_balancing_weight.value) for group in found.endpoints}


def test_a_query_may_want_mesh_mtls_only() -> None:
    both = (made.endpoint("10.0.0.1", tls=True), made.endpoint("10.0.0.2", tls=False))
    assert addresses(assignment(made.query(mesh_tls=True), both)) == [["10.0.0.1"]]


def test_a_pod_of_both_ip_versions_is_one_endpoint_with_two_addresses() -> None:
    found = assignment(made.query(), (made.endpoint("10.0.0.1", additional=("fd00::1",)),))
    (one,) = made.shown(found)["endpoints"][0]["lb_endpoints"]
    assert made.picked(one["endpoint"], "address", "additional_addresses") == {
        "address": {"socket_address": {"address": "10.0.0.1", "port_value": 9080}},
        "additional_addresses": [{"address": {"socket_address": {"address": "fd00::1", "port_value": 9080}}}],
    }


def test_an_endpoint_says_where_whose_and_how() -> None:
    found = made.shown(assignment(made.query(), (made.endpoint(),)))
    assert found == {
        "cluster_name": "outbound|9080||reviews.default.svc.cluster.local",
        "endpoints": [
            {
                "locality": {},
                "lb_endpoints": [
                    {
                        "endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 9080}}},
                        "health_status": "HEALTHY",
                        "load_balancing_weight": 1,
                        "metadata": {
                            "filter_metadata": {
                                "envoy.transport_socket_match": {"tlsMode": "istio"},
                                "istio": {"workload": "reviews-v1-abc;default;reviews;v1;Kubernetes"},
                            }
                        },
                    }
                ],
                "load_balancing_weight": 1,
            }
        ],
    }


def test_an_endpoint_without_a_sidecar_has_no_tls_mode() -> None:
    found = assignment(made.query(), (made.endpoint(tls=False, health=Health.DRAINING, weight=0),))
    (only,) = found.endpoints[0].lb_endpoints
    assert "envoy.transport_socket_match" not in only.metadata.filter_metadata
    assert (only.health_status, only.load_balancing_weight.value) == (3, 1)


def test_a_path_is_a_unix_domain_socket() -> None:
    found = made.shown(endpoint.inline(made.cluster(endpoints=(made.endpoint(address="/app.sock"),))))
    assert found["endpoints"][0]["lb_endpoints"][0]["endpoint"] == {"address": {"pipe": {"path": "/app.sock"}}}


def test_nobody_is_an_empty_assignment_and_not_none() -> None:
    assert made.shown(assignment(made.query(), ())) == {"cluster_name": made.cluster_name("reviews")}


def test_a_subset_holds_those_that_carry_its_labels() -> None:
    other = made.endpoint("10.0.0.2", labels=frozenset({("version", "v2")}))
    assert addresses(assignment(made.query(subset="v2"), (made.endpoint(), other))) == [["10.0.0.2"]]


def test_a_node_local_service_ends_at_the_proxys_node() -> None:
    far = made.endpoint("10.0.0.2", node="n-b2")
    query = made.query(node_local=True)
    assert addresses(assignment(query, (made.endpoint(), far), made.VIEW)) == [["10.0.0.1"]]
    assert addresses(assignment(query, (made.endpoint(), far))) == [["10.0.0.1", "10.0.0.2"]]


def test_localities_stand_in_a_fixed_order_with_the_weight_of_their_endpoints() -> None:
    found = assignment(made.query(), (*SPREAD[3:], *SPREAD[:3]))
    assert [(g.locality.zone, g.load_balancing_weight.value, g.priority) for g in found.endpoints] == [
        ("za", 2, 0),
        ("zb", 1, 0),
        ("zc", 3, 0),
    ]


def test_weights_that_envoy_would_refuse_become_lighter_alike() -> None:
    heavy = (*(made.endpoint(f"10.0.0.{i}", locality=A, weight=2**32 - 1) for i in (1, 2)), SPREAD[2], SPREAD[3])
    asked = endpoint.inline(made.cluster(endpoints=heavy)), assignment(made.query(), heavy)
    for found in asked:
        groups = [g.load_balancing_weight.value for g in found.endpoints]
        assert groups[1:] == [1, 1]
        assert 2**32 - 10 < sum(groups) < 2**32
        first, second = (one.load_balancing_weight.value for one in found.endpoints[0].lb_endpoints)
        assert first == second == groups[0] / 2
    one = assignment(made.query(), (made.endpoint(weight=2**40),)).endpoints[0]
    assert 2**32 - 10 < one.lb_endpoints[0].load_balancing_weight.value < 2**32


PRIORITY = LocalityLb(failover_priority=("net", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"))
DISTRIBUTE = LocalityLb(
    distribute=(
        ("r1/za/*", (("r1/za/*", 70), ("r1/zb/*", 20), ("r2/*", 10))),
        ("r2/*", (("r2/zc/*", 100),)),
    )
)
WITH_NET = replace(made.VIEW, labels=frozenset({("net", "x")}))


@pytest.mark.parametrize(
    ("setting", "view", "expected"),
    [
        pytest.param(None, made.VIEW, {"za": (0, 2), "zb": (0, 1), "zc": (0, 3)}, id="no setting"),
        pytest.param(LocalityLb(), made.VIEW, {"za": (0, 2), "zb": (1, 1), "zc": (2, 3)}, id="failover"),
        pytest.param(
            LocalityLb(failover=(("r1", "r3"),)), made.VIEW, {"za": (0, 2), "zb": (1, 1), "zc": (2, 3)}, id="elsewhere"
        ),
        pytest.param(PRIORITY, WITH_NET, {"za": (0, 2), "zb": (2, 1), "zc": (1, 3)}, id="priority by labels"),
        pytest.param(
            replace(PRIORITY, failover_priority=("net",), failover=(("r1", "r2"),)),
            WITH_NET,
            {"za": (0, 2), "zb": (2, 1), "zc": (1, 3)},
            id="labels, then regions",
        ),
        pytest.param(
            LocalityLb(failover_priority=("net=y",)), WITH_NET, {"za": (1, 2), "zb": (0, 1), "zc": (1, 3)}, id="fixed"
        ),
        pytest.param(DISTRIBUTE, made.VIEW, {"za": (0, 70), "zb": (0, 20), "zc": (0, 10)}, id="distribute"),
        pytest.param(DISTRIBUTE, replace(made.VIEW, locality=C), {"zc": (0, 100)}, id="distribute to one"),
        pytest.param(
            DISTRIBUTE,
            replace(made.VIEW, locality=D),
            {"za": (0, 2), "zb": (0, 1), "zc": (0, 3)},
            id="distribute from elsewhere",
        ),
        pytest.param(
            LocalityLb(distribute=(("*", (("r1/za", 50), ("*", 50), ("r9", 5))),)),
            made.VIEW,
            {"za": (0, 50), "zb": (0, 13), "zc": (0, 38)},
            id="distribute over several",
        ),
        pytest.param(
            LocalityLb(distribute=(("r1", (("r1", 100), ("r2", 0))),)),
            made.VIEW,
            {"za": (0, 67), "zb": (0, 34)},
            id="distribute nothing",
        ),
    ],
)
def test_localities_are_used_as_istio_uses_them(
    setting: LocalityLb | None, view: View, expected: Mapping[str, tuple[int, int]]
) -> None:
    assert spread(setting, view) == expected


def test_failover_prefers_the_region_that_the_setting_names() -> None:
    endpoints = tuple(made.endpoint(locality=where) for where in (A, A2, C, D))
    setting = LocalityLb(failover=(("r1", "r3"),))
    found = assignment(made.query(locality_lb=setting), endpoints, made.VIEW)
    assert [(g.locality.region, g.locality.sub_zone, g.priority) for g in found.endpoints] == [
        ("r1", "s1", 0),
        ("r1", "s2", 1),
        ("r2", "", 3),
        ("r3", "", 2),
    ]


@pytest.mark.parametrize(
    "label",
    [
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.istio.io/subzone",
        "topology.istio.io/network",
        "topology.istio.io/cluster",
        "kubernetes.io/hostname",
    ],
)
def test_topology_labels_come_from_where_endpoint_and_proxy_are(label: str) -> None:
    near = made.endpoint("10.0.0.1", locality=A, network="", node="n-a1")
    far = made.endpoint(
        "10.0.0.2",
        locality=Locality(region="r9", zone="z9", subzone="s9"),
        network="other",
        node="n-z9",
        workload=replace(made.endpoint().workload, cluster_id="other"),
    )
    query = made.query(locality_lb=LocalityLb(failover_priority=(label,)))
    found = assignment(query, (near, far), made.VIEW)
    assert [group.priority for group in found.endpoints] == [0, 1]


LOCALITIES = st.sampled_from([A, A2, B, C, D])
ENDPOINTS = st.lists(
    st.builds(
        made.endpoint,
        st.integers(1, 200).map(lambda i: f"10.0.0.{i}"),
        locality=LOCALITIES,
        weight=st.integers(0, 5),
        labels=st.sampled_from([frozenset({("net", "x")}), frozenset({("net", "y")}), frozenset()]),
    ),
    max_size=8,
).map(tuple)
SETTINGS = st.sampled_from([None, LocalityLb(), PRIORITY, DISTRIBUTE, LocalityLb(failover=(("r1", "r3"),))])


@given(ENDPOINTS, SETTINGS, LOCALITIES)
def test_priorities_have_no_gaps_and_nobody_is_sent_twice(
    endpoints: tuple[Endpoint, ...], setting: LocalityLb | None, where: Locality
) -> None:
    found = assignment(made.query(locality_lb=setting), endpoints, replace(made.VIEW, locality=where))
    priorities = {group.priority for group in found.endpoints}
    assert priorities == set(range(len(priorities)))
    sent = [each for group in addresses(found) for each in group]
    given_addresses = [each.address for each in endpoints]
    assert all(sent.count(each) <= given_addresses.count(each) for each in sent)
    if setting is None or not setting.distribute:
        assert sorted(sent) == sorted(given_addresses)
    assert all(group.load_balancing_weight.value > 0 for group in found.endpoints)
