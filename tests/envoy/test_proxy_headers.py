"""Headers and the proxy protocol on listeners, and listeners at Unix domain sockets, as messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from istiod.envoy import listener, route
from istiod.mesh import node_settings
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.proxy_headers import ProxyHeaders
from istiod.mesh.route import ANY, Redirect, Route
from istiod.mesh.scope import Chain, Direction, Http
from istiod.mesh.settings import MeshSettings
from tests.envoy import made
from tests.envoy.test_listener import TCP, one

HTTP = Http(stat_prefix="x", rds="80")


def manager(direction: Direction, settings: MeshSettings, own: NodeSettings = node_settings.NOTHING) -> dict[str, Any]:
    message = listener.message(one(Chain(name="", http=HTTP), direction=direction, own=own), settings)
    return made.shown(made.manager(message.filter_chains[0]))


def test_what_the_mesh_says_of_headers_stands_in_connection_managers() -> None:
    details = frozenset({"subject", "chain"})
    said = ProxyHeaders(server="", request_id=False, debug_headers=False, client_cert="SANITIZE", cert_details=details)
    settings = MeshSettings(headers=replace(said, gateway_client_cert="FORWARD_ONLY", preserve_case=True))
    inbound, edge = (manager(each, settings) for each in (Direction.INBOUND, Direction.GATEWAY))
    assert "forward_client_cert_details" not in inbound  # SANITIZE is Envoy's default
    assert edge["forward_client_cert_details"] == "FORWARD_ONLY"
    assert inbound["set_current_client_cert_details"] == {"subject": True, "chain": True}
    assert inbound["server_header_transformation"] == "PASS_THROUGH"
    assert inbound["generate_request_id"] is False
    assert "server_name" not in inbound
    assert inbound["http_filters"][-1]["typed_config"]["suppress_envoy_headers"] is True
    formatter = inbound["http_protocol_options"]["header_key_format"]["stateful_formatter"]
    assert formatter["name"] == "preserve_case"
    outbound = manager(Direction.OUTBOUND, settings)
    assert "forward_client_cert_details" not in outbound
    own = NodeSettings(headers=ProxyHeaders(server="mine", trusted_proxies=4, preserve_case=False))
    edge = manager(Direction.GATEWAY, settings, own)
    assert (edge["server_name"], edge["xff_num_trusted_hops"]) == ("mine", 4)
    assert "header_key_format" in edge["http_protocol_options"]


def test_a_gateway_reads_the_proxy_protocol_before_anything_else() -> None:
    own = NodeSettings(headers=ProxyHeaders(proxy_protocol=True))
    chains = Chain(name="", http=HTTP)
    kinds = {
        each: [
            filter_.name
            for filter_ in listener.message(
                one(chains, direction=each, own=own, inspect_tls=True), made.QUIET
            ).listener_filters
        ]
        for each in Direction
    }
    inspector = "envoy.filters.listener.tls_inspector"
    assert kinds[Direction.GATEWAY] == ["envoy.filters.listener.proxy_protocol", inspector]
    assert kinds[Direction.OUTBOUND] == kinds[Direction.INBOUND] == [inspector]


def test_a_socket_is_listened_at_by_its_path() -> None:
    message = listener.message(one(Chain(name="", tcp=TCP), address="unix:///run/out.sock", port=0), made.QUIET)
    assert made.shown(message)["address"] == {"pipe": {"path": "/run/out.sock", "mode": 0o666}}


def test_a_mesh_may_tell_upstreams_whom_a_request_asked_before_a_rewrite() -> None:
    host = made.virtual_host(
        "reviews", routes=[made.route(), Route(name="no", match=ANY, origin=None, redirect=Redirect())]
    )
    said = route.told(ProxyHeaders(forwarded_host=True))
    first, second = route.inline(made.table(host), said).virtual_hosts[0].routes
    assert first.route.append_x_forwarded_host
    assert second.HasField("redirect")
    usual = route.inline(made.table(host), route.told(ProxyHeaders())).virtual_hosts[0].routes[0]
    assert not usual.route.append_x_forwarded_host
