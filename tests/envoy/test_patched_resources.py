"""What proxies with EnvoyFilters get, and that nobody else notices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from istiod.config.resource import Resource, ResourceSet
from istiod.envoy import blame
from istiod.envoy.compiler import PATCHED, VIRTUAL_HOST, Compiler
from istiod.mesh import context
from tests.envoy import made, oracle, rich
from tests.envoy.patching import HCM, MANAGER, index, patch
from tests.mesh import fleet
from tests.mesh.test_envoy_filters import envoy_filter
from wire import names

REVIEWS, RATINGS = made.cluster("reviews"), made.cluster("ratings")
ENDPOINTS = made.endpoints(reviews=made.leaf(made.endpoint()), ratings=made.leaf(made.endpoint("10.0.0.2")))
PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
BODY = {"name": MANAGER, "typed_config": {"@type": HCM, "server_name": "patched"}}


def patched(*said: dict[str, Any]) -> Any:
    (one,) = index(*said).all()
    return context.envoy_filters.PatchSet(patches=one.patches)


def compiled(compiler: Compiler, scope: Any, *said: dict[str, Any]) -> ResourceSet:
    return compiler.compile(replace(scope, patches=patched(*said)), ENDPOINTS, made.VIEW)


def got(found: ResourceSet, type_url: str, name: str) -> Resource:
    resource = found.get(type_url, name)
    assert resource is not None
    return resource


def test_only_what_a_patch_speaks_of_is_made_anew() -> None:
    compiler, scope = Compiler(), rich.scope()
    plain = compiler.compile(scope, ENDPOINTS, made.VIEW)
    said = patch("CLUSTER", "MERGE", {"connect_timeout": "77s"}, cluster={"name": made.cluster_name("reviews")})
    found = compiled(compiler, scope, {**said, "match": {**said["match"], "context": "SIDECAR_OUTBOUND"}})
    assert found.layers[names.LISTENER] == plain.layers[names.LISTENER]
    assert found.layers[names.ROUTE] is not None
    assert all(mine is own for mine, own in zip(found.of(names.ROUTE), plain.of(names.ROUTE), strict=True))
    assert compiler.changed(plain, found) == {names.CLUSTER: frozenset({made.cluster_name("reviews")})}
    assert compiler.changed(plain, found) == oracle.changed(plain, found)
    assert found.get(names.ENDPOINT, made.cluster_name("reviews")) is not None


def test_a_removed_cluster_is_not_there_and_an_added_one_is() -> None:
    remove = patch("CLUSTER", "REMOVE", cluster={"service": made.host("ratings")})
    add = patch("CLUSTER", "ADD", {"name": "added", "type": "STATIC"})
    again = patch("CLUSTER", "ADD", {"name": made.cluster_name("reviews")})
    nameless = patch("CLUSTER", "ADD", {"type": "STATIC"})
    found = compiled(Compiler(), made.scope([REVIEWS, RATINGS]), remove, add, again, nameless)
    assert [one.name for one in found.of(names.CLUSTER)] == ["added", made.cluster_name("reviews")]
    assert b"STATIC" not in got(found, names.CLUSTER, "added").any_frame
    assert got(found, names.CLUSTER, made.cluster_name("reviews")).refs[names.ENDPOINT]


def test_what_leads_to_an_added_cluster_waits_for_it() -> None:
    add = patch("CLUSTER", "ADD", {"name": "added", "type": "STATIC"})
    route = patch("HTTP_ROUTE", "MERGE", {"route": {"cluster": "added"}})
    found = compiled(Compiler(), made.scope([REVIEWS], tables=[made.table()]), add, route)
    assert got(found, names.ROUTE, "9080").refs[names.CLUSTER] == {made.cluster_name("reviews"), "added"}


def test_listeners_lose_the_routes_that_a_patch_takes_from_them() -> None:
    compiler, scope = Compiler(), rich.scope()
    name = "0.0.0.0_9080"
    before = got(compiler.compile(scope, ENDPOINTS, made.VIEW), names.LISTENER, name)
    assert before.refs[names.ROUTE] == {"9080"}
    found = compiled(compiler, scope, patch("NETWORK_FILTER", "MERGE", BODY))
    assert got(found, names.LISTENER, name).refs[names.ROUTE] == {"9080"}
    found = compiled(compiler, scope, patch("FILTER_CHAIN", "REMOVE", listener={"name": name}))
    assert got(found, names.LISTENER, name).refs[names.ROUTE] == frozenset()
    found = compiled(
        compiler,
        scope,
        patch("LISTENER", "REMOVE", listener={"name": name}),
        patch("LISTENER", "ADD", {"name": "new"}),
    )
    assert found.get(names.LISTENER, name) is None
    assert found.get(names.LISTENER, "new") is not None


def test_an_added_listener_waits_for_the_routes_that_it_asks_us_for() -> None:
    """And for clusters that it names. Routes from another source are nobody's business here."""
    several = []
    for name, source in (("ours", {"ads": {}}), ("theirs", {"path_config_source": {"path": "/routes"}})):
        rds = {"route_config_name": "9080", "config_source": {**source, "resource_api_version": "V3"}}
        http = {"name": MANAGER, "typed_config": {"@type": HCM, "stat_prefix": name, "rds": rds}}
        several.append(patch("LISTENER", "ADD", {"name": name, "filter_chains": [{"filters": [http]}]}))
    to = {"@type": PROXY, "stat_prefix": "tcp", "cluster": made.cluster_name("reviews")}
    chain = {"filters": [{"name": "tcp", "typed_config": to}]}
    several.append(patch("LISTENER", "ADD", {"name": "tcp", "filter_chains": [chain]}))
    found = compiled(Compiler(), rich.scope(), *several)
    assert got(found, names.LISTENER, "ours").refs == {names.ROUTE: {"9080"}}
    assert got(found, names.LISTENER, "theirs").refs == {}
    assert got(found, names.LISTENER, "tcp").refs == {names.CLUSTER: {made.cluster_name("reviews")}}


def test_inbound_routes_stand_in_the_listener_and_are_patched_there() -> None:
    compiler, scope = Compiler(), rich.scope()
    host = patch("VIRTUAL_HOST", "MERGE", {"request_headers_to_remove": ["x-gone"]}, context="SIDECAR_INBOUND")
    found = compiled(compiler, scope, host)
    assert b"x-gone" in got(found, names.LISTENER, "virtualInbound").any_frame
    plain = compiler.compile(scope, ENDPOINTS, made.VIEW)
    assert got(found, names.LISTENER, "0.0.0.0_9080") is got(plain, names.LISTENER, "0.0.0.0_9080")
    assert got(found, names.ROUTE, "9080") is got(plain, names.ROUTE, "9080")


def test_a_change_elsewhere_compiles_no_patched_leaf_again() -> None:
    compiler, said = Compiler(), patched(patch("CLUSTER", "MERGE", {"connect_timeout": "77s"}))
    first = replace(made.scope([REVIEWS]), patches=said)
    before = compiler.compile(first, ENDPOINTS, made.VIEW)
    counted = compiler.compiled.copy()
    assert compiler.compile(replace(first), ENDPOINTS, made.VIEW) is before
    after = compiler.compile(replace(made.scope([REVIEWS, RATINGS]), patches=said), ENDPOINTS, made.VIEW)
    assert compiler.compiled[PATCHED] - counted[PATCHED] == 1
    assert compiler.changed(before, after)[names.CLUSTER] == {made.cluster_name("ratings")}


def test_route_tables_of_others_share_their_virtual_hosts_still() -> None:
    compiler, scope = Compiler(), made.scope([REVIEWS], tables=[made.table()])
    compiler.compile(scope, ENDPOINTS, made.VIEW)
    counted = compiler.compiled[VIRTUAL_HOST]
    found = compiled(compiler, scope, patch("VIRTUAL_HOST", "MERGE", {"domains": ["more"]}))
    assert compiler.compiled[VIRTUAL_HOST] == counted
    assert b"more" in got(found, names.ROUTE, "9080").any_frame


def test_whoever_patched_is_told_when_envoy_refuses() -> None:
    found = compiled(Compiler(), made.scope([REVIEWS]), patch("CLUSTER", "MERGE", {"connect_timeout": "77s"}))
    (told,) = blame.findings(got(found, names.CLUSTER, made.cluster_name("reviews")), "no")
    assert told.key is not None
    assert (told.key.kind, told.key.name, told.field) == ("EnvoyFilter", "patch", "spec.configPatches")


def test_gateways_are_patched_by_the_ports_of_their_servers() -> None:
    selector = {"istio": "gw"}
    servers = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]
    rules = {"hosts": ["*"], "gateways": ["gw"], "http": [{"directResponse": {"status": 200}}]}
    match = {"context": "GATEWAY", "routeConfiguration": {"portNumber": 80}}
    merge = {"operation": "MERGE", "value": {"request_headers_to_remove": ["x-gone"]}}
    mesh = fleet.Mesh(
        fleet.kube_service("gw", spec={"selector": selector}),
        fleet.pod("gw-1", "10.1.9.9", labels=selector),
        fleet.istio("Gateway", "gw", {"selector": selector, "servers": servers}),
        fleet.istio("VirtualService", "web", rules),
        envoy_filter("one", "default", {"applyTo": "ROUTE_CONFIGURATION", "match": match, "patch": merge}),
    )
    proxy = fleet.proxy("gw-1", kind="router", LABELS=selector)
    scope = mesh.scope(proxy)
    found = Compiler().compile(scope, mesh.context.endpoints, context.view(mesh.context, proxy))
    assert b"x-gone" in got(found, names.ROUTE, "http.8080").any_frame
