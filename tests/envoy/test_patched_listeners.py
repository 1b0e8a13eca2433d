"""What each operation of an EnvoyFilter does to listeners, filter chains and filters."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format

from istiod.envoy import patched_listeners
from istiod.envoy.patched import INBOUND, OUTBOUND
from tests.envoy.patching import (
    DOWNSTREAM_TLS,
    HCM,
    INSPECTOR,
    LUA,
    MANAGER,
    TYPED_STRUCT,
    message,
    patch,
    patches,
    plain,
    socket,
)

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
