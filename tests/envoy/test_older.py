"""What older Envoys get: nothing that they refuse or ignore, and nothing passes where that was part of a policy."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as tcp_rbac_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from istiod.config import resource
from istiod.config.resource import Resource
from istiod.envoy import cluster, joined_headers, older, wellknown
from istiod.envoy.older import Loss
from istiod.mesh.envoy_release import Release
from istiod.mesh.policy import RetryBudget, TrafficPolicy
from tests.envoy import made, rich
from wire import names

OLD, LATER = Release.V1_36, Release.V1_38
KINDS = {
    cluster_pb2.Cluster: names.CLUSTER,
    listener_pb2.Listener: names.LISTENER,
    route_pb2.RouteConfiguration: names.ROUTE,
}


def framed(message: Message) -> Resource:
    return resource.make("x", KINDS[type(message)], wellknown.encode(message), refs={names.ENDPOINT: frozenset("x")})


def lowered(message: Message, release: Release = OLD) -> tuple[Any, tuple[Loss, ...]]:
    found, losses = older.lowered(framed(message), release)
    return made.parsed(found, type(message)), losses


def chain(*filters: Message, **more: Any) -> listener_components_pb2.FilterChain:
    found = listener_components_pb2.FilterChain(**more)
    for each in filters:
        found.filters.add(name="f").typed_config.CopyFrom(wellknown.packed(each))
    return found


def filters(of: listener_components_pb2.FilterChain) -> list[str]:
    return [each.typed_config.type_url.rpartition(".")[2] for each in of.filters]


def test_a_cluster_without_anybody_says_what_it_stands_for_only_where_it_did() -> None:
    said = cluster_pb2.Cluster(name="x")
    said.transport_socket_matcher.on_no_match.action.name = "x"
    assert lowered(said)[0] == cluster_pb2.Cluster(name="x", type="STATIC")


@pytest.mark.parametrize("release", [OLD, LATER])
def test_a_budgets_interval_is_left_out(release: Release) -> None:
    budget = RetryBudget(percent=20, min_retry_concurrency=3, interval=rich.SECOND)
    found = cluster.compile(made.cluster("reviews", policy=TrafficPolicy(retry_budget=budget)), made.SETTINGS)
    kept, losses = older.lowered(found, release)
    said = made.parsed(kept, cluster_pb2.Cluster).circuit_breakers.thresholds[0].retry_budget
    assert losses == (Loss("CircuitBreakers.Thresholds.RetryBudget.budget_interval"),)
    assert said == type(said)(budget_percent={"value": 20}, min_retry_concurrency={"value": 3})
    assert (kept.refs, kept.origin) == (found.refs, found.origin)


def test_what_lacks_nothing_is_the_same_object() -> None:
    plain = cluster.compile(made.cluster("reviews"), made.SETTINGS)
    budget = TrafficPolicy(retry_budget=RetryBudget())
    limited = cluster.compile(made.cluster("reviews", policy=budget), made.SETTINGS)
    assert [older.lowered(each, OLD) for each in (plain, limited)] == [(plain, ()), (limited, ())]
    table = framed(route_pb2.RouteConfiguration(name="%UPSTREAM_TLS_GROUP"))
    assert older.lowered(table, LATER) == (table, ())
    secret = resource.make("s", names.SECRET, b"%DOWNSTREAM_TLS_GROUP%")
    assert older.lowered(secret, OLD) == (secret, ())


def test_metrics_go_and_the_log_stays() -> None:
    logs = [
        accesslog_pb2.AccessLog(name="stats", typed_config=wellknown.packed(stats_pb2.Config())),
        accesslog_pb2.AccessLog(name="file", typed_config=wellknown.packed(file_pb2.FileAccessLog(path="/x"))),
    ]
    proxy = tcp_proxy_pb2.TcpProxy(cluster="x", access_log=logs, upstream_connect_mode="ON_DOWNSTREAM_TLS_HANDSHAKE")
    said = listener_pb2.Listener(filter_chains=[chain(proxy)], default_filter_chain=chain(proxy))
    found, losses = lowered(said)
    assert losses == (Loss("TcpProxy.upstream_connect_mode"), Loss("stats"))
    for each in (found.filter_chains[0], found.default_filter_chain):
        assert made.tcp_proxy(each) == tcp_proxy_pb2.TcpProxy(cluster="x", access_log=logs[1:])
    assert lowered(said, LATER) == (said, ())


def test_an_operator_that_is_not_known_prints_nothing() -> None:
    text = "%DOWNSTREAM_TLS_GROUP% %REQ(X)% %UPSTREAM_HOSTS_ATTEMPTED(a)% %%"
    log = file_pb2.FileAccessLog(path="/%UPSTREAM_TLS_GROUP%")
    log.log_format.json_format.update({"a": text, "b": [text]})
    manager = hcm_pb2.HttpConnectionManager()
    manager.access_log.add(typed_config=wellknown.packed(log))
    found, losses = lowered(listener_pb2.Listener(filter_chains=[chain(manager)]))
    assert losses == (Loss("%DOWNSTREAM_TLS_GROUP%"), Loss("%UPSTREAM_HOSTS_ATTEMPTED%"))
    said = file_pb2.FileAccessLog()
    made.manager(found.filter_chains[0]).access_log[0].typed_config.Unpack(said)
    assert made.shown(said) == {
        "path": "/%UPSTREAM_TLS_GROUP%",
        "log_format": {"json_format": {"a": "- %REQ(X)% - %%", "b": ["- %REQ(X)% - %%"]}},
    }
    _, losses = lowered(listener_pb2.Listener(filter_chains=[chain(manager)]), LATER)
    assert losses == (Loss("%DOWNSTREAM_TLS_GROUP%"),)


def test_headers_of_routes_have_formats_too() -> None:
    table = route_pb2.RouteConfiguration(name="r")
    table.request_headers_to_add.add().header.value = "%UPSTREAM_SERVER_NAME%"
    found, losses = lowered(table, LATER)
    assert (losses, found.request_headers_to_add[0].header.value) == ((Loss("%UPSTREAM_SERVER_NAME%"),), "-")


def test_what_nobody_can_read_stays() -> None:
    tag = any_pb2.Any(type_url="x/none.such.Type", value=b"x")
    broken = any_pb2.Any(type_url="x/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", value=b"\xff")
    said = listener_pb2.Listener(filter_chains=[listener_components_pb2.FilterChain()])
    for each in (tag, broken):
        said.filter_chains[0].filters.add().typed_config.CopyFrom(each)
    assert lowered(said) == (said, ())


def of_policy(**more: Any) -> http_rbac_pb2.RBAC:
    policy = rbac_pb2.Policy(cel_config={"enable_string_conversion": True})
    return http_rbac_pb2.RBAC(rules=rbac_pb2.RBAC(policies={"p": policy}), **more)


CEL = Loss("rbac.Policy.cel_config", closed=True)


def filtering(filter_: Message) -> hcm_pb2.HttpConnectionManager:
    manager = hcm_pb2.HttpConnectionManager()
    manager.http_filters.add(typed_config=wellknown.packed(filter_))
    return manager


def test_a_chain_is_closed_whose_policy_would_be_ignored() -> None:
    manager = filtering(of_policy())
    open_chain = chain(tcp_proxy_pb2.TcpProxy(cluster="x"))
    said = listener_pb2.Listener(filter_chains=[open_chain, chain(manager)], default_filter_chain=open_chain)
    found, losses = lowered(said)
    assert [each.closed for each in losses] == [True]
    assert filters(found.filter_chains[0]) == ["TcpProxy"] == filters(found.default_filter_chain)
    assert filters(found.filter_chains[1]) == ["RBAC", "HttpConnectionManager"]
    first = tcp_rbac_pb2.RBAC()
    found.filter_chains[1].filters[0].typed_config.Unpack(first)
    assert (first.rules.action, dict(first.rules.policies)) == (rbac_pb2.RBAC.ALLOW, {})


def test_a_listener_is_closed_whose_filter_would_ignore_a_policy() -> None:
    said = listener_pb2.Listener(filter_chains=[chain(), chain()])
    said.listener_filters.add().typed_config.CopyFrom(wellknown.packed(of_policy()))
    found, _ = lowered(said)
    assert [filters(each) for each in found.filter_chains] == [["RBAC"], ["RBAC"]]


def test_a_cluster_has_nobody_whose_trust_would_be_ignored() -> None:
    said = cluster_pb2.Cluster(name="x", alt_stat_name="x;", type=cluster_pb2.Cluster.EDS)
    said.transport_socket_matcher.on_no_match.action.name = "x"
    said.metadata.filter_metadata["istio"]["config"] = "x"
    found, losses = older.lowered(framed(said), OLD)
    assert losses == (Loss("Cluster.transport_socket_matcher", closed=True),)
    expected = cluster_pb2.Cluster(name="x", alt_stat_name="x;", type="STATIC", metadata=said.metadata)
    assert (made.parsed(found, cluster_pb2.Cluster), found.refs) == (expected, {})


def answers(table: Any) -> list[list[int]]:
    return [[route.direct_response.status for route in host.routes] for host in table.virtual_hosts]


def test_routes_answer_503_whose_policy_would_be_ignored() -> None:
    config = {"f": wellknown.packed(http_rbac_pb2.RBACPerRoute(rbac=of_policy()))}
    route, guarded = (
        route_components_pb2.Route(route={"cluster": "x"}, typed_per_filter_config=each) for each in ({}, config)
    )
    whole = route_components_pb2.VirtualHost(name="b", routes=[route, route], typed_per_filter_config=config)
    host = route_components_pb2.VirtualHost(name="a", routes=[route, guarded])
    table = route_pb2.RouteConfiguration(virtual_hosts=[host, whole])
    found, _ = lowered(table)
    assert answers(found) == [[0, 503], [503]]
    table.vhost_header = "x"
    found, _ = lowered(table)
    assert answers(found) == [[503], [503]]


def matcher(**said: Any) -> route_components_pb2.HeaderMatcher:
    invert = said.pop("invert", False)
    ignore_case = said.pop("ignore_case", False)
    name = said.pop("name", "x")
    if "present" in said:
        return route_components_pb2.HeaderMatcher(name=name, present_match=True)
    return route_components_pb2.HeaderMatcher(
        name=name, string_match={**said, "ignore_case": ignore_case}, invert_match=invert
    )


def rules(action: str, *, permission: Any = None, principal: Any = None) -> rbac_pb2.RBAC:
    policy = rbac_pb2.Policy(permissions=[permission or {"any": True}], principals=[principal or {"any": True}])
    return rbac_pb2.RBAC(action=rbac_pb2.RBAC.Action.Value(action), policies={"p": policy})


def widened(said: rbac_pb2.RBAC) -> list[str]:
    """The patterns that are there afterwards."""
    before = rbac_pb2.RBAC.FromString(said.SerializeToString())
    changed = joined_headers.widen(said)
    assert changed is (said != before)
    (policy,) = said.policies.values()
    return [each.header.string_match.safe_regex.regex for each in (*policy.permissions, *policy.principals)]


@pytest.mark.parametrize(
    ("said", "pattern"),
    [
        (matcher(exact="a.b"), r"(\C*,)?a\.b(,\C*)?"),
        (matcher(prefix="a", ignore_case=True), r"(?i)(\C*,)?a\C*"),
        (matcher(suffix="a"), r"\C*a(,\C*)?"),
        (matcher(contains="a"), r"\C*a\C*"),
        (matcher(safe_regex={"regex": "a|b"}), r"(\C*,)?(a|b)(,\C*)?"),
        (matcher(present=True), ""),
        (matcher(name=":method", exact="GET"), ""),
        (matcher(exact="a", invert=True), ""),
    ],
)
def test_a_rule_that_refuses_is_widened(said: route_components_pb2.HeaderMatcher, pattern: str) -> None:
    assert widened(rules("DENY", permission={"header": said}, principal={"header": said})) == [pattern] * 2
    assert widened(rules("ALLOW", permission={"header": matcher(exact="a")})) == ["", ""]


def test_a_rule_that_lets_in_is_widened_where_it_is_negated() -> None:
    header = {"header": matcher(exact="a")}
    inner = {"and_ids": {"ids": [{"not_id": {"or_ids": {"ids": [header]}}}, header]}}
    said = rules("ALLOW", permission={"not_rule": {"or_rules": {"rules": [header]}}}, principal=inner)
    assert joined_headers.widen(said)
    (policy,) = said.policies.values()
    negated, plain = policy.principals[0].and_ids.ids
    found = (policy.permissions[0].not_rule.or_rules.rules[0], negated.not_id.or_ids.ids[0], plain)
    assert [each.header.string_match.WhichOneof("match_pattern") for each in found] == [
        "safe_regex",
        "safe_regex",
        "exact",
    ]
    assert not joined_headers.widen(rules("DENY", permission={"not_rule": header}, principal=rbac_pb2.Principal()))


def test_patterns_that_refuse_take_any_byte() -> None:
    inline = {"header": matcher(safe_regex={"regex": r"(.*,)?[ .\t]*b\.c(,.*)?"})}
    name = {"requested_server_name": {"safe_regex": {"regex": ".+"}}}
    for action, permission in (("DENY", {"or_rules": {"rules": [inline, name]}}), ("ALLOW", inline), ("DENY", inline)):
        said = rules(
            action,
            permission=permission,
            principal={"authenticated": {"principal_name": name["requested_server_name"]}},
        )
        before = rbac_pb2.RBAC.FromString(said.SerializeToString())
        assert joined_headers.take_bytes(said) is (action == "DENY")
        text = str(said.policies["p"].permissions[0])
        assert (r"(\\C*,)?[ .\\t]*b\\.c(,\\C*)?" in text) is (action == "DENY")
        assert (r"\\C+" in text) is ("or_rules" in permission)
        assert said.policies["p"].principals == before.policies["p"].principals
        if action == "ALLOW":
            assert said == before


@pytest.mark.parametrize("release", [OLD, LATER])
def test_both_older_releases_get_patterns_that_take_any_byte(release: Release) -> None:
    header = matcher(safe_regex={"regex": r".*a[ \t]*"}, name=":path")
    said = http_rbac_pb2.RBAC(rules=rules("DENY", principal={"header": header}))
    manager = filtering(said)
    found, losses = lowered(listener_pb2.Listener(filter_chains=[chain(manager)]), release)
    assert rb"\C*a[" in found.SerializeToString()
    assert losses == ()


def test_rules_on_lines_of_headers_are_told() -> None:
    said = http_rbac_pb2.RBAC(rules=rules("DENY", principal={"header": matcher(exact="a")}))
    manager = filtering(said)
    listener = listener_pb2.Listener(filter_chains=[chain(manager)])
    assert lowered(listener)[1] == (Loss("lines of a header apart in rules that refuse"),)
    assert lowered(listener, LATER) == (listener, ())
