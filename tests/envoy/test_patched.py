"""What each operation of an EnvoyFilter does to clusters, routes, listeners and filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from crds import parse
from istiod.config.store import ConfigStore
from istiod.envoy import patch_values, patched, patched_listeners
from istiod.envoy.patched import GATEWAY, INBOUND, OUTBOUND, Patches
from istiod.mesh import envoy_filters
from istiod.mesh.envoy_filters import EnvoyFilterIndex, PatchSet

MANAGER = "envoy.filters.network.http_connection_manager"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
URL = "type.googleapis.com/"
UPSTREAM_TLS = URL + tls_pb2.UpstreamTlsContext.DESCRIPTOR.full_name
DOWNSTREAM_TLS = URL + tls_pb2.DownstreamTlsContext.DESCRIPTOR.full_name
INSPECTOR = URL + tls_inspector_pb2.TlsInspector.DESCRIPTOR.full_name
LUA = URL + lua_pb2.Lua.DESCRIPTOR.full_name
TYPED_STRUCT = "type.googleapis.com/udpa.type.v1.TypedStruct"


def index(*said: dict[str, Any]) -> EnvoyFilterIndex:
    meta = {"name": "patch", "namespace": "default"}
    kind = {"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter"}
    parsed = parse.parse({**kind, "metadata": meta, "spec": {"configPatches": list(said)}})
    assert parsed.object is not None, parsed.diagnostics
    store = ConfigStore()
    store.apply(parsed.object)
    return envoy_filters.build(store.snapshot(), "istio-system", EnvoyFilterIndex())


def patches(*said: dict[str, Any], context: str = OUTBOUND) -> Patches:
    (one,) = index(*said).all()
    return Patches(PatchSet(patches=one.patches), context)


def patch(apply_to: str, operation: str, value: object = None, **match: object) -> dict[str, Any]:
    found = {"operation": operation} if value is None else {"operation": operation, "value": value}
    return {"applyTo": apply_to, "match": match, "patch": found}


def message(kind: type[Message], text: str) -> Any:
    return json_format.ParseDict(yaml.safe_load(text), kind())


def plain(given: Message) -> dict[str, Any]:
    return json_format.MessageToDict(given)


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


def socket(version: str, name: str = "envoy.transport_sockets.tls", kind: str = UPSTREAM_TLS) -> dict[str, Any]:
    params = {"tls_params": {"tls_maximum_protocol_version": version}}
    return {"name": name, "typed_config": {"@type": kind, "common_tls_context": params}}


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
        context: [one.value.name for one in patches(*said, context=context).added("CLUSTER")]  # type: ignore[attr-defined]
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


LISTENER = f"""
name: 0.0.0.0_80
address: {{socketAddress: {{address: 0.0.0.0, portValue: 80}}}}
listenerFilters:
- {{name: tls}}
- name: http
  typedConfig:
    "@type": {INSPECTOR}
filterChains:
- name: one
  filterChainMatch:
    {{destinationPort: 80, serverNames: [a.com], transportProtocol: tls, applicationProtocols: [h2, "http/1.1"]}}
  transportSocket: {{name: tls, typedConfig: {{"@type": {DOWNSTREAM_TLS}}}}}
  filters:
  - name: first
  - name: {MANAGER}
    typedConfig:
      "@type": {HCM}
      statPrefix: p
      httpFilters: [{{name: fault}}, {{name: router, typedConfig: {{"@type": {LUA}, inlineCode: a}}}}]
defaultFilterChain: {{name: last, filters: [{{name: first}}]}}
"""


def listener(*said: dict[str, Any], context: str = OUTBOUND, name: str = "0.0.0.0_80") -> Any:
    given = message(listener_pb2.Listener, LISTENER)
    given.name = name
    return given if patched_listeners.listener(given, patches(*said, context=context)) else None


def at(**match: object) -> dict[str, Any]:
    return {"listener": match}


@pytest.mark.parametrize(
    ("name", "match", "meant"),
    [
        ("0.0.0.0_80", {}, True),
        ("0.0.0.0_80", {"name": "0.0.0.0_80", "portNumber": 80}, True),
        ("0.0.0.0_80", {"name": "other"}, False),
        ("0.0.0.0_80", {"portNumber": 81}, False),
        ("virtualInbound", {"portNumber": 81}, False),
    ],
)
def test_listeners_are_found_by_name_and_port(name: str, match: dict[str, Any], *, meant: bool) -> None:
    assert (listener(patch("LISTENER", "REMOVE", **at(**match)), name=name) is None) == meant
    given = listener(patch("LISTENER", "MERGE", {"stat_prefix": "x"}, **at(**match)), name=name)
    assert (given.stat_prefix == "x") == meant


@pytest.mark.parametrize(
    ("name", "match", "meant"),
    [
        ("0.0.0.0_80", {}, True),
        ("0.0.0.0_80", {"name": "one"}, True),
        ("0.0.0.0_80", {"name": "two"}, False),
        ("0.0.0.0_80", {"sni": "a.com"}, True),
        ("0.0.0.0_80", {"sni": "b.com"}, False),
        ("0.0.0.0_80", {"transportProtocol": "tls"}, True),
        ("0.0.0.0_80", {"transportProtocol": "raw_buffer"}, False),
        ("0.0.0.0_80", {"applicationProtocols": "h2,http/1.1"}, True),
        ("0.0.0.0_80", {"applicationProtocols": "h2,h3"}, False),
        ("0.0.0.0_80", {"destinationPort": 80}, True),
        ("0.0.0.0_80", {"destinationPort": 81}, False),
    ],
)
def test_chains_are_found_by_what_they_match(name: str, match: dict[str, Any], *, meant: bool) -> None:
    given = listener(patch("FILTER_CHAIN", "REMOVE", **at(filterChain=match)), name=name)
    assert [chain.name for chain in given.filter_chains] == ["one"] * (not meant)
    assert given.HasField("default_filter_chain") == bool(match)


def test_ports_of_virtual_listeners_are_their_chains() -> None:
    remove = patch("FILTER_CHAIN", "REMOVE", **at(portNumber=81))
    assert len(listener(remove, name="virtualInbound").filter_chains) == 1
    remove = patch("FILTER_CHAIN", "REMOVE", **at(portNumber=80))
    given = listener(remove, name="virtualInbound")
    assert (len(given.filter_chains), given.HasField("default_filter_chain")) == (0, True)


def test_chains_are_added_and_merged() -> None:
    given = listener(patch("FILTER_CHAIN", "ADD", {"name": "new"}), patch("FILTER_CHAIN", "ADD", {}, **at(name="no")))
    assert [chain.name for chain in given.filter_chains] == ["one", "new"]
    given = listener(patch("FILTER_CHAIN", "MERGE", {"metadata": {}}, **at(filterChain={"name": "one"})))
    assert given.filter_chains[0].HasField("metadata")
    tls = {"transport_socket": socket("TLSv1_3", "tls", DOWNSTREAM_TLS)}
    given = listener(patch("FILTER_CHAIN", "MERGE", tls))
    config = plain(given.filter_chains[0])["transportSocket"]["typedConfig"]
    assert config["commonTlsContext"]["tlsParams"] == {"tlsMaximumProtocolVersion": "TLSv1_3"}
    assert given.default_filter_chain.transport_socket.name == "tls"


@pytest.mark.parametrize(
    ("operation", "named", "order"),
    [
        ("ADD", "tls", ["tls", "http", "n"]),
        ("INSERT_FIRST", "tls", ["n", "tls", "http"]),
        ("INSERT_BEFORE", "", ["n", "tls", "http"]),
        ("INSERT_AFTER", "", ["tls", "http", "n"]),
        ("INSERT_BEFORE", "http", ["tls", "n", "http"]),
        ("INSERT_AFTER", "tls", ["tls", "n", "http"]),
        ("REPLACE", "tls", ["n", "http"]),
        ("REPLACE", "", ["tls", "http"]),
        ("REMOVE", "tls", ["http"]),
        ("REMOVE", "", ["tls", "http"]),
        ("REPLACE", "none", ["tls", "http"]),
        ("MERGE", "http", ["tls", "n"]),
        ("MERGE", "tls", ["tls", "http"]),
    ],
)
def test_listener_filters(operation: str, named: str, order: list[str]) -> None:
    value = None if operation == "REMOVE" else {"name": "n"}
    given = listener(patch("LISTENER_FILTER", operation, value, **at(listenerFilter=named)))
    assert [one.name for one in given.listener_filters] == order
    away = listener(patch("LISTENER_FILTER", operation, value, **at(listenerFilter=named, portNumber=81)))
    assert [one.name for one in away.listener_filters] == ["tls", "http"]


def in_chain(name: str, inside: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name} if inside is None else {"name": name, "subFilter": {"name": inside}}
    return at(filterChain={"filter": found})


@pytest.mark.parametrize(
    ("operation", "named", "order"),
    [
        ("ADD", "first", ["first", MANAGER, "n"]),
        ("INSERT_FIRST", "first", ["n", "first", MANAGER]),
        ("INSERT_BEFORE", "", ["n", "first", MANAGER]),
        ("INSERT_AFTER", "", ["first", MANAGER, "n"]),
        ("INSERT_BEFORE", MANAGER, ["first", "n", MANAGER]),
        ("INSERT_AFTER", "first", ["first", "n", MANAGER]),
        ("REPLACE", "first", ["n", MANAGER]),
        ("REMOVE", "first", [MANAGER]),
    ],
)
def test_network_filters(operation: str, named: str, order: list[str]) -> None:
    value = None if operation == "REMOVE" else {"name": "n"}
    given = listener(patch("NETWORK_FILTER", operation, value, **(in_chain(named) if named else {})))
    assert [one.name for one in given.filter_chains[0].filters] == order


def manager(*said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = plain(listener(*said).filter_chains[0].filters[-1])["typedConfig"]
    return found


@pytest.mark.parametrize(
    ("operation", "inside", "order"),
    [
        ("ADD", "router", ["fault", "router", "n"]),
        ("INSERT_FIRST", "router", ["n", "fault", "router"]),
        ("INSERT_BEFORE", None, ["n", "fault", "router"]),
        ("INSERT_AFTER", None, ["fault", "router", "n"]),
        ("INSERT_BEFORE", "router", ["fault", "n", "router"]),
        ("INSERT_AFTER", "fault", ["fault", "n", "router"]),
        ("INSERT_AFTER", "none", ["fault", "router"]),
        ("REPLACE", "fault", ["n", "router"]),
        ("REMOVE", "fault", ["router"]),
        ("REMOVE", None, ["fault", "router"]),
        ("MERGE", "router", ["fault", "n"]),
    ],
)
def test_http_filters(operation: str, inside: str | None, order: list[str]) -> None:
    value = None if operation == "REMOVE" else {"name": "n"}
    found = manager(patch("HTTP_FILTER", operation, value, **in_chain(MANAGER, inside)))
    assert [one["name"] for one in found["httpFilters"]] == order


def test_http_filters_without_a_match_are_meant_everywhere() -> None:
    found = manager(patch("HTTP_FILTER", "INSERT_FIRST", {"name": "n"}))
    assert [one["name"] for one in found["httpFilters"]] == ["n", "fault", "router"]


def test_a_filter_is_merged_as_what_it_is() -> None:
    value = {"name": MANAGER, "typed_config": {"@type": HCM, "server_name": "x"}}
    found = manager(patch("NETWORK_FILTER", "MERGE", value, **in_chain(MANAGER)))
    assert (found["serverName"], found["statPrefix"]) == ("x", "p")
    struct = {"@type": TYPED_STRUCT, "type_url": LUA, "value": {"inline_code": "b"}}
    found = manager(patch("HTTP_FILTER", "MERGE", {"typed_config": struct}, **in_chain(MANAGER, "router")))
    assert found["httpFilters"][1]["typedConfig"]["inlineCode"] == "b"
    broken = {**struct, "value": {"inline_code": {"a": 1}}}
    found = manager(patch("HTTP_FILTER", "MERGE", {"typed_config": broken}, **in_chain(MANAGER, "router")))
    assert found["httpFilters"][1]["typedConfig"]["inlineCode"] == "a"


def test_routes_in_a_listener_are_patched_too() -> None:
    given = message(listener_pb2.Listener, LISTENER)
    before = plain(given)
    patched_listeners.inline_routes(given, patches(patch("CLUSTER", "REMOVE"), context=INBOUND), {})
    said = patch("HTTP_ROUTE", "ADD", {"name": "n"})
    patched_listeners.inline_routes(given, patches(said, context=INBOUND), {})
    assert plain(given) == before
    config = given.filter_chains[0].filters[1].typed_config
    routes = message(route_pb2.RouteConfiguration, "{name: inbound|80||, virtualHosts: [{name: a}]}")
    found = json_format.ParseDict({"@type": HCM, "routeConfig": plain(routes)}, type(config)())
    config.CopyFrom(found)
    patched_listeners.inline_routes(given, patches(said, context=INBOUND), {})
    (inline,) = plain(given)["filterChains"][0]["filters"][1]["typedConfig"]["routeConfig"]["virtualHosts"]
    assert inline["routes"] == [{"name": "n"}]


def test_a_patch_is_for_its_context() -> None:
    said = patch("LISTENER", "REMOVE", context="SIDECAR_INBOUND")
    assert listener(said, context=INBOUND) is None
    assert listener(said, context=OUTBOUND) is not None


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
