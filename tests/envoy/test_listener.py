"""Listeners, their chains, and the HTTP connection manager of each direction."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from istiod.envoy import listener
from istiod.features import Features
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.policy import Tunnel
from istiod.mesh.proxy_headers import ProxyHeaders
from istiod.mesh.scope import Chain, Direction, DownstreamTls, Http, Listener, Tcp, WeightedCluster
from istiod.mesh.settings import MeshSettings
from tests.envoy import made, rich
from wire import names

TCP = Tcp(stat_prefix="x", clusters=(WeightedCluster(cluster="c"),))
HTTP = Http(stat_prefix="outbound_0.0.0.0_80", rds="80")


def one(chain: Chain | None = None, **changes: Any) -> Listener:
    fields: dict[str, Any] = {"name": "l", "address": "0.0.0.0", "port": 80, "direction": Direction.OUTBOUND}
    return Listener(chains=(chain or Chain(name="c", tcp=TCP),), **{**fields, **changes})


def shown(leaf: Listener, settings: MeshSettings = made.QUIET) -> dict[str, Any]:
    return made.shown(listener.message(leaf, settings))


def manager(
    http: Http = HTTP, direction: Direction = Direction.OUTBOUND, settings: MeshSettings = made.QUIET
) -> dict[str, Any]:
    message = listener.message(one(Chain(name="", http=http), direction=direction), settings)
    return made.shown(made.manager(message.filter_chains[0]))


def context(tls: DownstreamTls, settings: MeshSettings = made.QUIET) -> tls_pb2.DownstreamTlsContext:
    message = listener.message(one(Chain(name="", tcp=TCP, tls=tls), direction=Direction.GATEWAY), settings)
    found = tls_pb2.DownstreamTlsContext()
    assert message.filter_chains[0].transport_socket.typed_config.Unpack(found)
    return found


def test_virtual_outbound_hands_over_by_original_destination() -> None:
    virtual, *_ = rich.outbound_listeners()
    found = shown(virtual, made.SETTINGS)
    assert made.picked(
        found, "name", "use_original_dst", "traffic_direction", "max_connections_to_accept_per_socket_event"
    ) == {
        "name": "virtualOutbound",
        "use_original_dst": True,
        "traffic_direction": "OUTBOUND",
        "max_connections_to_accept_per_socket_event": 1,
    }
    assert "bind_to_port" not in found
    assert found["access_log"][0]["filter"] == {"response_flag_filter": {"flags": ["NR"]}}
    blackhole, passthrough = found["filter_chains"]
    assert blackhole["filter_chain_match"] == {"destination_port": 15001}
    assert "filter_chain_match" not in passthrough


def test_a_service_listener_is_not_bound_and_waits_for_the_inspectors() -> None:
    _, service, database = map(shown, rich.outbound_listeners())
    assert made.picked(service, "bind_to_port", "listener_filters_timeout", "continue_on_listener_filters_timeout") == {
        "bind_to_port": False,
        "listener_filters_timeout": "0s",
        "continue_on_listener_filters_timeout": True,
    }
    assert [f["name"] for f in service["listener_filters"]] == ["envoy.filters.listener.http_inspector"]
    assert service["default_filter_chain"]["name"] == "PassthroughFilterChain"
    assert service["filter_chains"][0]["filter_chain_match"] == {
        "transport_protocol": "raw_buffer",
        "application_protocols": ["http/1.1", "h2c"],
    }
    assert [f["name"] for f in database["listener_filters"]] == ["envoy.filters.listener.tls_inspector"]
    assert database["additional_addresses"] == [
        {"address": {"socket_address": {"address": "fd00::1", "port_value": 5432}}}
    ]


def test_virtual_inbound_inspects_but_on_the_ports_where_that_is_off() -> None:
    found = shown(rich.inbound_listener())
    original, tls, http = found["listener_filters"]
    assert original["name"] == "envoy.filters.listener.original_dst"
    assert tls["filter_disabled"] == {"destination_port_range": {"start": 15006, "end": 15007}}
    assert http["filter_disabled"] == {
        "or_match": {
            "rules": [
                {"destination_port_range": {"start": 9080, "end": 9081}},
                {"destination_port_range": {"start": 15006, "end": 15007}},
            ]
        }
    }
    assert found["traffic_direction"] == "INBOUND"
    assert "use_original_dst" not in found
    mtls, plain = found["filter_chains"]
    assert mtls["metadata"]["filter_metadata"]["istio"] == {
        "config": "/apis/security.istio.io/v1/namespaces/default/peer-authentication/strict"
    }
    assert "transport_socket_connect_timeout" not in mtls
    assert "transport_socket" not in plain


def test_chains_match_networks_and_server_names() -> None:
    *_, database = rich.outbound_listeners()
    by_name, by_net = shown(database)["filter_chains"]
    assert by_name["filter_chain_match"] == {"server_names": ["*.example", "b.example"]}
    assert by_net["filter_chain_match"] == {
        "prefix_ranges": [
            {"address_prefix": "10.1.0.0", "prefix_len": 16},
            {"address_prefix": "fd00::", "prefix_len": 8},
        ]
    }


def test_a_tcp_chain_leads_to_one_cluster_or_to_shares() -> None:
    *_, database = rich.outbound_listeners()
    split = made.tcp_proxy(listener.message(database, made.SETTINGS).filter_chains[0])
    assert [(each.name, each.weight) for each in split.weighted_clusters.clusters] == [
        (made.cluster_name("reviews"), 90),
        (made.cluster_name("tcp"), 10),
    ]
    assert split.idle_timeout.seconds == 1
    first, *counting = split.access_log
    assert first.filter.log_type_filter.exclude
    assert [each.name for each in counting] == ["envoy.access_loggers.stats"] * 2
    found = made.shown(made.tcp_proxy(listener.message(one(), made.QUIET).filter_chains[0]))
    assert made.picked(found, "stat_prefix", "cluster") == {"stat_prefix": "x", "cluster": "c"}
    assert found["access_log_options"] == {"flush_access_log_on_connected": True}


def test_a_tcp_chain_may_pick_endpoints_by_the_clients_address() -> None:
    tcp = replace(TCP, hash_source=True)
    found = made.tcp_proxy(listener.message(one(Chain(name="c", tcp=tcp)), made.QUIET).filter_chains[0])
    assert made.shown(found)["hash_policy"] == [{"source_ip": {}}]


def test_every_direction_has_istios_connection_manager() -> None:
    common = {
        "normalize_path": True,
        "proxy_100_continue": True,
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
    }
    trust = ("use_remote_address", "server_name", "forward_client_cert_details", "set_current_client_cert_details")
    outbound, inbound, gateway = (
        manager(direction=each) for each in (Direction.OUTBOUND, Direction.INBOUND, Direction.GATEWAY)
    )
    for found in (outbound, inbound, gateway):
        assert made.picked(found, *common) == common
        assert found["path_with_escaped_slashes_action"] == "KEEP_UNCHANGED"
        assert found["request_id_extension"]["typed_config"]["use_request_id_for_trace_sampling"] is True
    assert made.picked(outbound, *trust) == {"use_remote_address": False}
    assert made.picked(inbound, *trust) == {
        "use_remote_address": False,
        "server_name": "istio-envoy",
        "forward_client_cert_details": "APPEND_FORWARD",
        "set_current_client_cert_details": {"subject": True, "dns": True, "uri": True},
    }
    assert made.picked(gateway, *trust) == {
        "use_remote_address": True,
        "server_name": "istio-envoy",
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"subject": True, "cert": True, "dns": True, "uri": True},
    }


def test_filters_stand_in_istios_order() -> None:
    def order(http: Http, direction: Direction) -> list[str]:
        return [each["name"].rpartition(".")[2] for each in manager(http, direction)["http_filters"]]

    telling = ["metadata_exchange", "protocol"]
    assert order(HTTP, Direction.OUTBOUND) == [*telling, "grpc_stats", "alpn", "fault", "cors", "router"]
    assert order(HTTP, Direction.GATEWAY) == [*telling, "grpc_stats", "alpn", "fault", "cors", "router"]
    assert order(HTTP, Direction.INBOUND) == ["protocol", "grpc_stats", "fault", "cors", "router"]
    web = replace(HTTP, grpc_web=True)
    assert order(web, Direction.INBOUND) == ["protocol", "grpc_web", "grpc_stats", "fault", "cors", "router"]


def test_a_stat_prefix_ends_where_istios_tags_end_it() -> None:
    assert manager()["stat_prefix"] == "outbound_0.0.0.0_80;"
    assert manager(replace(HTTP, stat_prefix="x;"))["stat_prefix"] == "x;"


@pytest.mark.parametrize("direction", list(Direction))
def test_http_1_0_is_taken_where_the_listener_says_so(direction: Direction) -> None:
    leaf = Listener(
        name="l",
        address="0.0.0.0",
        port=80,
        direction=direction,
        chains=(Chain(name="c", http=HTTP),),
        own=NodeSettings(http10=True),
    )
    for one, accepts in ((leaf, True), (replace(leaf, own=NodeSettings()), False)):
        found = listener.message(one, made.SETTINGS).filter_chains[0].filters[0].typed_config
        options = hcm_pb2.HttpConnectionManager.FromString(found.value).http_protocol_options
        assert options.accept_http_10 is accepts


def test_routes_come_by_name_over_the_stream_or_stand_in_the_chain() -> None:
    assert manager()["rds"] == {
        "route_config_name": "80",
        "config_source": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
    }
    inline = manager(Http(stat_prefix="x", inline=made.table(name="inbound|80||")))
    assert inline["route_config"]["name"] == "inbound|80||"
    assert "rds" not in inline


@pytest.mark.parametrize(
    ("option", "normalize", "merge", "escaped"),
    [
        ("NONE", False, None, "KEEP_UNCHANGED"),
        ("BASE", True, None, "KEEP_UNCHANGED"),
        ("MERGE_SLASHES", True, True, "KEEP_UNCHANGED"),
        ("DECODE_AND_MERGE_SLASHES", True, True, "UNESCAPE_AND_FORWARD"),
    ],
)
def test_paths_are_normalized_as_the_mesh_says(
    option: str, *, normalize: bool, merge: bool | None, escaped: str
) -> None:
    found = manager(settings=MeshSettings(path_normalization=option))
    assert (
        found["normalize_path"],
        found.get("merge_slashes"),
        found["path_with_escaped_slashes_action"],
    ) == (normalize, merge, escaped)


def test_tracing_and_trusted_hops_are_there_where_the_mesh_says_so() -> None:
    settings = MeshSettings(headers=ProxyHeaders(trusted_proxies=2))
    assert manager(settings=settings)["tracing"] == {
        "client_sampling": {"value": 100.0},
        "random_sampling": {"value": 1.0},
        "overall_sampling": {"value": 100.0},
    }
    assert "tracing" not in manager()
    assert "xff_num_trusted_hops" not in manager(settings=settings)
    assert manager(direction=Direction.GATEWAY, settings=settings)["xff_num_trusted_hops"] == 2


def test_a_workloads_chain_takes_clients_of_its_trust_domains() -> None:
    tls = DownstreamTls(workload=True, mutual=True, alpn=("h2", "http/1.1"))
    found = context(tls, MeshSettings(trust_domain_aliases=("old.local",), min_tls_version="TLSV1_3"))
    common = found.common_tls_context
    assert found.require_client_certificate.value
    assert list(common.alpn_protocols) == ["h2", "http/1.1"]
    assert [each.name for each in common.tls_certificate_sds_secret_configs] == ["default"]
    assert common.combined_validation_context.validation_context_sds_secret_config.name == "ROOTCA"
    assert made.shown(common.tls_params)["tls_minimum_protocol_version"] == "TLSv1_3"
    sans = common.combined_validation_context.default_validation_context.match_typed_subject_alt_names
    assert [made.shown(san) for san in sans] == [
        {"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}},
        {"san_type": "URI", "matcher": {"prefix": "spiffe://old.local/"}},
    ]


@pytest.mark.parametrize(("seconds", "expected"), [(30, "30s"), (0, None)])
def test_a_feature_variable_says_how_long_strangers_may_shake_hands(seconds: int, expected: str | None) -> None:
    tls = DownstreamTls(workload=False, mutual=False, alpn=(), certificate_file="/c", key_file="/k")
    chain = Chain(name="c", tls=tls, http=HTTP)
    leaf = Listener(name="l", address="0.0.0.0", port=443, direction=Direction.GATEWAY, chains=(chain,))
    settings = MeshSettings(features=Features(gateway_handshake=timedelta(seconds=seconds), http10=True))
    found = made.shown(listener.message(leaf, settings))["filter_chains"][0]
    assert found.get("transport_socket_connect_timeout") == expected
    assert found["filters"][0]["typed_config"]["http_protocol_options"] == {"accept_http_10": True}


def test_gateway_chains_take_certificates_from_credentials_or_files() -> None:
    simple, mutual, files, _, _, _, mesh = (chain.tls for chain in rich.gateway_listener().chains)
    assert simple
    assert mutual
    assert files
    assert mesh
    params = made.shown(context(simple).common_tls_context.tls_params)
    assert params == {
        "tls_minimum_protocol_version": "TLSv1_2",
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": ["ECDHE-ECDSA-AES128-GCM-SHA256"],
    }
    assert made.shown(context(mutual).common_tls_context)["combined_validation_context"] == {
        "default_validation_context": {
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "client.example"}}]
        },
        "validation_context_sds_secret_config": {
            "name": "kubernetes://web-cert-cacert",
            "sds_config": {"ads": {}, "resource_api_version": "V3"},
        },
    }
    found = context(files).common_tls_context
    assert found.tls_certificate_sds_secret_configs[0].name == "file-cert:/c~/k"
    assert found.combined_validation_context.validation_context_sds_secret_config.name == "file-root:/ca"
    own = context(mesh).common_tls_context.combined_validation_context.default_validation_context
    assert [made.shown(san)["matcher"] for san in own.match_typed_subject_alt_names] == [
        {"exact": "spiffe://x/ns/a/sa/b"}
    ]
    assert shown(rich.gateway_listener())["filter_chains"][0]["transport_socket_connect_timeout"] == "15s"


def test_a_gateway_may_have_a_list_of_revoked_certificates() -> None:
    _, _, files, *_ = (chain.tls for chain in rich.gateway_listener().chains)
    assert files
    found = context(replace(files, crl_file="/crl")).common_tls_context.combined_validation_context
    assert found.default_validation_context.crl.filename == "/crl"


def test_a_gateway_chain_may_have_several_certificates_and_pin_those_of_clients() -> None:
    _, _, _, several, pairs, own, _ = (chain.tls for chain in rich.gateway_listener().chains)
    assert several
    assert pairs
    assert own
    found = context(several)
    assert not found.require_client_certificate.value
    common = found.common_tls_context
    assert [one.name for one in common.tls_certificate_sds_secret_configs] == ["kubernetes://one", "kubernetes://two"]
    validation = common.combined_validation_context
    assert validation.validation_context_sds_secret_config.name == "kubernetes://clients-cacert"
    assert list(validation.default_validation_context.verify_certificate_hash) == ["00" * 32]
    assert len(validation.default_validation_context.verify_certificate_spki) == 1
    files = context(pairs).common_tls_context
    assert [one.name for one in files.tls_certificate_sds_secret_configs] == ["file-cert:/c~/k", "file-cert:/c2~/k2"]
    assert not files.HasField("tls_params")
    any_workload = context(own).common_tls_context
    assert not any_workload.HasField("tls_params")
    default = any_workload.combined_validation_context.default_validation_context
    assert not default.match_typed_subject_alt_names


def test_a_listener_refers_to_routes_clusters_and_secrets() -> None:
    gateway = listener.compile(rich.gateway_listener(), made.QUIET)
    inbound = listener.compile(rich.inbound_listener(), made.QUIET)
    service = listener.compile(rich.outbound_listeners()[1], made.QUIET)
    assert gateway.refs == {
        names.ROUTE: {"9080"},
        names.SECRET: {
            f"kubernetes://{name}" for name in ("web-cert", "web-cert-cacert", "one", "two", "clients-cacert")
        },
    }
    assert inbound.refs == {names.CLUSTER: {made.cluster_name("reviews")}}
    assert service.refs == {names.ROUTE: {"9080"}, names.CLUSTER: {"PassthroughCluster"}}


def test_idle_connections_end_as_the_proxy_says_unless_the_rule_does() -> None:
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    tcp = Tcp(stat_prefix="c", clusters=(WeightedCluster(cluster="c"),))
    leaf = Listener(
        name="l",
        address="0.0.0.0",
        port=80,
        direction=Direction.OUTBOUND,
        chains=(
            Chain(name="http", http=HTTP),
            Chain(name="own", tcp=tcp),
            Chain(name="ruled", tcp=replace(tcp, idle_timeout=hour)),
        ),
        own=NodeSettings(idle_timeout=minute),
    )
    http, own, ruled = listener.message(leaf, made.SETTINGS).filter_chains
    assert made.manager(http).common_http_protocol_options.idle_timeout.seconds == minute.total_seconds()
    assert made.tcp_proxy(own).idle_timeout.seconds == minute.total_seconds()
    assert made.tcp_proxy(ruled).idle_timeout.seconds == hour.total_seconds()


def test_commands_of_mongodb_are_counted_before_they_go_on() -> None:
    tcp = Tcp(stat_prefix="outbound|27017||db", clusters=(WeightedCluster(cluster="c"),), mongo=True)
    leaf = Listener(
        name="l", address="10.0.0.1", port=1, direction=Direction.OUTBOUND, chains=(Chain(name="", tcp=tcp),)
    )
    first, second = map(made.shown, listener.message(leaf, made.SETTINGS).filter_chains[0].filters)
    assert (first["name"], second["name"]) == ("envoy.filters.network.mongo_proxy", "envoy.filters.network.tcp_proxy")
    assert first["typed_config"]["stat_prefix"] == "outbound|27017||db"


@pytest.mark.parametrize("post", [False, True])
def test_a_tunnel_is_asked_for_by_its_target(*, post: bool) -> None:
    leaf = one(Chain(name="", tcp=replace(TCP, tunnel=Tunnel(target="a.com:1", post=post))))
    found = made.tcp_proxy(listener.message(leaf, made.SETTINGS).filter_chains[0]).tunneling_config
    assert (found.hostname, found.use_post) == ("a.com:1", post)
