"""What the mesh configuration says of every cluster: limits, ejection, names in statistics."""

from __future__ import annotations

from datetime import timedelta

import pytest

from istiod.mesh.policy import LocalityLb
from istiod.mesh.service import Protocol
from tests.mesh import fleet
from tests.mesh.test_clusters import WEB, entry, rule, web
from tests.mesh.test_clusters import build as clusters_of
from tests.mesh.test_inbound import build as inbound_of

BASELINE = fleet.mesh_config(
    "{defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 33}, http: {h2UpgradePolicy: UPGRADE}},"
    " outlierDetection: {consecutive5xxErrors: 7}}}"
)


def test_what_a_rule_does_not_say_of_connections_and_ejection_the_mesh_may() -> None:
    limit = {"connectionPool": {"tcp": {"maxConnections": 99}}}
    eject = {"outlierDetection": {"consecutive5xxErrors": 1}}
    for rules, connections, errors, spoken in (
        ((), 33, 7, Protocol.HTTP2),
        ((rule(limit),), 99, 7, Protocol.HTTP),
        ((rule(eject),), 33, 1, Protocol.HTTP2),
    ):
        found = web(fleet.kube_service("web"), BASELINE, *rules)
        assert found.policy.connection_pool.max_connections == connections
        assert found.policy.connection_pool.connect_timeout == timedelta(seconds=10)
        assert found.policy.outlier_detection is not None
        assert found.policy.outlier_detection.consecutive_5xx == errors
        assert found.protocol is spoken
        assert found.query is not None
        assert found.query.locality_lb == LocalityLb()  # what ejects may fail over


def test_the_meshs_word_on_connections_holds_where_no_service_is_known() -> None:
    found = clusters_of(BASELINE)
    rest = found["PassthroughCluster"].policy
    assert (rest.connection_pool.max_connections, rest.outlier_detection) == (33, None)
    assert rest.connection_pool.http_idle_timeout == timedelta(minutes=5)
    idle = fleet.mesh_config("{defaultTrafficPolicy: {connectionPool: {http: {idleTimeout: 9s}}}}")
    assert clusters_of(idle)["PassthroughCluster"].policy.connection_pool.http_idle_timeout == timedelta(seconds=9)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("%SERVICE%_%SERVICE_PORT_NAME%_%SERVICE_PORT%", "web.default_http_80"),
        ("%SERVICE_NAME%.%SUBSET_NAME%.%TARGET_PORT%", "web.v1.8080"),
        ("all.%SERVICE_FQDN%", f"all.{WEB}"),
    ],
)
def test_statistics_may_call_a_cluster_otherwise(pattern: str, expected: str) -> None:
    mesh = fleet.mesh_config(f"outboundClusterStatName: '{pattern}'")
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    one = fleet.kube_service("web", ports=ports)
    subsets = rule(subsets=[{"name": "v1", "labels": {"version": "v1"}}])
    found = clusters_of(mesh, one, subsets)[f"outbound|80|v1|{WEB}"]
    assert (found.name, found.stat_name) == (f"outbound|80|v1|{WEB}", expected)
    assert clusters_of(one, subsets)[f"outbound|80|v1|{WEB}"].stat_name == ""


def test_hosts_that_are_no_kubernetes_services_have_one_name_in_statistics() -> None:
    mesh = fleet.mesh_config("outboundClusterStatName: '%SERVICE% %SERVICE_NAME%'")
    found = clusters_of(mesh, entry("DNS"))
    assert {one.stat_name for one in found.values() if one.services} == {"a.com a.com"}


def test_the_meshs_limits_hold_where_no_rule_says_others() -> None:
    mesh = fleet.mesh_config("{defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 33}}}}")
    found = inbound_of(fleet.kube_service("web"), mesh).clusters
    assert {one.policy.connection_pool.max_connections for one in found.values()} == {33}


def test_statistics_may_call_a_port_otherwise() -> None:
    mesh = fleet.mesh_config("inboundClusterStatName: '%SERVICE%_%TARGET_PORT%'")
    sidecar = {"ingress": [{"port": {"number": 8080, "protocol": "HTTP", "name": "x"}}]}
    for more in ((), (fleet.istio("Sidecar", "default", sidecar),)):
        found = inbound_of(fleet.kube_service("web"), mesh, *more).clusters
        assert found["inbound|8080||"].stat_name == "web.default_8080"
        assert found["InboundPassthroughCluster"].stat_name == ""
