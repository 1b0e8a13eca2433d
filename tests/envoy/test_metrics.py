"""What metrics are made of: loggers, filters, and the metadata they read (the traffic: tests/story/test_metrics.py)."""

from __future__ import annotations

from typing import Any

import pytest
import re2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from istiod.envoy import cluster, endpoint, listener, metrics, route
from istiod.envoy.filters import alpn, peer
from istiod.mesh.endpoint import Workload
from istiod.mesh.metrics import NAMES, Metrics, Override
from istiod.mesh.scope import Chain, Direction, DownstreamTls, Http, Listener, Tcp, WeightedCluster
from tests.envoy import made
from wire import labels, telemetry
from wire.labels import Reporter


def chain(direction: Direction, **changes: Any) -> Any:
    """A chain of a listener, compiled."""
    one = Chain(name="c", **changes)
    found = Listener(name="l", address="127.0.0.1", port=1, direction=direction, chains=(one,))
    return listener.message(found, made.QUIET).filter_chains[0]


def names_of_filters(direction: Direction, *, mesh_tls: bool = False) -> tuple[list[str], list[str]]:
    """The names of the HTTP filters, and of what happens to headers before them."""
    http = Http(stat_prefix="x", rds="r", mesh_tls=mesh_tls)
    found = made.manager(chain(direction, http=http))
    return [one.name for one in found.http_filters], [one.name for one in found.early_header_mutation_extensions]


def test_who_tells_and_who_is_believed() -> None:
    told, early = names_of_filters(Direction.OUTBOUND)
    assert (told[:2], early) == (["istio.metadata_exchange", "istio.protocol"], [])
    told, early = names_of_filters(Direction.GATEWAY)
    assert (told[:2], early) == (["istio.metadata_exchange", "istio.protocol"], ["istio.no_peer"])
    heard, early = names_of_filters(Direction.INBOUND, mesh_tls=True)
    assert (heard[0], early) == ("istio.metadata_exchange", [])
    assert "istio.protocol" not in heard
    stranger, early = names_of_filters(Direction.INBOUND)
    assert (stranger[0], early) == ("istio.protocol", ["istio.no_peer"])


def heard(said: bytes) -> str:
    """What is noted of a peer header."""
    config = header_to_metadata_pb2.Config()
    assert peer.HEARING.typed_config.Unpack(config)
    (rule,) = (rule for rule in config.request_rules if rule.header == telemetry.HEADER)
    assert rule.remove
    return rewritten(rule.on_header_present, said)


def rewritten(pair: header_to_metadata_pb2.Config.KeyValuePair, value: bytes) -> str:
    """As Envoy does it: what does not match stays."""
    said = pair.regex_value_rewrite
    return re2.sub(said.pattern.regex.encode(), said.substitution.encode(), value).decode(errors="replace")


@pytest.mark.parametrize(
    "said",
    [
        b"\xff",
        b"a;kube-system;admin;v9;admin;v9;Kube\xffrnetes",
        b"a;kube-system;admin;v9;admin;v9;K,a;kube-system;admin;v9;admin;v9;K",
        b"a;b",
        b"",
    ],
)
def test_free_text_of_a_client_is_noted_nowhere(said: bytes) -> None:
    assert heard(said) == ""


def test_a_client_is_who_it_says_but_for_its_namespace() -> None:
    parts = [f"{each}-1" for each in telemetry.PARTS]
    said = ";".join(parts)
    assert heard(said.encode()) == said
    short = {labels.REPORTER: "destination", labels.PEER: said, "source_principal": "spiffe://td/ns/shop/sa/web"}
    wanted = dict(zip(telemetry.PARTS, parts, strict=True)) | {"namespace": "shop"}
    assert labels.side("source", wanted).items() <= labels.long(short, {}).items()


@pytest.mark.parametrize(
    ("said", "protocol"),
    [(b"\xffrandom", ""), (b"application/json", ""), (b"application/grpc", "grpc"), (b"application/grpc;\xff", "grpc")],
)
def test_a_protocol_is_one_of_two(said: bytes, protocol: str) -> None:
    """Nothing is noted where nothing is left."""
    config = header_to_metadata_pb2.Config()
    assert peer.PROTOCOL.typed_config.Unpack(config)
    assert rewritten(config.request_rules[0].on_header_present, said) == protocol


@pytest.mark.parametrize("reporter", list(Reporter))
def test_every_metric_has_the_labels_of_its_kind(reporter: Reporter) -> None:
    """All of Istio's, once the agent has written them."""
    seen = {}
    for log in (*metrics.http(reporter), *metrics.tcp(reporter)):
        config = stats_pb2.Config()
        assert log.typed_config.Unpack(config)
        for one in (*config.counters, *config.histograms):
            seen[one.stat.name] = labels.long({tag.name: tag.value_format for tag in one.stat.tags}, {}).keys()
            assert all(tag.value_format for tag in one.stat.tags)
    ours = {name for name, found in seen.items() if len(found) == 25}
    assert ours == {"requests_total", "request_duration_milliseconds", "request_bytes", "response_bytes"}
    others = {name: found for name, found in seen.items() if name not in ours}
    assert others.keys() == {f"tcp_{what}_total" for what in _TCP}
    assert all(len(found) == 23 for found in others.values())
    assert all(not {"response_code", "grpc_response_status"} & found for found in others.values())


_TCP = ("connections_opened", "connections_closed", "sent_bytes", "received_bytes")


def test_loggers_are_the_same_ones_for_all() -> None:
    assert metrics.http(Reporter.SOURCE) is metrics.http(Reporter.SOURCE)
    assert len(metrics.tcp(Reporter.DESTINATION)) == 2


def test_a_server_says_what_differs_from_its_canonical_names() -> None:
    parts = {"name": "echo-v1", "namespace": "default", "canonical_name": "echo", "canonical_revision": "v1"}
    alike = Workload(app="echo", version="v1", cluster_id="Kubernetes", **parts)
    assert metrics.of_workload(alike) == "echo-v1;default;echo;v1;Kubernetes"
    other = Workload(version="2", cluster_id="Kubernetes", **parts)
    assert metrics.of_workload(other) == "echo-v1;default;echo;v1;Kubernetes;;2"
    assert metrics.of_workload(Workload(namespace="default")) == ""
    resource = endpoint.compile(made.query(), (made.endpoint(workload=Workload()),), None)
    assert b"workload" not in made.body(resource).value


def test_a_cluster_without_a_service_is_named_itself() -> None:
    said = made.shown(cluster.message(made.cluster(services=()), made.SETTINGS))["metadata"]["filter_metadata"]["istio"]
    assert said["service"] == f";{made.cluster_name('reviews')};"


def test_only_routes_out_of_the_mesh_tell_nobody_and_those_that_need_it_offer_a_protocol() -> None:
    def said(**changes: Any) -> set[str]:
        to = made.to(made.destination(**changes))
        found = route.virtual_host(made.virtual_host(routes=[made.route(destinations=to)]))
        return dict(found.routes[0].typed_per_filter_config)

    assert said() == {peer.NAME: alpn.DISABLED}
    assert said(in_mesh=True) == {}
    assert said(in_mesh=True, mesh_tls=True) == {alpn.NAME: alpn.ENABLED}
    needing, other = made.destination(in_mesh=True, mesh_tls=True), made.destination(in_mesh=True)
    one = made.route(destinations=made.to(needing), at_gateway=True)
    several = made.route(destinations=(*made.to(needing), *made.to(other)), at_gateway=True)
    at_gateway = route.virtual_host(made.virtual_host(routes=[one, several])).routes
    offering = {alpn.NAME: alpn.OFFERING}
    assert [dict(each.typed_per_filter_config) for each in at_gateway] == [offering, {}]
    shares = at_gateway[1].route.weighted_clusters.clusters
    assert [dict(each.typed_per_filter_config) for each in shares] == [offering, {}]
    inside = made.route(destinations=made.to(made.destination()), inbound=True)
    assert peer.NAME not in route.virtual_host(made.virtual_host(routes=[inside])).routes[0].typed_per_filter_config


@pytest.mark.parametrize("proven", [True, False])
def test_a_connection_is_opened_when_its_client_is_known(*, proven: bool) -> None:
    tcp = Tcp(stat_prefix="x", clusters=(WeightedCluster(cluster="c"),))
    tls = DownstreamTls(workload=True, mutual=True, alpn=()) if proven else None
    found = made.tcp_proxy(chain(Direction.INBOUND, tcp=tcp, tls=tls))
    assert (found.upstream_connect_mode == tcp_proxy_pb2.ON_DOWNSTREAM_TLS_HANDSHAKE) is proven


def test_a_proxy_tells_what_its_metadata_says() -> None:
    labels = {"app": "a", "version": "v1", "service.istio.io/canonical-name": "shop"}
    said = {"LABELS": labels, "WORKLOAD_NAME": "a-v1", "NAMESPACE": "ns", "CLUSTER_ID": "Kubernetes"}
    found = telemetry.environment(said)
    assert found["OWN_PEER"] == "a-v1;ns;a;v1;shop;v1;Kubernetes"
    assert found["OWN_UNKNOWN"] == "unknown"
    assert telemetry.environment({"WORKLOAD_NAME": "x"})["OWN_PEER"] == "x;unknown;unknown;unknown;x;latest;unknown"


def test_metrics_are_left_out_and_labels_changed() -> None:
    tags = (("mine", "string(response.code)"), ("reporter", None), ("source_app", "'x'"))
    said = Metrics(
        client=(
            Override(metric="request_bytes", disabled=True),
            Override(metric="requests_total", tags=tags),
            Override(metric="tcp_connections_opened_total", disabled=True),
        )
    )
    (log,) = metrics.http(Reporter.SOURCE, said)
    found = stats_pb2.Config.FromString(log.typed_config.value)
    assert [one.stat.name for one in found.histograms] == ["request_duration_milliseconds", "response_bytes"]
    counted = {tag.name: tag.value_format for tag in found.counters[0].stat.tags}
    assert counted[labels.REPORTER] == "source;reporter;source_app"
    assert '{"command":"CEL","param":"response.code"}' in counted["mine"]
    assert '{"command":"CEL","param":"\'x\'"}' in counted["source_app"]
    assert {tag.name for tag in found.histograms[0].stat.tags} == counted.keys() - {"mine", "source_app"}
    shown = labels.long(counted, {"app": "own"})
    assert "reporter" not in shown
    assert shown["source_app"] == counted["source_app"]
    assert len(metrics.tcp(Reporter.SOURCE, said)) == 1
    assert metrics.http(Reporter.DESTINATION, said) == metrics.http(Reporter.DESTINATION)
    every = tuple(Override(metric=name, disabled=True) for name in NAMES.values())
    assert metrics.http(Reporter.STRANGERS, Metrics(server=every)) == ()
    assert metrics.tcp(Reporter.STRANGERS, Metrics(server=every)) == ()


def test_a_clients_namespace_is_proven_where_its_principal_is_no_label() -> None:
    said = Metrics(server=(Override(metric="requests_total", tags=(("source_principal", None),)),))
    (log,) = metrics.http(Reporter.DESTINATION, said)
    found = stats_pb2.Config.FromString(log.typed_config.value)
    counted = {tag.name: tag.value_format for tag in found.counters[0].stat.tags}
    assert "uri_san_peer_certificate" in counted[labels.NAMESPACE]
    assert "source_principal" not in labels.long(counted, {})
    assert labels.NAMESPACE not in {tag.name for tag in found.histograms[0].stat.tags}


def test_no_label_of_a_users_takes_the_place_of_one_of_ours() -> None:
    said = Metrics(server=(Override(metric="requests_total", tags=(("istio-peer", "'x'"), ("mine", "'y'"))),))
    (log,) = metrics.http(Reporter.DESTINATION, said)
    found = stats_pb2.Config.FromString(log.typed_config.value)
    plain = {tag.name for tag in found.histograms[0].stat.tags}
    assert {tag.name for tag in found.counters[0].stat.tags} == plain | {"mine"}
