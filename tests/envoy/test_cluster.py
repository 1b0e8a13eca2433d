"""Clusters: names, discovery, protocols, TLS and policies as Istio writes them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from istiod.envoy import cluster
from istiod.features import Features
from istiod.mesh.families import Families
from istiod.mesh.policy import ConnectionPool, TlsDefaults, TlsMode, TrafficPolicy, Tunnel
from istiod.mesh.proxy_headers import ProxyHeaders
from istiod.mesh.scope import Cluster, Direction, Discovery, UpstreamTls
from istiod.mesh.service import Protocol
from istiod.mesh.settings import MeshSettings
from tests.envoy import made
from wire import names

SECOND = timedelta(seconds=1)
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def shown(leaf: Cluster, settings: MeshSettings = made.SETTINGS) -> dict[str, Any]:
    return made.shown(cluster.message(leaf, settings))


def pooled(**fields: Any) -> TrafficPolicy:
    return TrafficPolicy(connection_pool=ConnectionPool(**fields))


def options(leaf: Cluster, settings: MeshSettings = made.SETTINGS) -> dict[str, Any]:
    """The HTTP options, {} for none."""
    message = cluster.message(leaf, settings)
    found = http_protocol_options_pb2.HttpProtocolOptions()
    message.typed_extension_protocol_options[HTTP].Unpack(found)
    return made.shown(found)


def upstream_context(leaf: Cluster, settings: MeshSettings = made.SETTINGS) -> tls_pb2.UpstreamTlsContext:
    message = cluster.message(leaf, settings)
    socket = message.transport_socket_matches[0].transport_socket if leaf.tls.mode is TlsMode.AUTO else None  # type: ignore[union-attr] # asked of TLS clusters only
    found = tls_pb2.UpstreamTlsContext()
    assert (socket or message.transport_socket).typed_config.Unpack(found)
    return found


def secrets(leaf: Cluster) -> tuple[list[str], str]:
    """SDS names of certificate and root."""
    common = upstream_context(leaf).common_tls_context
    root = common.combined_validation_context.validation_context_sds_secret_config.name
    return [each.name for each in common.tls_certificate_sds_secret_configs], root


def test_a_mesh_service_is_an_eds_cluster_over_the_one_stream() -> None:
    found = shown(made.cluster(subset="v1", origin=made.POLICY))
    assert made.picked(
        found, "name", "alt_stat_name", "type", "lb_policy", "connect_timeout", "common_lb_config", "eds_cluster_config"
    ) == {
        "name": "outbound|9080|v1|reviews.default.svc.cluster.local",
        "alt_stat_name": "outbound|9080|v1|reviews.default.svc.cluster.local;",
        "type": "EDS",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "10s",
        "common_lb_config": {"healthy_panic_threshold": {}},
        "eds_cluster_config": {
            "service_name": "outbound|9080|v1|reviews.default.svc.cluster.local",
            "eds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
        },
    }
    assert found["metadata"]["filter_metadata"]["istio"] == {
        "config": "/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews",
        "services": [{"host": "reviews.default.svc.cluster.local", "name": "reviews", "namespace": "default"}],
        "subset": "v1",
        "service": "reviews.default.svc.cluster.local;reviews;default",
    }


def test_there_is_no_limit_that_nobody_asked_for() -> None:
    assert shown(made.cluster())["circuit_breakers"]["thresholds"] == [
        dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), 4294967295)
    ]


def test_auto_mtls_chooses_the_socket_by_the_endpoints_tls_mode() -> None:
    matches = shown(made.cluster())["transport_socket_matches"]
    assert [(m["name"], m["match"], m["transport_socket"]["name"]) for m in matches] == [
        ("tlsMode-istio", {"tlsMode": "istio"}, "envoy.transport_sockets.tls"),
        ("tlsMode-disabled", {}, "envoy.transport_sockets.raw_buffer"),
    ]
    context = upstream_context(made.cluster())
    assert context.sni == "outbound_.9080_._.reviews.default.svc.cluster.local"
    assert secrets(made.cluster()) == (["default"], "ROOTCA")
    source = made.shown(context.common_tls_context.tls_certificate_sds_secret_configs[0].sds_config)
    assert source["initial_fetch_timeout"] == "0s"
    assert source["api_config_source"]["grpc_services"] == [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    (san,) = validation.match_typed_subject_alt_names
    assert made.shown(san) == {"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/ns/default/sa/reviews"}}


@pytest.mark.parametrize(("mode", "theirs"), [(TlsMode.SIMPLE, True), (TlsMode.ISTIO_MUTUAL, False)])
def test_the_mesh_may_say_what_is_offered_to_servers_outside_of_it(mode: TlsMode, *, theirs: bool) -> None:
    defaults = TlsDefaults(min_version="TLSV1_3", curves=("P-256",), cipher_suites=("AES128-SHA",))
    found = upstream_context(made.cluster(tls=UpstreamTls(mode=mode)), MeshSettings(tls_defaults=defaults))
    said = {"cipher_suites": ["AES128-SHA"], "ecdh_curves": ["P-256"]} if theirs else {}
    versions = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
    assert made.shown(found.common_tls_context.tls_params) == {**versions, **said}


def test_a_name_in_statistics_ends_where_istios_tags_end_it() -> None:
    assert shown(made.cluster(stat_name="reviews.default"))["alt_stat_name"] == "reviews.default;"


@pytest.mark.parametrize(
    ("leaf", "certificates", "root"),
    [
        pytest.param(UpstreamTls(mode=TlsMode.ISTIO_MUTUAL), ["default"], "ROOTCA", id="mesh"),
        pytest.param(UpstreamTls(mode=TlsMode.SIMPLE), [], "file-root:system", id="system roots"),
        pytest.param(UpstreamTls(mode=TlsMode.SIMPLE, ca_certificates="/ca"), [], "file-root:/ca", id="own roots"),
        pytest.param(UpstreamTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True), [], "", id="no verification"),
        pytest.param(
            UpstreamTls(mode=TlsMode.SIMPLE, credential_name="x"), [], "kubernetes://x-cacert", id="roots by credential"
        ),
        pytest.param(
            UpstreamTls(mode=TlsMode.MUTUAL, client_certificate="/c", private_key="/k", ca_certificates="/ca"),
            ["file-cert:/c~/k"],
            "file-root:/ca",
            id="files",
        ),
        pytest.param(
            UpstreamTls(mode=TlsMode.MUTUAL, credential_name="x"),
            ["kubernetes://x"],
            "kubernetes://x-cacert",
            id="credential",
        ),
    ],
)
def test_certificates_and_roots_come_from_where_the_policy_says(
    leaf: UpstreamTls, certificates: list[str], root: str
) -> None:
    assert secrets(made.cluster(tls=leaf)) == (certificates, root)


@pytest.mark.parametrize(("file", "crl"), [("/crl", {"filename": "/crl"}), ("", None)])
def test_revoked_certificates_are_refused_by_a_list_in_a_file(file: str, crl: dict[str, str] | None) -> None:
    leaf = UpstreamTls(mode=TlsMode.SIMPLE, ca_certificates="/ca", ca_crl=file)
    found = upstream_context(made.cluster(tls=leaf)).common_tls_context.combined_validation_context
    assert made.shown(found.default_validation_context).get("crl") == crl


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("spiffe://a/ns/b/sa/c", "URI"),
        ("a.example", "DNS"),
        ("a@example.com", "EMAIL"),
        ("10.0.0.1", "IP_ADDRESS"),
    ],
)
def test_a_subject_alternative_name_is_matched_as_what_it_is(name: str, kind: str) -> None:
    context = upstream_context(made.cluster(tls=UpstreamTls(mode=TlsMode.SIMPLE, subject_alt_names=(name,))))
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    assert [made.shown(san)["san_type"] for san in validation.match_typed_subject_alt_names] == [kind]


@pytest.mark.parametrize(
    ("changes", "alpn"),
    [
        ({"protocol": Protocol.HTTP}, ["istio-http/1.1", "istio", "http/1.1"]),
        ({"protocol": Protocol.GRPC}, ["istio-h2", "istio", "h2"]),
        ({"protocol": Protocol.TCP}, ["istio-peer-exchange", "istio"]),
        ({"protocol": Protocol.UNSUPPORTED, "downstream_protocol": True}, ["istio-peer-exchange", "istio"]),
        ({"policy": pooled(h2_upgrade=True)}, ["istio-h2", "istio", "h2"]),
        ({"protocol": Protocol.HTTP2, "tls": UpstreamTls(mode=TlsMode.SIMPLE)}, ["h2"]),
        ({"protocol": Protocol.HTTP, "tls": UpstreamTls(mode=TlsMode.SIMPLE)}, []),
    ],
)
def test_what_a_client_offers_tells_the_protocol_inside(changes: dict[str, Any], alpn: list[str]) -> None:
    assert list(upstream_context(made.cluster(**changes)).common_tls_context.alpn_protocols) == alpn


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"protocol": Protocol.GRPC}, {"explicit_http_config": {"http2_protocol_options": {}}}),
        (
            {"downstream_protocol": True},
            {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}},
        ),
        (
            {"policy": pooled(use_client_protocol=True), "protocol": Protocol.HTTP2},
            {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}},
        ),
        (
            {"policy": pooled(http_idle_timeout=SECOND, max_requests_per_connection=2, max_connection_duration=SECOND)},
            {
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {
                    "idle_timeout": "1s",
                    "max_requests_per_connection": 2,
                    "max_connection_duration": "1s",
                },
            },
        ),
        (
            {
                "protocol": Protocol.HTTP2,
                "policy": pooled(
                    max_concurrent_streams=7, http2_keepalive_interval=SECOND, http2_keepalive_timeout=SECOND
                ),
            },
            {
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "max_concurrent_streams": 7,
                        "connection_keepalive": {"interval": "1s", "timeout": "1s"},
                    }
                }
            },
        ),
        (
            {"tls": UpstreamTls(mode=TlsMode.SIMPLE)},
            {
                "explicit_http_config": {"http_protocol_options": {}},
                "upstream_http_protocol_options": {"auto_sni": True, "auto_san_validation": True},
            },
        ),
        (
            {"tls": UpstreamTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True)},
            {
                "explicit_http_config": {"http_protocol_options": {}},
                "upstream_http_protocol_options": {"auto_sni": True},
            },
        ),
        ({"tls": UpstreamTls(mode=TlsMode.MUTUAL, sni="x")}, {}),
    ],
)
def test_http_options_are_there_only_where_envoys_defaults_do_not_hold(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert options(made.cluster(**changes)) == expected


def test_the_mesh_may_upgrade_every_http_cluster_and_a_policy_may_refuse() -> None:
    upgrading = MeshSettings(h2_upgrade=True)
    assert options(made.cluster(), upgrading) == {"explicit_http_config": {"http2_protocol_options": {}}}
    assert options(made.cluster(policy=pooled(h2_upgrade=False)), upgrading) == {}
    assert options(made.cluster(protocol=Protocol.HTTPS), upgrading) == {}
    assert options(made.cluster(direction=Direction.INBOUND), upgrading) == {}


@pytest.mark.parametrize(
    ("discovery", "families", "lookup"),
    [
        (Discovery.STRICT_DNS, Families.IPV4, "V4_ONLY"),
        (Discovery.LOGICAL_DNS, Families.IPV6, "V6_ONLY"),
        (Discovery.LOGICAL_DNS, Families.DUAL, "ALL"),
    ],
)
def test_dns_clusters_hold_their_names_and_refresh_as_the_mesh_says(
    discovery: Discovery, families: Families, lookup: str
) -> None:
    named = (made.endpoint("api.example", tls=False),)
    leaf = made.cluster(discovery=discovery, query=None, endpoints=named, tls=None, families=families)
    found = shown(leaf, MeshSettings(dns_refresh_rate=5 * SECOND))
    assert made.picked(found, "type", "dns_lookup_family", "dns_refresh_rate", "dns_jitter", "respect_dns_ttl") == {
        "type": discovery.value,
        "dns_lookup_family": lookup,
        "dns_refresh_rate": "5s",
        "dns_jitter": "0.100s",
        "respect_dns_ttl": True,
    }
    (group,) = found["load_assignment"]["endpoints"]
    assert group["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] == {
        "address": "api.example",
        "port_value": 9080,
    }


def test_feature_variables_say_how_names_are_looked_up() -> None:
    named = (made.endpoint("api.example", tls=False),)
    leaf = made.cluster(discovery=Discovery.STRICT_DNS, query=None, endpoints=named, tls=None)
    found = shown(leaf, MeshSettings(features=Features(dns_jitter=0 * SECOND, dns_queries=0)))
    assert "dns_jitter" not in found
    assert found["typed_dns_resolver_config"]["typed_config"]["udp_max_queries"] == 0
    assert shown(leaf)["typed_dns_resolver_config"]["typed_config"]["udp_max_queries"] == 100


def test_inbound_traffic_goes_on_to_its_address_from_the_bind_address() -> None:
    leaf = Cluster(
        name="inbound|9080||",
        discovery=Discovery.ORIGINAL_DST,
        direction=Direction.INBOUND,
        port=9080,
        bind_addresses=("127.0.0.6", "::6"),
    )
    found = shown(leaf)
    assert made.picked(found, "type", "lb_policy", "upstream_bind_config", "cleanup_interval") == {
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "upstream_bind_config": {
            "source_address": {"address": "127.0.0.6", "port_value": 0},
            "extra_source_addresses": [{"address": {"address": "::6", "port_value": 0}}],
        },
        "cleanup_interval": "9223372035s",
    }
    assert found["metadata"]["filter_metadata"]["istio"]["service"].startswith(";")
    assert "cleanup_interval" not in shown(replace(leaf, port=0))


def test_the_app_itself_is_the_only_endpoint_of_an_inbound_cluster() -> None:
    app = made.endpoint("127.0.0.1", tls=False)
    leaf = Cluster(name="inbound|80||", discovery=Discovery.STATIC, direction=Direction.INBOUND, endpoints=(app,))
    found = shown(leaf)
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 9080}}
    assert found["load_assignment"] == {
        "cluster_name": "inbound|80||",
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    }
    assert "lb_policy" not in found


def test_the_app_may_listen_on_another_port_of_that_address() -> None:
    leaf = Cluster(
        name="inbound|9080||", discovery=Discovery.ORIGINAL_DST, direction=Direction.INBOUND, port_override=8080
    )
    assert shown(leaf)["original_dst_lb_config"] == {"upstream_port_override": 8080}


def test_the_black_hole_has_nothing_but_its_name() -> None:
    leaf = Cluster(name="BlackHoleCluster", discovery=Discovery.STATIC, direction=Direction.OUTBOUND)
    assert shown(leaf) == {
        "name": "BlackHoleCluster",
        "alt_stat_name": "BlackHoleCluster;",
        "type": "STATIC",
        "connect_timeout": "10s",
        "metadata": {"filter_metadata": {"istio": {"service": ";BlackHoleCluster;"}}},
    }


def test_a_proxy_protocol_header_goes_before_whatever_the_socket_speaks() -> None:
    auto = cluster.message(made.cluster(policy=TrafficPolicy(proxy_protocol="V1")), made.SETTINGS)
    plain = cluster.message(made.cluster(tls=None, policy=TrafficPolicy(proxy_protocol="V2")), made.SETTINGS)
    sockets = [*(m.transport_socket for m in auto.transport_socket_matches), plain.transport_socket]
    found = [
        upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport.FromString(s.typed_config.value) for s in sockets
    ]
    assert [(each.config.version, each.transport_socket.name.rpartition(".")[2]) for each in found] == [
        (0, "tls"),
        (0, "raw_buffer"),
        (1, "raw_buffer"),
    ]


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        (None, set()),
        (UpstreamTls(mode=TlsMode.ISTIO_MUTUAL), set()),
        (UpstreamTls(mode=TlsMode.SIMPLE, credential_name="x"), {"kubernetes://x-cacert"}),
        (UpstreamTls(mode=TlsMode.MUTUAL, credential_name="x"), {"kubernetes://x", "kubernetes://x-cacert"}),
        (UpstreamTls(mode=TlsMode.MUTUAL, credential_name="x", insecure_skip_verify=True), {"kubernetes://x"}),
    ],
)
def test_a_cluster_refers_to_its_endpoints_and_to_the_secrets_that_we_serve(
    tls: UpstreamTls | None, expected: set[str]
) -> None:
    found = cluster.compile(made.cluster(tls=tls), made.SETTINGS)
    assert found.refs.get(names.SECRET, frozenset()) == expected
    assert found.refs[names.ENDPOINT] == {made.cluster_name("reviews")}
    assert not cluster.compile(made.cluster(discovery=Discovery.STATIC, query=None, tls=None), made.SETTINGS).refs


def test_opaque_clusters_of_sidecars_speak_what_a_draining_http_chain_speaks() -> None:
    follows = {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}
    inbound = made.cluster(protocol=Protocol.REDIS, direction=Direction.INBOUND, tls=None)
    assert options(made.cluster(protocol=Protocol.TCP)) == options(inbound) == follows
    assert options(made.cluster(protocol=Protocol.TCP, tls=UpstreamTls(mode=TlsMode.SIMPLE, sni="x"))) == {}
    assert options(made.cluster(protocol=Protocol.TCP, direction=Direction.GATEWAY)) == {}
    assert options(made.cluster(protocol=Protocol.TCP, services=())) == {}
    assert options(made.cluster(protocol=Protocol.TCP, policy=TrafficPolicy(tunnel=Tunnel(target="a:1")))) == {}


def test_names_of_headers_keep_their_case_where_the_mesh_says_so() -> None:
    settings = MeshSettings(headers=ProxyHeaders(preserve_case=True))
    plain = options(made.cluster(protocol=Protocol.HTTP), settings)["explicit_http_config"]["http_protocol_options"]
    followed = options(made.cluster(downstream_protocol=True), settings)["use_downstream_protocol_config"]
    for found in (plain, followed["http_protocol_options"]):
        assert found["header_key_format"]["stateful_formatter"]["name"] == "preserve_case"
