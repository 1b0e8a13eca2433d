"""An earlier version serves in place of a refused one only where it keeps out whom that keeps out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from google.protobuf.message import Message

from istiod.config import resource
from istiod.envoy import protection, wellknown
from wire import names

Manager = hcm_pb2.HttpConnectionManager
DENY = rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY)


def http(
    *filters: Message,
    normalize: bool = True,
    prefix: str = "in",
    off: str = "",
    table: route_pb2.RouteConfiguration | None = None,
) -> listener_components_pb2.Filter:
    found = Manager(stat_prefix=prefix, route_config=table)
    found.normalize_path.value = normalize
    for each in filters:
        found.http_filters.add(name="any", disabled=off == "any", typed_config=wellknown.packed(each))
    return listener_components_pb2.Filter(name="hcm", typed_config=wellknown.packed(found))


def rules(policy: str) -> http_rbac_pb2.RBAC:
    found = http_rbac_pb2.RBAC(rules=DENY)
    found.rules.policies[policy].permissions.add(any=True)
    return found


def listener(
    *filters: listener_components_pb2.Filter,
    socket: str = "",
    ports: tuple[int, ...] = (80,),
    buffer: int = 0,
) -> listener_pb2.Listener:
    found = listener_pb2.Listener(name="virtualInbound")
    for port in ports:
        chain = found.filter_chains.add(filters=filters)
        chain.filter_chain_match.destination_port.value = port
        if socket:
            chain.transport_socket.name = socket
    found.per_connection_buffer_limit_bytes.value = buffer
    return found


def by_proxy_protocol(found: listener_pb2.Listener) -> listener_pb2.Listener:
    found.listener_filters.add(name="proxy", typed_config=wellknown.packed(proxy_protocol_pb2.ProxyProtocol()))
    return found


def routes(tls: str, prefix: str = "/", besides: Message | None = None) -> route_pb2.RouteConfiguration:
    host = route_components_pb2.VirtualHost(name="h", domains=["*"])
    host.require_tls = host.ALL if tls == "tls" else host.NONE
    route = host.routes.add(match=route_components_pb2.RouteMatch(prefix=prefix))
    if besides is not None:
        route.typed_per_filter_config["any"].CopyFrom(wellknown.packed(besides))
    return route_pb2.RouteConfiguration(name="r", virtual_hosts=[host])


def compared(type_url: str, before: Message, after: Message) -> bool:
    made = [resource.make("x", type_url, wellknown.encode(each)) for each in (before, after)]
    return protection.kept(*made)


ROUTER, LUA = router_pb2.Router(), lua_pb2.Lua()
TCP = listener_components_pb2.Filter(typed_config=wellknown.packed(network_rbac_pb2.RBAC(rules=DENY, stat_prefix="a")))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (listener(http(ROUTER), ports=(80,)), listener(http(LUA, ROUTER), ports=(80, 81))),
        (listener(http(rules("a"), ROUTER)), listener(http(LUA, rules("a"), ROUTER, prefix="other"), buffer=5)),
        (listener(TCP, socket="tls"), listener(TCP, socket="tls", buffer=5)),
    ],
    ids=["on the way out anything may change", "what refuses nobody may change", "nor does what no chain says"],
)
def test_the_same_protection_is_the_same_whatever_else_changed(before: Message, after: Message) -> None:
    assert compared(names.LISTENER, before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (listener(http(ROUTER)), listener(http(rules("a"), ROUTER))),
        (listener(http(rules("a"), ROUTER)), listener(http(rules("b"), ROUTER))),
        (listener(http(rules("a"), ROUTER), ports=(80, 81)), listener(http(rules("a"), ROUTER))),
        (listener(http(rules("a"))), listener(http(rules("a"), normalize=False))),
        (listener(http(ROUTER)), listener(http(ROUTER), socket="tls")),
        (listener(), listener(TCP)),
        (listener(http(rules("a"), ROUTER)), by_proxy_protocol(listener(http(rules("a"), ROUTER)))),
        (listener(http(rules("a"), ROUTER)), listener(http(rules("a"), ROUTER, off="any"))),
        (listener(http(rules("a"))), listener(http(rules("a"), table=routes("", besides=rules("b"))))),
    ],
    ids=[
        *("a policy", "another policy", "a port", "how paths are read", "TLS", "a policy for TCP"),
        *("whose address counts", "a policy that is off", "a policy that is another on a route"),
    ],
)
def test_what_keeps_somebody_out_makes_it_another_protection(before: Message, after: Message) -> None:
    assert not compared(names.LISTENER, before, after)
    assert not compared(names.LISTENER, after, before)


def cluster(socket: str, timeout: int = 1) -> cluster_pb2.Cluster:
    found = cluster_pb2.Cluster(name="c")
    found.connect_timeout.seconds = timeout
    match = found.transport_socket_matches.add(name="tls")
    match.transport_socket.name = socket
    return found


@pytest.mark.parametrize(
    ("type_url", "make", "changed"),
    [
        (names.CLUSTER, cluster, cluster("tls", 2)),
        (names.ROUTE, routes, routes("tls", "/other")),
    ],
)
def test_clusters_and_routes_are_told_by_their_tls(
    type_url: str, make: Callable[[str], Message], changed: Message
) -> None:
    assert compared(type_url, make("tls"), changed)
    assert not compared(type_url, make("raw"), changed)


def test_endpoints_keep_nobody_out() -> None:
    made = [endpoint_pb2.ClusterLoadAssignment(cluster_name=name) for name in "ab"]
    assert compared(names.ENDPOINT, *made)


def extension(config: Message) -> extension_pb2.TypedExtensionConfig:
    return extension_pb2.TypedExtensionConfig(name="x", typed_config=wellknown.packed(config))


def discovered(kind: Message) -> listener_pb2.Listener:
    found = Manager(stat_prefix="in")
    url = names.TYPE_PREFIX + kind.DESCRIPTOR.full_name
    found.http_filters.add(name="any").config_discovery.type_urls.append(url)
    return listener(listener_components_pb2.Filter(name="hcm", typed_config=wellknown.packed(found)))


def test_a_filter_that_refuses_counts_where_its_configuration_comes_by_discovery() -> None:
    assert compared(names.EXTENSION, extension(LUA), extension(ROUTER))
    assert compared(names.EXTENSION, extension(rules("a")), extension(rules("a")))
    assert not compared(names.EXTENSION, extension(rules("a")), extension(rules("b")))
    assert not compared(names.EXTENSION, extension(LUA), extension(rules("b")))
    assert not compared(names.LISTENER, listener(http(ROUTER)), discovered(rules("a")))
    assert compared(names.LISTENER, listener(http(ROUTER)), discovered(LUA))
    harmless = listener_components_pb2.Filter(name="tcp", typed_config=wellknown.packed(LUA))
    assert compared(names.LISTENER, listener(), listener(harmless))
