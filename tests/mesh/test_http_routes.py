from __future__ import annotations

from datetime import timedelta

import pytest

from istiod.mesh.policy import HashPolicy
from istiod.mesh.route import (
    ANY,
    Abort,
    Cors,
    DirectResponse,
    Fault,
    HeaderOperations,
    Headers,
    Mirror,
    Redirect,
    Retry,
    Rewrite,
    Route,
)
from istiod.mesh.settings import DEFAULT_RETRY, MeshSettings
from tests.mesh import world

HOST = "reviews.default.svc.cluster.local"
BASE = (world.service("reviews", "http:9080"), world.subsets("reviews", "v1", "v2"))
TO_V1 = "route: [{destination: {host: reviews, subset: v1}}]"


def routes(
    spec: str, *more: str, namespace: str = "default", labels: dict[str, str] | None = None
) -> tuple[Route, ...]:
    found = world.build(*BASE, *more, world.rules("reviews", f"{{hosts: [reviews], http: [{spec}]}}"))
    scope = found.sidecar(namespace, labels)
    return world.host(scope.routes["9080"], HOST).routes


def only(spec: str, *more: str) -> Route:
    (found,) = routes(spec, *more)
    return found


def test_a_service_without_rules_gets_a_default_route() -> None:
    scope = world.build(*BASE).sidecar()
    found = world.route(scope, "9080", HOST)
    assert found.name == "default"
    assert found.match == ANY
    assert found.origin is None
    assert world.clusters(found) == [f"outbound|9080||{HOST}"]
    assert found.retry == DEFAULT_RETRY
    assert found.timeout is None
    assert found.operation == f"{HOST}:9080/*"


def test_a_rule_sends_to_a_subset_and_says_where_it_stands() -> None:
    found = only(f"{{name: first, {TO_V1}, timeout: 2s}}")
    assert found.name == "first"
    assert world.clusters(found) == [f"outbound|9080|v1|{HOST}"]
    assert found.timeout == timedelta(seconds=2)
    assert str(found.origin) == "VirtualService/default/reviews#spec.http[0]"
    assert found.destinations[0].destination.known


def test_each_match_is_a_route_and_a_rule_without_one_ends_the_list() -> None:
    found = routes(
        f"""
        {{name: r, {TO_V1}, match: [
            {{name: m, uri: {{exact: /a}}}}, {{uri: {{prefix: /b}}}}, {{uri: {{regex: /c+}}}}]}},
        {{route: [{{destination: {{host: reviews, subset: v2}}}}]}},
        {{name: never, {TO_V1}}}
        """
    )
    assert [one.name for one in found] == ["r.m", "r", "r", ""]
    assert [one.operation for one in found] == [f"{HOST}:9080{path}" for path in ("/a", "/b*", "/c+", "/*")]
    assert [one.origin and one.origin.field for one in found] == ["spec.http[0]"] * 3 + ["spec.http[1]"]


def test_weights_are_shares_and_destinations_without_weight_are_left_out() -> None:
    found = only(
        """
        {route: [{destination: {host: reviews, subset: v1}, weight: 80},
                 {destination: {host: reviews, subset: v2}, weight: 20},
                 {destination: {host: reviews}, weight: 0}]}
        """
    )
    assert [(one.destination.subset, one.weight) for one in found.destinations] == [("v1", 80), ("v2", 20)]
    assert found.operation == "reviews:9080/*"


def test_the_weight_of_a_single_destination_plays_no_part() -> None:
    found = only("{route: [{destination: {host: reviews}, weight: 0}]}")
    assert [one.weight for one in found.destinations] == [1]


def test_headers_of_a_single_destination_join_those_of_the_rule() -> None:
    found = only(
        """
        {headers: {request: {set: {a: rule, Host: rule.example}}},
         route: [{destination: {host: reviews}, headers: {request: {set: {a: one, Host: one.example}}}}]}
        """
    )
    assert found.headers == Headers(request=HeaderOperations(set=(("a", "one"),)))
    assert found.destinations[0].headers == Headers()
    assert found.rewrite == Rewrite(authority="rule.example")


def test_the_host_that_a_single_destination_sets_is_a_rewrite() -> None:
    found = only("{route: [{destination: {host: reviews}, headers: {request: {set: {Host: one.example}}}}]}")
    assert found.rewrite == Rewrite(authority="one.example")


SPLIT = """
{%s route: [{destination: {host: reviews, subset: v1}, weight: 1, headers: {request: {set: {Host: one.example}}}},
            {destination: {host: reviews, subset: v2}, weight: 1}]}
"""


def test_the_host_that_one_of_several_destinations_sets_stays_with_it() -> None:
    found = only(SPLIT % "")
    assert [one.headers.request.set for one in found.destinations] == [(("host", "one.example"),), ()]
    assert found.rewrite is None


def test_a_rewrite_of_the_rule_wins_over_those_of_its_destinations() -> None:
    found = only(SPLIT % "rewrite: {authority: rule.example},")
    assert [one.headers for one in found.destinations] == [Headers(), Headers()]
    assert found.rewrite == Rewrite(authority="rule.example")


def test_everything_else_of_a_rule_is_in_its_route() -> None:
    found = only(
        """
        {route: [{destination: {host: reviews}}],
         retries: {attempts: 0},
         fault: {abort: {httpStatus: 500, percentage: {value: 10.0}}},
         corsPolicy: {allowMethods: [GET]},
         mirror: {host: reviews, subset: v1}, mirrorPercent: 50,
         mirrors: [{destination: {host: reviews, subset: v2}},
                   {destination: {host: reviews}, percentage: {value: 0.0}}]}
        """
    )
    assert found.retry is None
    assert found.fault == Fault(abort=Abort(percent=10.0, http_status=500))
    assert found.cors == Cors(allow_methods=("GET",))
    assert [(one.destination.subset, one.percent) for one in found.mirrors] == [("v1", 50.0), ("v2", 100.0)]


@pytest.mark.parametrize(
    ("said", "percents"),
    [
        ("mirror: {host: reviews}", [100.0]),
        ("mirror: {host: reviews}, mirrorPercent: 0", []),
        ("mirror: {host: reviews}, mirror_percent: 5", [5.0]),
        ("mirror: {host: reviews}, mirrorPercentage: {value: 0.5}, mirrorPercent: 3", [0.5]),
    ],
)
def test_the_share_of_a_mirror(said: str, percents: list[float]) -> None:
    found: tuple[Mirror, ...] = only(f"{{route: [{{destination: {{host: reviews}}}}], {said}}}").mirrors
    assert [one.percent for one in found] == percents


def test_redirects_and_direct_responses_have_no_destination() -> None:
    found = routes(
        """
        {match: [{uri: {prefix: /a}}], redirect: {uri: /b, derivePort: FROM_REQUEST_PORT}, timeout: 1s},
        {directResponse: {status: 404}}
        """
    )
    assert found[0].redirect == Redirect(path="/b", port=9080)
    assert found[1].direct_response == DirectResponse(status=404)
    assert [(one.destinations, one.timeout, one.retry) for one in found] == [((), None, None)] * 2
    assert found[0].operation == "reviews:9080/a*"


def test_matches_for_other_clients_are_left_out() -> None:
    spec = f"""
        {{match: [{{sourceLabels: {{app: web}}}}], name: labels, {TO_V1}}},
        {{match: [{{sourceNamespace: other}}], name: namespace, {TO_V1}}},
        {{match: [{{port: 81}}], name: port, {TO_V1}}},
        {{match: [{{gateways: [gw]}}], name: gateway, {TO_V1}}},
        {{name: rest, {TO_V1}}}
        """
    assert [one.name for one in routes(spec)] == ["rest"]
    assert [one.name for one in routes(spec, labels={"app": "web"})] == ["labels"]
    assert [one.name for one in routes(spec, namespace="other")] == ["namespace"]


def test_where_no_rule_is_for_a_client_the_service_has_its_default_route() -> None:
    spec = f"{{match: [{{sourceLabels: {{app: web}}}}], name: labels, {TO_V1}}}"
    assert [one.name for one in routes(spec)] == ["default"]


def test_a_younger_virtual_service_serves_where_the_oldest_has_no_rule_for_the_client() -> None:
    found = world.build(
        *BASE,
        world.rules("a", "{hosts: [reviews], tcp: [{route: [{destination: {host: reviews}}]}]}"),
        world.rules("b", f"{{hosts: [reviews], http: [{{name: b, {TO_V1}}}]}}"),
    )
    assert world.route(found.sidecar(), "9080", HOST).name == "b"


def test_a_destination_without_a_port_gets_the_one_of_a_service_that_shares_the_port() -> None:
    more = (world.service("other", "http:9080", "tcp:1"), world.service("far", "http:7000"))
    found = routes(
        """
        {match: [{uri: {prefix: /a}}], route: [{destination: {host: other}}]},
        {match: [{uri: {prefix: /b}}], route: [{destination: {host: far}}]},
        {match: [{uri: {prefix: /c}}], route: [{destination: {host: far, port: {number: 7000}}}]}
        """,
        *more,
    )
    assert [world.clusters(one)[0].split("|")[1] for one in found] == ["9080", "9080", "7000"]
    assert [one.destinations[0].destination.known for one in found] == [True, False, True]


def test_a_destination_that_does_not_exist_keeps_its_name_and_is_marked() -> None:
    found = only("{route: [{destination: {host: reviews, subset: v9}}]}")
    assert world.clusters(found) == [f"outbound|9080|v9|{HOST}"]
    assert not found.destinations[0].destination.known


HASHED = world.subsets("reviews", "v1", "v2", policy="{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}")


def test_a_hash_policy_comes_with_the_destination_and_allows_retries_to_the_same_host() -> None:
    found = world.build(BASE[0], HASHED, world.rules("r", f"{{hosts: [reviews], http: [{{{TO_V1}}}]}}"))
    ruled = world.route(found.sidecar(), "9080", HOST)
    default = world.route(world.build(BASE[0], HASHED).sidecar(), "9080", HOST)
    for one in (ruled, default):
        assert one.destinations[0].destination.hash_policy == HashPolicy(header="x-user")
        assert one.retry == Retry(attempts=2, retry_on=DEFAULT_RETRY.retry_on, ignore_previous_hosts=False)


def test_the_mesh_default_decides_over_retries_of_unruled_services() -> None:
    settings = MeshSettings(default_retry=Retry(attempts=0, retry_on=""))
    found = world.build(*BASE, settings=settings)
    assert world.route(found.sidecar(), "9080", HOST).retry == Retry(attempts=0, retry_on="")


@pytest.mark.parametrize(("policy", "mesh_tls"), [("{}", True), ("{tls: {mode: DISABLE}}", False)])
def test_a_mesh_cluster_that_speaks_as_its_client_asks_for_the_alpn_of_the_request(
    policy: str, *, mesh_tls: bool
) -> None:
    found = world.build(world.service("reviews", "undeclared:9080"), world.subsets("reviews", policy=policy))
    sniffed = found.sidecar().routes[f"{HOST}:9080"].virtual_hosts[0]
    assert sniffed.routes[0].destinations[0].destination.mesh_tls is mesh_tls


def test_a_match_may_name_statistics_of_its_own() -> None:
    found = routes(f"{{match: [{{uri: {{prefix: /a}}, statPrefix: one}}, {{uri: {{prefix: /b}}}}], {TO_V1}}}")
    assert [one.stat_prefix for one in found] == ["one", ""]
