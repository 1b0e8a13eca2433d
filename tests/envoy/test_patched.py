"""What each operation of an EnvoyFilter does to clusters and routes, and which values are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format

from istiod.envoy import patch_values, patched
from istiod.envoy.patched import GATEWAY, INBOUND, OUTBOUND
from tests.envoy.patching import (
    UPSTREAM_TLS,
    index,
    message,
    patch,
    patches,
    plain,
    socket,
)


def cluster(name: str, *said: dict[str, Any], hosts: tuple[str, ...] = (), **fields: Any) -> dict[str, Any] | None:
    given = json_format.ParseDict({"name": name, **fields}, cluster_pb2.Cluster())
    kept = patched.cluster(given, hosts, patches(*said, context=INBOUND if name.startswith("inbound") else OUTBOUND))
    return plain(given) if kept else None


@pytest.mark.parametrize(
    ("name", "match", "meant"),
    [
        ("outbound|80|v1|web", {}, True),
        ("outbound|80|v1|web", {"service": "web", "subset": "v1", "portNumber": 80}, True),
        ("outbound_.80_.v1_.web", {"service": "web", "subset": "v1", "portNumber": 80}, True),
        ("outbound|80|v1|web", {"service": "other"}, False),
        ("outbound|80|v1|web", {"subset": "v2"}, False),
        ("outbound|80|v1|web", {"portNumber": 81}, False),
        ("outbound|80|v1|web", {"name": "outbound|80|v1|web"}, True),
        ("outbound|80|v1|web", {"name": "BlackHoleCluster"}, False),
        ("BlackHoleCluster", {"portNumber": 80}, False),
        ("BlackHoleCluster", {}, True),
        ("inbound|8080||", {"service": "web.default", "portNumber": 8080}, True),
        ("inbound|8080||", {"service": "other"}, False),
    ],
)
def test_clusters_are_found_by_their_names(name: str, match: dict[str, Any], *, meant: bool) -> None:
    said = patch("CLUSTER", "MERGE", {"connect_timeout": "3s"}, cluster=match)
    found = cluster(name, said, hosts=("web.default",) if name.startswith("inbound") else ())
    assert found is not None
    assert ("connectTimeout" in found) == meant


def test_a_removed_cluster_is_gone_whatever_follows() -> None:
    merge = patch("CLUSTER", "MERGE", {"connect_timeout": "3s"})
    assert cluster("a", patch("CLUSTER", "REMOVE"), merge) is None
    assert cluster("a", patch("CLUSTER", "REMOVE", cluster={"name": "b"}), merge) is not None


def test_a_duration_is_replaced_whole_and_lists_grow_or_are_replaced() -> None:
    thresholds = {"circuit_breakers": {"thresholds": [{"max_retries": 1}]}}
    more = {"connect_timeout": "2s", "circuit_breakers": {"thresholds": [{"max_retries": 2}]}}
    fields = {"connect_timeout": "1.5s", **thresholds}
    found = cluster("a", patch("CLUSTER", "MERGE", more), **fields)
    assert found == {
        "name": "a",
        "connectTimeout": "2s",
        "circuitBreakers": {"thresholds": [{"maxRetries": 1}, {"maxRetries": 2}]},
    }
    found = cluster("a", patch("CLUSTER", "MERGE_AND_REPLACE_LIST", more), **fields)
    assert found is not None
    assert found["circuitBreakers"] == {"thresholds": [{"maxRetries": 2}]}


def test_map_entries_are_replaced_and_empty_messages_are_said() -> None:
    struct = {"filter_metadata": {"a": {"x": 1}, "b": {"y": 2}}}
    given = {"metadata": struct, "http2_protocol_options": {}}
    found = cluster("c", patch("CLUSTER", "MERGE", given), metadata={"filter_metadata": {"a": {"z": 3}, "k": {"v": 4}}})
    assert found is not None
    assert found["metadata"]["filterMetadata"] == {"a": {"x": 1.0}, "b": {"y": 2.0}, "k": {"v": 4.0}}
    assert found["http2ProtocolOptions"] == {}
    route = message(route_pb2.RouteConfiguration, "{virtualHosts: [{name: a, routes: [{name: r}]}]}")
    runtime = {"route": {"host_rewrite_literal": "x", "metadata_match": {"filter_metadata": {"envoy.lb": {}}}}}
    patched.table(route, patches(patch("HTTP_ROUTE", "MERGE", runtime)), {})
    assert route.virtual_hosts[0].routes[0].route.host_rewrite_literal == "x"


def test_maps_of_plain_values_take_new_entries() -> None:
    said = patch("CLUSTER", "MERGE", {"load_balancing_policy": {}, "lb_subset_config": {"default_subset": {"a": "b"}}})
    found = cluster("c", said, lb_subset_config={"default_subset": {"k": "v"}})
    assert found is not None
    assert found["lbSubsetConfig"]["defaultSubset"] == {"a": "b", "k": "v"}


SNI = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": UPSTREAM_TLS, "sni": "x"}}


def test_tls_of_a_cluster_is_merged_into_the_socket_of_its_name() -> None:
    said = patch("CLUSTER", "MERGE", {"transport_socket": socket("TLSv1_3"), "connect_timeout": "9s"})
    found = cluster("a", said, transport_socket=SNI)
    assert found is not None
    config = found["transportSocket"]["typedConfig"]
    assert (config["sni"], config["commonTlsContext"]["tlsParams"]) == ("x", {"tlsMaximumProtocolVersion": "TLSv1_3"})
    assert "connectTimeout" not in found
    matches = [{"name": "m", "transport_socket": {"name": "raw"}}, {"name": "t", "transport_socket": SNI}]
    found = cluster("a", said, transport_socket_matches=matches)
    assert found is not None
    config = found["transportSocketMatches"][1]["transportSocket"]["typedConfig"]
    assert (config["sni"], config["commonTlsContext"]["tlsParams"]) == ("x", {"tlsMaximumProtocolVersion": "TLSv1_3"})
    other = patch("CLUSTER", "MERGE", {"transport_socket": socket("TLSv1_3", "another")})
    found = cluster("a", other, transport_socket=SNI)
    assert found is not None
    assert found["transportSocket"]["name"] == "another"
    assert cluster("a", other, transport_socket_matches=matches) == cluster("a", transport_socket_matches=matches)


def test_added_clusters_are_of_their_context_and_not_twice_on_a_sidecar() -> None:
    said = [
        patch("CLUSTER", "ADD", {"name": "any"}),
        patch("CLUSTER", "ADD", {"name": "in"}, context="SIDECAR_INBOUND"),
        patch("CLUSTER", "MERGE", {"name": "none"}),
    ]
    added = {
        context: [
            one.value.name
            for one in patches(*said, context=context).added("CLUSTER")
            if isinstance(one.value, cluster_pb2.Cluster)
        ]
        for context in (OUTBOUND, INBOUND, GATEWAY)
    }
    assert added == {OUTBOUND: ["any"], INBOUND: ["in"], GATEWAY: ["any"]}


TABLE = """
name: "80"
virtualHosts:
- name: web:80
  domains: [web, web.default]
  routes:
  - {name: r1, route: {cluster: a}}
  - {name: r2, redirect: {hostRedirect: b}}
  - {name: r3, directResponse: {status: 200}}
- name: other:80
  routes: [{name: r1, route: {cluster: c}}, {name: bare}]
"""


def table(
    *said: dict[str, Any], context: str = OUTBOUND, name: str = "80", ports: Mapping[int, Any] | None = None
) -> Any:
    given = message(route_pb2.RouteConfiguration, TABLE)
    given.name = name
    patched.table(given, patches(*said, context=context), ports or {})
    return given


def routes(*said: dict[str, Any]) -> list[list[str]]:
    return [[route.name for route in host.routes] for host in table(*said).virtual_hosts]


@pytest.mark.parametrize(
    ("context", "name", "match", "meant"),
    [
        (OUTBOUND, "80", {}, True),
        (OUTBOUND, "80", {"portNumber": 80}, True),
        (OUTBOUND, "80", {"portNumber": 81}, False),
        (OUTBOUND, "80", {"name": "80"}, True),
        (OUTBOUND, "80", {"name": "81"}, False),
        (OUTBOUND, "web:80", {"portNumber": 80}, False),
        (INBOUND, "inbound|8080||", {"portNumber": 8080}, True),
        (INBOUND, "inbound|8080||", {"portNumber": 80}, False),
        (GATEWAY, "http.8080", {"portNumber": 80}, True),
        (GATEWAY, "http.8080", {"portNumber": 8080}, False),
        (GATEWAY, "http.9090", {"portNumber": 9090}, True),
        (GATEWAY, "http.8080", {"gateway": "ns/gw"}, False),
        (GATEWAY, "https.8443.web.gw.ns", {"portName": "web", "gateway": "ns/gw", "portNumber": 8443}, True),
        (GATEWAY, "https.8443.web.gw.ns", {"portName": "other"}, False),
        (GATEWAY, "https.8443", {"portNumber": 8443}, True),
        (GATEWAY, "strange", {"portNumber": 80}, False),
    ],
)
def test_tables_are_found_by_port_and_gateway(context: str, name: str, match: dict[str, Any], *, meant: bool) -> None:
    said = patch("ROUTE_CONFIGURATION", "MERGE", {"internal_only_headers": ["x"]}, routeConfiguration=match)
    given = table(said, context=context, name=name, ports={8080: frozenset({80})})
    assert list(given.internal_only_headers) == ["x"] * meant


def test_only_merges_apply_to_whole_tables() -> None:
    assert table(patch("ROUTE_CONFIGURATION", "REMOVE")) == table()


def host(**match: object) -> dict[str, Any]:
    return {"routeConfiguration": {"vhost": match}}


def test_virtual_hosts_are_merged_replaced_removed_and_added() -> None:
    new = {"name": "new", "domains": ["*"]}

    def hosts(*said: dict[str, Any]) -> list[str]:
        return [one.name for one in table(*said).virtual_hosts]

    assert hosts(patch("VIRTUAL_HOST", "REMOVE", **host(name="web:80"))) == ["other:80"]
    assert hosts(patch("VIRTUAL_HOST", "REMOVE", **host(domainName="web"))) == ["other:80"]
    assert hosts(patch("VIRTUAL_HOST", "REPLACE", new, **host(name="web:80"))) == ["new", "other:80"]
    assert hosts(patch("VIRTUAL_HOST", "ADD", new)) == ["web:80", "other:80", "new"]
    merged = table(patch("VIRTUAL_HOST", "MERGE", {"domains": ["more"]}, **host(name="web:80"))).virtual_hosts
    assert [list(one.domains) for one in merged] == [["web", "web.default", "more"], []]


@pytest.mark.parametrize(
    ("operation", "route", "web"),
    [
        ("ADD", None, ["r1", "r2", "r3", "n"]),
        ("INSERT_FIRST", None, ["n", "r1", "r2", "r3"]),
        ("INSERT_BEFORE", None, ["n", "r1", "r2", "r3"]),
        ("INSERT_AFTER", None, ["r1", "r2", "r3", "n"]),
        ("INSERT_FIRST", {"name": "r2"}, ["n", "r1", "r2", "r3"]),
        ("INSERT_FIRST", {"name": "none"}, ["r1", "r2", "r3"]),
        ("INSERT_BEFORE", {"name": "r2"}, ["r1", "n", "r2", "r3"]),
        ("INSERT_AFTER", {"name": "r2"}, ["r1", "r2", "n", "r3"]),
        ("INSERT_AFTER", {"name": "none"}, ["r1", "r2", "r3"]),
        ("REMOVE", {"name": "r2"}, ["r1", "r3"]),
        ("REMOVE", {"action": "ROUTE"}, ["r2", "r3"]),
        ("REMOVE", {"action": "REDIRECT"}, ["r1", "r3"]),
        ("REMOVE", {"action": "DIRECT_RESPONSE"}, ["r1", "r2"]),
        ("REMOVE", {"action": "ANY"}, []),
        ("REPLACE", {"name": "r2"}, ["r1", "r2", "r3"]),
    ],
)
def test_routes_are_put_where_they_belong(operation: str, route: dict[str, str] | None, web: list[str]) -> None:
    match = host(name="web:80") if route is None else host(name="web:80", route=route)
    value = None if operation == "REMOVE" else {"name": "n"}
    assert routes(patch("HTTP_ROUTE", operation, value, **match)) == [web, ["r1", "bare"]]


def test_a_route_is_merged_where_it_is_named() -> None:
    said = patch("HTTP_ROUTE", "MERGE", {"route": {"timeout": "9s"}}, **host(route={"action": "ROUTE", "name": "r1"}))
    given = table(said)
    assert [[plain(r).get("route", {}).get("timeout") for r in h.routes] for h in given.virtual_hosts] == [
        ["9s", None, None],
        ["9s", None],
    ]


def test_values_that_are_not_envoys_are_reported_and_have_no_effect() -> None:
    said = [
        patch("CLUSTER", "MERGE", {"name": 3}),
        patch("CLUSTER", "MERGE", {"connect_timeout": "1s", "nonsense": 1}),
        patch("HTTP_FILTER", "ADD", {"name": "x", "typed_config": {"@type": "type.googleapis.com/some.Own", "a": [1]}}),
        patch("CLUSTER", "REMOVE", cluster={"name": "b"}),
    ]
    found = list(patch_values.findings(index(*said)))
    assert [(one.code.name, one.field) for one in found] == [
        ("BAD_VALUE", "spec.configPatches[0].patch.value"),
        ("UNKNOWN_FIELD", "spec.configPatches[1].patch.value"),
    ]
    assert cluster("a", *said) == {"name": "a", "connectTimeout": "1s"}


@pytest.mark.parametrize("kind", [["a/b"], {}, 1, True])
def test_a_type_that_is_no_text_is_reported(kind: object) -> None:
    said = patch("HTTP_FILTER", "ADD", {"name": "x", "typed_config": {"@type": kind}})
    (found,) = patch_values.findings(index(said))
    assert found.message.endswith(".HttpFilter: @type is no text")


@pytest.mark.parametrize(
    "name",
    [
        "some.Own",
        "envoy.extensions.filters.http.lua.v3.Nonsense",
        "envoy.extensions.filters.http.nonsense.v3.Lua",
        "envoy.extensions.filters.http.lua.v3.lua_pb2.Lua",
        "antigravity.v3.X",
    ],
)
def test_types_that_nobody_published_go_to_envoy_as_typed_structs(name: str) -> None:
    config = {"@type": f"type.googleapis.com/{name}", "inner": {"a": 1}}
    (one,) = patches(patch("HTTP_FILTER", "ADD", {"name": "x", "typed_config": config})).of("HTTP_FILTER")
    assert plain(one.value)["typedConfig"] == {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "typeUrl": f"type.googleapis.com/{name}",
        "value": {"inner": {"a": 1.0}},
    }
