"""Policies of a cluster: balancing, limits, keepalive, outlier detection, as Istio writes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from istiod.envoy import cluster, http_options
from istiod.mesh.policy import (
    ConnectionPool,
    Keepalive,
    LbAlgorithm,
    LoadBalancer,
    LocalityLb,
    OutlierDetection,
    RetryBudget,
    TrafficPolicy,
    Warmup,
)
from istiod.mesh.scope import Cluster, Direction, Discovery
from istiod.mesh.settings import MeshSettings
from tests.envoy import made

SECOND = timedelta(seconds=1)


def shown(leaf: Cluster, settings: MeshSettings = made.SETTINGS) -> dict[str, Any]:
    return made.shown(cluster.message(leaf, settings))


def pooled(**fields: Any) -> TrafficPolicy:
    return TrafficPolicy(connection_pool=ConnectionPool(**fields))


def balancer(**fields: Any) -> dict[str, Any]:
    found = shown(made.cluster(policy=TrafficPolicy(load_balancer=LoadBalancer(**fields))))
    return {name: value for name, value in found.items() if "lb_" in name and name != "common_lb_config"}


def test_every_balancing_algorithm_has_its_envoy_name() -> None:
    window = {"slow_start_window": "1s"}
    own = {**window, "aggression": {"default_value": 2.0, "runtime_key": "("}, "min_weight_percent": {"value": 20.0}}
    assert balancer(algorithm=LbAlgorithm.ROUND_ROBIN) == {}
    assert balancer(algorithm=LbAlgorithm.RANDOM) == {"lb_policy": "RANDOM"}
    assert balancer(algorithm=LbAlgorithm.MAGLEV) == {"lb_policy": "MAGLEV"}
    assert balancer(algorithm=LbAlgorithm.MAGLEV, maglev_table_size=5003) == {
        "lb_policy": "MAGLEV",
        "maglev_lb_config": {"table_size": "5003"},
    }
    assert balancer(algorithm=LbAlgorithm.RING_HASH) == {
        "lb_policy": "RING_HASH",
        "ring_hash_lb_config": {"minimum_ring_size": "1024"},
    }
    assert balancer(warmup=Warmup(duration=SECOND)) == {
        "lb_policy": "LEAST_REQUEST",
        "least_request_lb_config": {"slow_start_config": window},
    }
    assert balancer(
        algorithm=LbAlgorithm.ROUND_ROBIN, warmup=Warmup(duration=SECOND, aggression=2, minimum_percent=20)
    ) == {"round_robin_lb_config": {"slow_start_config": own}}
    assert balancer(algorithm=LbAlgorithm.RANDOM, warmup=Warmup(duration=SECOND)) == {"lb_policy": "RANDOM"}


def test_localities_are_weighted_where_the_user_asked_for_locality_balancing() -> None:
    plain = TrafficPolicy(load_balancer=LoadBalancer(locality=LocalityLb()))
    asked = TrafficPolicy(load_balancer=LoadBalancer(locality=LocalityLb(failover=(("r1", "r2"),))))
    spread = LocalityLb(distribute=(("r1/*", (("r1/*", 100),)),))
    weighted = {"healthy_panic_threshold": {}, "locality_weighted_lb_config": {}}
    assert shown(made.cluster(policy=plain))["common_lb_config"] == {"healthy_panic_threshold": {}}
    assert shown(made.cluster(policy=asked))["common_lb_config"] == weighted
    assert shown(made.cluster(query=made.query(locality_lb=spread)))["common_lb_config"] == weighted
    assert (
        "locality_weighted_lb_config"
        not in shown(made.cluster(policy=asked, discovery=Discovery.ORIGINAL_DST, query=None))["common_lb_config"]
    )


def test_limits_keepalive_and_budget_are_as_the_policy_says() -> None:
    pool = ConnectionPool(
        max_connections=1,
        connect_timeout=SECOND,
        keepalive=Keepalive(probes=3, time=2 * SECOND, interval=SECOND),
        http1_max_pending_requests=2,
        http2_max_requests=3,
        max_retries=5,
    )
    found = shown(made.cluster(policy=TrafficPolicy(connection_pool=pool, retry_budget=RetryBudget())))
    assert found["circuit_breakers"]["thresholds"] == [
        {
            "max_connections": 1,
            "max_pending_requests": 2,
            "max_requests": 3,
            "max_retries": 5,
            "retry_budget": {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3},
        }
    ]
    assert found["connect_timeout"] == "1s"
    assert found["upstream_connection_options"] == {
        "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 2, "keepalive_interval": 1}
    }


def test_the_meshs_keepalive_holds_for_outbound_clusters_that_have_none() -> None:
    settings = MeshSettings(tcp_keepalive=Keepalive(time=SECOND))
    keepalive = {"tcp_keepalive": {"keepalive_time": 1}}
    assert shown(made.cluster(), settings)["upstream_connection_options"] == keepalive
    assert "upstream_connection_options" not in shown(made.cluster(direction=Direction.INBOUND), settings)


@pytest.mark.parametrize(
    ("outlier", "expected"),
    [
        (OutlierDetection(), {}),
        (OutlierDetection(consecutive_5xx=3), {"consecutive_5xx": 3, "enforcing_consecutive_5xx": 100}),
        (OutlierDetection(consecutive_5xx=0), {"consecutive_5xx": 0, "enforcing_consecutive_5xx": 0}),
        (
            OutlierDetection(consecutive_gateway=4),
            {"consecutive_gateway_failure": 4, "enforcing_consecutive_gateway_failure": 100},
        ),
        (OutlierDetection(consecutive_local_origin=10), {}),
        (
            OutlierDetection(consecutive_local_origin=10, split_external_local=True),
            {
                "split_external_local_origin_errors": True,
                "consecutive_local_origin_failure": 10,
                "enforcing_consecutive_local_origin_failure": 100,
                "enforcing_local_origin_success_rate": 0,
            },
        ),
        (
            OutlierDetection(split_external_local=True),
            {"split_external_local_origin_errors": True, "enforcing_local_origin_success_rate": 0},
        ),
        (
            OutlierDetection(interval=SECOND, base_ejection_time=SECOND, max_ejection_percent=50),
            {"interval": "1s", "base_ejection_time": "1s", "max_ejection_percent": 50},
        ),
    ],
)
def test_outlier_detection_is_converted_as_istio_does(outlier: OutlierDetection, expected: dict[str, Any]) -> None:
    found = shown(made.cluster(policy=TrafficPolicy(outlier_detection=outlier)))
    assert found["outlier_detection"] == {"enforcing_success_rate": 0, **expected}


@pytest.mark.parametrize("codes", [(429,), (404, 429, 503)])
def test_answers_that_are_named_are_errors(codes: tuple[int, ...]) -> None:
    found = made.cluster(policy=TrafficPolicy(outlier_detection=OutlierDetection(error_codes=codes)))
    options = http_options.of(found, MeshSettings())
    assert options is not None
    said = http_protocol_options_pb2.HttpProtocolOptions.FromString(options.value).outlier_detection.error_matcher
    rules = said.or_match.rules if len(codes) > 1 else [said]
    headers = [rule.http_response_headers_match.headers[0] for rule in rules]
    assert [(one.name, int(one.string_match.exact)) for one in headers] == [(":status", code) for code in codes]


def test_a_minimum_of_healthy_endpoints_is_the_panic_threshold() -> None:
    found = shown(made.cluster(policy=TrafficPolicy(outlier_detection=OutlierDetection(min_health_percent=30))))
    assert found["common_lb_config"]["healthy_panic_threshold"] == {"value": 30.0}
