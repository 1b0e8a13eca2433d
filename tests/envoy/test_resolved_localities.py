"""Hosts that Envoy resolves: endpoints stand in the cluster, spread by where the client is (applyLoadBalancer)."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2

from istiod.envoy.compiler import Compiler
from istiod.mesh import context
from tests.envoy import made
from tests.mesh import fleet
from wire import names
from wire.node import Locality

NEAR, FAR, ELSEWHERE, NOWHERE = (
    ("near.example", "r1/a"),
    ("far.example", "r2/b"),
    ("else.example", "r3/c"),
    ("no.x", ""),
)
PLACES = (NEAR, FAR, ELSEWHERE, NOWHERE)
EJECTS: dict[str, Any] = {"outlierDetection": {}}


def entry(*places: tuple[str, str], resolution: str = "DNS") -> str:
    spec = {
        "hosts": ["db.example"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": resolution,
        "endpoints": [{"address": address, "locality": place} for address, place in places],
    }
    return fleet.istio("ServiceEntry", "db", spec)


def rule(localities: dict[str, Any], **policy: Any) -> str:
    balancer = {"loadBalancer": {"localityLbSetting": localities}}
    return fleet.istio("DestinationRule", "db", {"host": "db.example", "trafficPolicy": {**policy, **balancer}})


def groups(mesh: fleet.Mesh, place: str = "r1.a") -> list[tuple[str, int, int]]:
    """First address, priority and weight of each group of the host's cluster."""
    proxy = fleet.proxy("vm-1", LABELS={"istio-locality": place})
    scope, view = mesh.scope(proxy), context.view(mesh.context, proxy)
    found = Compiler().compile(scope, mesh.context.endpoints, view).get(names.CLUSTER, "outbound|80||db.example")
    assert found is not None
    message = made.parsed(found, cluster_pb2.Cluster)
    return [
        (g.lb_endpoints[0].endpoint.address.socket_address.address, g.priority, g.load_balancing_weight.value)
        for g in message.load_assignment.endpoints
    ]


def test_the_nearest_come_first_and_a_region_fails_over_where_the_rule_says() -> None:
    mesh = fleet.Mesh(entry(*PLACES), rule({"failover": [{"from": "r1", "to": "r3"}]}, **EJECTS))
    assert sorted(groups(mesh)) == [
        ("else.example", 1, 1),
        ("far.example", 2, 1),
        ("near.example", 0, 1),
        ("no.x", 2, 1),
    ]
    assert min(groups(mesh, "r3.c")) == ("else.example", 0, 1)


def test_shares_are_given_and_who_is_not_named_gets_nothing() -> None:
    mesh = fleet.Mesh(entry(*PLACES), rule({"distribute": [{"from": "r1/*", "to": {"r1/*": 80, "r2/*": 20}}]}))
    assert groups(mesh) == [("near.example", 0, 80), ("far.example", 0, 20)]
    assert len(groups(mesh, "r9.z")) == 4


def test_endpoints_that_are_nowhere_are_left_out_of_shares() -> None:
    share = rule({"distribute": [{"from": "r1/*", "to": {"r1/*": 100}}]})
    mesh = fleet.Mesh(entry(("a.example", ""), ("b.example", "")), share)
    assert groups(mesh) == []
    assert len(groups(mesh, "r9.z")) == 1


@pytest.mark.parametrize(
    "more", [(), (rule({"failover": [{"from": "r1", "to": "r3"}]}),), (rule({"enabled": False}, **EJECTS),)]
)
def test_without_ejections_and_where_it_is_off_all_are_alike(more: tuple[str, ...]) -> None:
    assert {priority for _, priority, _ in groups(fleet.Mesh(entry(*PLACES), *more))} == {0}


def test_labels_count_for_hosts_that_are_not_resolved_only() -> None:
    """As on Istio; ``failover`` beside them counts."""
    labels = {"failoverPriority": ["topology.kubernetes.io/region"]}
    assert {p for _, p, _ in groups(fleet.Mesh(entry(*PLACES), rule(labels, **EJECTS)))} == {0}
    both = rule({**labels, "failover": [{"from": "r1", "to": "r3"}]}, **EJECTS)
    assert ("else.example", 1, 1) in groups(fleet.Mesh(entry(*PLACES), both))


def test_zones_are_alike_within_a_region_where_their_shares_follow_from_what_is_there() -> None:
    balancer: dict[str, Any] = {"loadBalancer": {"zoneAwareLbSetting": {}}}
    zones = fleet.istio("DestinationRule", "db", {"host": "db.example", "trafficPolicy": balancer})
    found = groups(fleet.Mesh(entry(NEAR, ("b.example", "r1/b"), FAR), zones))
    assert [(address, priority) for address, priority, _ in found] == [
        ("near.example", 0),
        ("b.example", 0),
        ("far.example", 1),
    ]


def test_a_single_name_stays_whatever_the_shares() -> None:
    """Envoy takes no LOGICAL_DNS cluster without an endpoint."""
    share = rule({"distribute": [{"from": "r1/*", "to": {"r1/*": 100}}]})
    assert groups(fleet.Mesh(entry(FAR, resolution="DNS_ROUND_ROBIN"), share)) == [("far.example", 0, 1)]


def test_clients_of_several_places_share_what_their_place_does_not_change() -> None:
    """All of it where no resolved host says where it is, else all but its clusters."""
    here, there = (fleet.proxy(f"vm-{n}", LABELS={"istio-locality": f"r{n}.a"}) for n in (1, 2))
    mesh = fleet.Mesh(entry(("a.example", "")), fleet.kube_service("web"))
    assert mesh.scope(here).outbound is mesh.scope(there).outbound
    mesh = fleet.Mesh(entry(NEAR, FAR), fleet.kube_service("web"), rule({}, **EJECTS))
    one, other = mesh.scope(here).outbound, mesh.scope(there).outbound
    assert (one.key.locality, other.key.locality) == (Locality(region="r1", zone="a"), Locality(region="r2", zone="a"))
    changed = {name for name, leaf in one.clusters.items() if leaf is not other.clusters[name]}
    assert changed == {"outbound|80||db.example"}
