from __future__ import annotations

from datetime import timedelta

import pytest

from istiod.mesh import destination_rules
from istiod.mesh.destination_rules import HostPolicy, PolicyIndex
from istiod.mesh.policy import (
    ClientTls,
    ConnectionPool,
    HashCookie,
    HashPolicy,
    Keepalive,
    LbAlgorithm,
    LoadBalancer,
    LocalityLb,
    OutlierDetection,
    RetryBudget,
    TlsMode,
    TrafficPolicy,
    Tunnel,
    Warmup,
)
from istiod.mesh.service import Service
from istiod.mesh.settings import MeshSettings
from tests.mesh import fleet, world

SETTINGS = MeshSettings()
RANDOM = {"loadBalancer": {"simple": "RANDOM"}}
ROUND = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
WEB = "web.default.svc.cluster.local"


def rule(name: str, spec: dict[str, object], namespace: str = "default", **more: object) -> str:
    return fleet.istio("DestinationRule", name, spec, namespace, **more)


def build(*texts: str) -> tuple[PolicyIndex, list[tuple[str, str, str]]]:
    index, found = destination_rules.build(world.snapshot(*texts), SETTINGS)
    return index, [(d.code.name, d.key.name if d.key else "", d.field) for d in found]


def web() -> Service:
    service = world.build(fleet.kube_service("web")).model.registry.get(WEB, "default")
    assert service is not None
    return service


def only(policy: dict[str, object], **more: object) -> HostPolicy:
    index, _ = build(rule("web", {"host": "web", "trafficPolicy": policy, **more}))
    found = index.lookup(web(), "default")
    assert found is not None
    return found


def algorithm(index: PolicyIndex, client: str) -> str | None:
    found = index.lookup(web(), client)
    return found.origin.key.name if found else None


def test_the_client_namespace_speaks_before_the_service_and_the_root_namespace() -> None:
    client = rule("client", {"host": WEB}, "shop")
    service = rule("service", {"host": "web"})
    root = rule("root", {"host": "*.local"}, "istio-system")
    index, _ = build(client, service, root)
    assert [algorithm(index, c) for c in ("shop", "default", "other")] == ["client", "service", "service"]
    index, _ = build(client, root)
    assert [algorithm(index, c) for c in ("shop", "default", "other")] == ["client", "root", "root"]
    index, _ = build(client)
    assert [algorithm(index, c) for c in ("shop", "default")] == ["client", None]


def test_root_namespace_clients_start_with_rules_for_themselves_alone() -> None:
    service = rule("service", {"host": "web"})
    index, _ = build(service, rule("all", {"host": "*.local"}, "istio-system"))
    assert algorithm(index, "istio-system") == "service"
    index, _ = build(service, rule("own", {"host": "*.local", "exportTo": ["."]}, "istio-system"))
    assert algorithm(index, "istio-system") == "own"


def test_the_exact_host_goes_before_patterns_and_the_longest_pattern_before_others() -> None:
    patterns = [
        rule("any", {"host": "*"}),
        rule("long", {"host": "*.default.svc.cluster.local"}),
        rule("x", {"host": "*.x"}),
    ]
    index, _ = build(*patterns)
    assert algorithm(index, "default") == "long"
    index, _ = build(*patterns, rule("exact", {"host": "WEB"}))
    assert algorithm(index, "default") == "exact"


def test_a_rule_is_seen_only_where_it_is_exported() -> None:
    index, _ = build(rule("own", {"host": "web", "exportTo": ["."]}), rule("all", {"host": "web"}))
    assert algorithm(index, "other") == "all"
    index, _ = build(rule("own", {"host": "web", "exportTo": ["shop"]}))
    assert [algorithm(index, c) for c in ("default", "shop", "other")] == [None, "own", None]


def test_rules_of_one_host_are_merged() -> None:
    v1, v2 = ({"name": n, "labels": {"version": n}} for n in ("v1", "v2"))
    index, told = build(
        rule("a", {"host": "web", "subsets": [v1]}),
        rule("b", {"host": "web", "trafficPolicy": RANDOM, "subsets": [v2, {**v1, "trafficPolicy": ROUND}]}),
        rule("c", {"host": "web", "trafficPolicy": ROUND}),
    )
    found = index.lookup(web(), "default")
    assert found is not None
    assert [s.name for s in found.subsets] == ["v1", "v2"]
    assert found.policy(80).load_balancer.algorithm is LbAlgorithm.RANDOM
    assert found.policy(80, "v1").load_balancer.algorithm is LbAlgorithm.RANDOM
    assert told == [("DUPLICATE_SUBSET", "b", "spec.subsets[1]"), ("DUPLICATE_HOST", "c", "spec.trafficPolicy")]
    subset = found.subset("v2")
    assert subset is not None
    assert subset.labels == {("version", "v2")}
    assert found.subset("v3") is None


def test_a_subset_overrides_the_host_and_port_settings_replace_all_of_both() -> None:
    pool = {"connectionPool": {"tcp": {"maxConnections": 7}}}
    found = only(
        {**ROUND, **pool, "portLevelSettings": [{"port": {"number": 80}, **RANDOM}]},
        subsets=[
            {"name": "v1", "trafficPolicy": {"loadBalancer": {}}},
            {
                "name": "v2",
                "trafficPolicy": {"portLevelSettings": [{"port": {"number": 81}, "tls": {"mode": "SIMPLE"}}]},
            },
            {"name": "v3"},
        ],
    )

    def at(port: int, subset: str = "") -> tuple[str, int | None]:
        policy = found.policy(port, subset)
        return policy.load_balancer.algorithm.value, policy.connection_pool.max_connections

    assert at(81) == ("ROUND_ROBIN", 7)
    assert at(80) == ("RANDOM", None)
    assert at(81, "v1") == ("LEAST_REQUEST", 7)
    assert at(80, "v1") == ("LEAST_REQUEST", None)
    assert at(82, "v2") == ("ROUND_ROBIN", 7)
    assert at(81, "v2") == ("LEAST_REQUEST", None)
    assert found.policy(81, "v2").tls == ClientTls(mode=TlsMode.SIMPLE)
    assert at(80, "v3") == ("RANDOM", None)
    assert found.policy(80, "unknown") == TrafficPolicy()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, LoadBalancer()),
        ({"simple": "UNSPECIFIED"}, LoadBalancer()),
        ({"simple": "LEAST_CONN"}, LoadBalancer()),
        ({"simple": "PASSTHROUGH"}, LoadBalancer(algorithm=LbAlgorithm.PASSTHROUGH)),
        (
            {"simple": "ROUND_ROBIN", "warmup": {"duration": "30s"}},
            LoadBalancer(algorithm=LbAlgorithm.ROUND_ROBIN, warmup=Warmup(duration=timedelta(seconds=30))),
        ),
        (
            {"warmup": {"duration": "30s", "minimumPercent": 20.0, "aggression": 2.0}},
            LoadBalancer(warmup=Warmup(duration=timedelta(seconds=30), minimum_percent=20, aggression=2)),
        ),
        ({"warmup": {}}, LoadBalancer()),
        ({"warmupDurationSecs": "45s"}, LoadBalancer(warmup=Warmup(duration=timedelta(seconds=45)))),
        (
            {"consistentHash": {"httpHeaderName": "x", "minimumRingSize": 2048}},
            LoadBalancer(algorithm=LbAlgorithm.RING_HASH, hash=HashPolicy(header="x"), minimum_ring_size=2048),
        ),
        (
            {"consistentHash": {"useSourceIp": True, "ringHash": {"minimumRingSize": 5}}},
            LoadBalancer(algorithm=LbAlgorithm.RING_HASH, hash=HashPolicy(source_ip=True), minimum_ring_size=5),
        ),
        (
            {"consistentHash": {"httpQueryParameterName": "q", "maglev": {"tableSize": 5003}}},
            LoadBalancer(algorithm=LbAlgorithm.MAGLEV, hash=HashPolicy(query_parameter="q"), maglev_table_size=5003),
        ),
        ({"consistentHash": {}}, LoadBalancer(algorithm=LbAlgorithm.RING_HASH)),
        (
            {
                "consistentHash": {
                    "httpCookie": {"name": "c", "path": "/p", "ttl": "60s", "attributes": [{"name": "a", "value": "b"}]}
                }
            },
            LoadBalancer(
                algorithm=LbAlgorithm.RING_HASH,
                hash=HashPolicy(
                    cookie=HashCookie(name="c", path="/p", ttl=timedelta(seconds=60), attributes=(("a", "b"),))
                ),
            ),
        ),
        (
            {"localityLbSetting": {"enabled": False, "failover": [{"from": "a", "to": "b"}]}},
            LoadBalancer(locality=LocalityLb(enabled=False, failover=(("a", "b"),))),
        ),
    ],
)
def test_load_balancers(said: dict[str, object], expected: LoadBalancer) -> None:
    found = only({"loadBalancer": said})
    assert found.policy(80).load_balancer == expected
    assert found.hash_policy(80) == expected.hash


def test_connection_pools() -> None:
    tcp = {
        "maxConnections": 1,
        "connectTimeout": "2s",
        "tcpKeepalive": {"probes": 3, "time": "4s", "interval": "5s"},
        "maxConnectionDuration": "6s",
        "idleTimeout": "7s",
    }
    http = {
        "http1MaxPendingRequests": 8,
        "http2MaxRequests": 9,
        "maxRequestsPerConnection": 10,
        "maxRetries": 11,
        "idleTimeout": "12s",
        "h2UpgradePolicy": "UPGRADE",
        "useClientProtocol": True,
        "maxConcurrentStreams": 13,
        "http2KeepAlive": {"interval": "14s", "timeout": "15s"},
    }
    seconds = [timedelta(seconds=n) for n in range(16)]
    assert only({"connectionPool": {"tcp": tcp, "http": http}}).policy(80).connection_pool == ConnectionPool(
        max_connections=1,
        connect_timeout=seconds[2],
        keepalive=Keepalive(probes=3, time=seconds[4], interval=seconds[5]),
        max_connection_duration=seconds[6],
        tcp_idle_timeout=seconds[7],
        http1_max_pending_requests=8,
        http2_max_requests=9,
        max_requests_per_connection=10,
        max_retries=11,
        http_idle_timeout=seconds[12],
        h2_upgrade=True,
        use_client_protocol=True,
        max_concurrent_streams=13,
        http2_keepalive_interval=seconds[14],
        http2_keepalive_timeout=seconds[15],
    )
    assert only({"connectionPool": {}}).policy(80).connection_pool == ConnectionPool()


def test_the_rest_of_a_policy() -> None:
    policy = only(
        {
            "outlierDetection": {
                "consecutive5xxErrors": 0,
                "consecutiveGatewayErrors": 1,
                "consecutiveLocalOriginFailures": 2,
                "splitExternalLocalOriginErrors": True,
                "interval": "3s",
                "baseEjectionTime": "4s",
                "maxEjectionPercent": 5,
                "minHealthPercent": 6,
            },
            "tls": {"mode": "MUTUAL", "sni": "s", "subjectAltNames": ["n"], "insecureSkipVerify": True},
            "proxyProtocol": {"version": "V2"},
            "retryBudget": {"percent": 30.0},
        }
    ).policy(80)
    assert policy.outlier_detection == OutlierDetection(
        consecutive_5xx=0,
        consecutive_gateway=1,
        consecutive_local_origin=2,
        split_external_local=True,
        interval=timedelta(seconds=3),
        base_ejection_time=timedelta(seconds=4),
        max_ejection_percent=5,
        min_health_percent=6,
    )
    assert policy.tls == ClientTls(mode=TlsMode.MUTUAL, sni="s", subject_alt_names=("n",), insecure_skip_verify=True)
    assert (policy.proxy_protocol, policy.retry_budget) == ("V2", RetryBudget(percent=30.0))
    assert only({"retryBudget": {"minRetryConcurrency": 9}}).policy(80).retry_budget == RetryBudget(
        min_retry_concurrency=9
    )


def test_a_tunnel_is_inherited_by_subsets_that_say_nothing_of_it() -> None:
    own = {"name": "v2", "trafficPolicy": {"tunnel": {"protocol": "POST", "targetHost": "::1", "targetPort": 2}}}
    found = only({"tunnel": {"targetHost": "a.com", "targetPort": 1}}, subsets=[{"name": "v1"}, own])
    assert found.policy(80).tunnel == found.policy(80, "v1").tunnel == Tunnel(target="a.com:1")
    assert found.policy(80, "v2").tunnel == Tunnel(target="[::1]:2", post=True)


def test_fields_without_effect_are_told_with_their_path() -> None:
    _, told = build(
        rule(
            "web",
            {
                "host": "web",
                "trafficPolicy": {
                    "portLevelSettings": [{"port": {"number": 80}, "outlierDetection": {"consecutiveErrors": 1}}],
                },
                "subsets": [
                    {"name": "v0"},
                    {"name": "v1", "trafficPolicy": {"outlierDetection": {"consecutiveErrors": 2}}},
                ],
            },
        )
    )
    assert [field for _, _, field in told] == [
        "spec.trafficPolicy.portLevelSettings[0].outlierDetection.consecutiveErrors",
        "spec.subsets[1].trafficPolicy.outlierDetection.consecutiveErrors",
    ]


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        ({"tls": {"mode": "DISABLE", "sni": "a", "caCrl": "b"}}, ["tls.caCrl", "tls.sni"]),
        ({"tls": {"mode": "ISTIO_MUTUAL", "sni": "a", "credentialName": "b"}}, ["tls.credentialName"]),
        ({"tls": {"mode": "SIMPLE", "caCertificates": "a", "caCrl": "b"}}, []),
        ({"tls": {"mode": "SIMPLE", "caCrl": "b", "insecureSkipVerify": True}}, ["tls.caCrl"]),
        ({"tls": {"mode": "SIMPLE", "credentialName": "a"}}, ["tls.credentialName"]),
        (
            {"tls": {"mode": "MUTUAL", "credentialName": "a", "caCertificates": "b"}},
            ["tls.credentialName", "tls.caCertificates"],
        ),
        ({"loadBalancer": {"simple": "ROUND_ROBIN", "warmup": {"duration": "1s"}}}, []),
        ({"loadBalancer": {"warmupDurationSecs": "1s"}}, []),
        ({"loadBalancer": {"simple": "RANDOM", "zoneAwareLbSetting": {"enabled": True}}}, []),
        (
            {"loadBalancer": {"consistentHash": {"useSourceIp": True}, "zoneAwareLbSetting": {}}},
            ["loadBalancer.zoneAwareLbSetting"],
        ),
        ({"loadBalancer": {"simple": "PASSTHROUGH", "zoneAwareLbSetting": {}}}, ["loadBalancer.zoneAwareLbSetting"]),
        ({"loadBalancer": {"simple": "RANDOM", "warmup": {"duration": "1s"}}}, ["loadBalancer.warmup"]),
        (
            {"loadBalancer": {"consistentHash": {"useSourceIp": True}, "warmupDurationSecs": "1s"}},
            ["loadBalancer.warmupDurationSecs"],
        ),
    ],
)
def test_what_the_rest_of_a_policy_makes_moot_is_told(policy: dict[str, object], fields: list[str]) -> None:
    _, told = build(rule("web", {"host": "web", "trafficPolicy": policy}))
    assert told == [("NOT_SUPPORTED", "web", f"spec.trafficPolicy.{field}") for field in fields]


def test_a_secret_is_for_the_sidecars_that_a_rule_selects() -> None:
    policy = {"tls": {"mode": "SIMPLE", "credentialName": "a", "caCertificates": "b"}}
    _, told = build(selecting("web", {"app": "a"}, trafficPolicy=policy))
    assert told == [("NOT_SUPPORTED", "web", "spec.trafficPolicy.tls.caCertificates")]


def selecting(name: str, labels: dict[str, str], **spec: object) -> str:
    return rule(name, {"host": "web", "workloadSelector": {"matchLabels": labels}, **spec})


def test_a_rule_for_some_workloads_replaces_the_one_for_all() -> None:
    index, told = build(
        rule("all", {"host": "web", "trafficPolicy": ROUND, "subsets": [{"name": "v1"}]}),
        selecting("some", {"app": "a", "tier": "x"}, trafficPolicy=RANDOM),
        rule("other", {"host": "b", "workloadSelector": {"matchLabels": {"app": "a"}}}),
    )
    assert told == []
    assert algorithm(index, "default") == "all"
    held = index.matched("default", {"app": "a", "tier": "x", "more": "y"})
    assert held == {"app=a,tier=x", "app=a"}
    chosen = index.of_clients("default", held)
    assert algorithm(chosen, "default") == "some"
    assert algorithm(chosen, "elsewhere") == "all"
    found = chosen.lookup(web(), "default")
    assert found is not None
    assert found.subsets == ()


def test_rules_select_in_their_own_namespace_only() -> None:
    index, _ = build(selecting("some", {"app": "a"}), rule("wild", {"host": "*.default.svc.cluster.local"}))
    assert index.matched("elsewhere", {"app": "a"}) == frozenset()
    assert index.matched("default", {"app": "b"}) == frozenset()
    assert index.of_clients("default", ()) is index
    assert algorithm(index, "default") == "wild"
    assert algorithm(index.of_clients("default", {"app=a"}), "default") == "some"


def test_rules_of_one_selector_are_merged_and_stay_the_same_objects() -> None:
    texts = (
        selecting("a", {"app": "a"}, subsets=[{"name": "v1"}]),
        selecting(
            "b", {"app": "a"}, subsets=[{"name": "v2"}], trafficPolicy={"loadBalancer": {"simple": "PASSTHROUGH"}}
        ),
        rule("all", {"host": "web"}),
    )
    index, _ = build(*texts)
    (merged,) = index.selecting["default"]
    assert [subset.name for subset in merged.subsets] == ["v1", "v2"]
    assert index.passing == {WEB}
    again, _ = destination_rules.build(world.snapshot(*texts), SETTINGS, index)
    assert again.selecting["default"][0] is merged
    assert {id(one) for one in again.all()} == {id(one) for one in index.all()}


def test_equal_policies_stay_the_same_objects() -> None:
    taken = world.snapshot(rule("web", {"host": "web"}), rule("shop", {"host": "shop"}))
    first, _ = destination_rules.build(taken, SETTINGS)
    again, _ = destination_rules.build(taken, SETTINGS, first)
    assert again.by_namespace["default"][WEB][0] is first.by_namespace["default"][WEB][0]
