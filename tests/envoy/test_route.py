"""Routes: matches, actions, headers and filters of single routes; tables joined from frames."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from envoy.config.route.v3 import route_pb2

from istiod.envoy import route
from istiod.mesh.policy import HashCookie, HashPolicy
from istiod.mesh.route import (
    Abort,
    Cors,
    Delay,
    DirectResponse,
    Fault,
    HeaderMatch,
    HeaderOperations,
    Headers,
    MatchKind,
    Mirror,
    QueryMatch,
    Redirect,
    Retry,
    Rewrite,
    Route,
    RouteMatch,
    StringMatch,
    VirtualHost,
    WeightedDestination,
)
from istiod.mesh.settings import DEFAULT_RETRY
from tests.envoy import made
from wire import names

SECOND = timedelta(seconds=1)
TYPES = "type.googleapis.com/"
REVIEWS = "outbound|9080||reviews.default.svc.cluster.local"


USUAL = route.Told()


def frame(host: VirtualHost, told: route.Told = USUAL) -> route.Frame:
    return route.frame(host, route.routes(host, told), told)


def shown(leaf: Route) -> dict[str, Any]:
    return made.shown(route.virtual_host(made.virtual_host(routes=[leaf])))["routes"][0]


def of(value: str, kind: MatchKind = MatchKind.EXACT, *, ignore_case: bool = False) -> StringMatch:
    return StringMatch(kind=kind, value=value, ignore_case=ignore_case)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (RouteMatch(), {"prefix": "/"}),
        (RouteMatch(path=of("/a")), {"path": "/a", "case_sensitive": True}),
        (RouteMatch(path=of("/a", ignore_case=True)), {"path": "/a", "case_sensitive": False}),
        (RouteMatch(path=of("/a", MatchKind.PREFIX)), {"prefix": "/a", "case_sensitive": True}),
        (RouteMatch(path=of("/[ab]", MatchKind.REGEX)), {"safe_regex": {"regex": "/[ab]"}, "case_sensitive": True}),
        (
            RouteMatch(
                headers=(
                    HeaderMatch(name=":method", match=of("GET")),
                    HeaderMatch(name="a", match=of("x", MatchKind.PREFIX), invert=True),
                    HeaderMatch(name="b", match=of("", MatchKind.PRESENT), invert=True),
                )
            ),
            {
                "prefix": "/",
                "headers": [
                    {"name": ":method", "string_match": {"exact": "GET"}},
                    {
                        "name": "a",
                        "string_match": {"prefix": "x"},
                        "invert_match": True,
                        "treat_missing_header_as_empty": True,
                    },
                    {"name": "b", "present_match": True, "invert_match": True},
                ],
            },
        ),
        (
            RouteMatch(
                query=(
                    QueryMatch(name="q", match=of("[0-9]+", MatchKind.REGEX)),
                    QueryMatch(name="r", match=of("", MatchKind.PRESENT)),
                )
            ),
            {
                "prefix": "/",
                "query_parameters": [
                    {"name": "q", "string_match": {"safe_regex": {"regex": "[0-9]+"}}},
                    {"name": "r", "present_match": True},
                ],
            },
        ),
    ],
)
def test_a_match_is_what_the_rule_says(match: RouteMatch, expected: dict[str, Any]) -> None:
    assert shown(made.route(match=match))["match"] == expected


OFF = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
ON = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}


def test_a_default_route_has_istios_timeouts_and_retries_and_no_alpn() -> None:
    found = shown(made.route(retry=DEFAULT_RETRY, operation="reviews:9080/*"))
    assert found == {
        "name": "default",
        "match": {"prefix": "/"},
        "decorator": {"operation": "reviews:9080/*"},
        "route": {
            "cluster": REVIEWS,
            "timeout": "0s",
            "max_grpc_timeout": "0s",
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
                "num_retries": 2,
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": TYPES + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        },
                    }
                ],
                "host_selection_retry_max_attempts": "5",
            },
        },
        "typed_per_filter_config": {"istio.metadata_exchange": OFF},
    }


def test_an_inbound_route_has_istios_own_policy() -> None:
    found = shown(made.route(inbound=True))["route"]
    assert found == {
        "cluster": REVIEWS,
        "timeout": "0s",
        "max_stream_duration": {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"},
        "retry_policy": {"retry_on": "reset-before-request", "num_retries": 2},
    }
    off = Retry(attempts=0, retry_on="")
    assert "retry_policy" not in shown(made.route(inbound=True, retry=off))["route"]
    own = shown(made.route(inbound=True, retry=Retry(attempts=5, retry_on="5xx")))["route"]["retry_policy"]
    assert made.picked(own, "retry_on", "num_retries") == {"retry_on": "5xx", "num_retries": 5}


def test_retries_are_as_the_rule_says_and_0_attempts_are_none() -> None:
    retry = Retry(
        attempts=3,
        retry_on="5xx",
        status_codes=(503,),
        per_try_timeout=SECOND,
        remote_localities=True,
        ignore_previous_hosts=False,
        backoff=SECOND / 2,
    )
    found = shown(made.route(retry=retry, timeout=2 * SECOND))["route"]
    assert (found["timeout"], found["max_grpc_timeout"]) == ("2s", "2s")
    assert made.picked(found["retry_policy"], "num_retries", "retriable_status_codes", "per_try_timeout") == {
        "num_retries": 3,
        "retriable_status_codes": [503],
        "per_try_timeout": "1s",
    }
    assert found["retry_policy"]["retry_back_off"] == {"base_interval": "0.500s"}
    assert found["retry_policy"]["retry_priority"]["typed_config"]["update_frequency"] == 2
    assert "retry_host_predicate" not in found["retry_policy"]
    assert "retry_policy" not in shown(made.route(retry=Retry(attempts=0, retry_on="5xx")))["route"]


def test_a_rule_stands_in_the_routes_metadata_with_its_field() -> None:
    assert shown(made.route(origin=made.RULE))["metadata"]["filter_metadata"]["istio"] == {
        "config": "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews",
        "field": "spec.http[0]",
    }


def test_shares_carry_their_own_headers_and_alpn() -> None:
    headers = Headers(request=HeaderOperations(set=(("x-v", "1"), (":authority", "v1.example")), remove=("x-d",)))
    found = shown(
        made.route(
            destinations=(
                WeightedDestination(destination=made.destination(subset="v1", mesh_tls=True, in_mesh=True), weight=75),
                WeightedDestination(destination=made.destination(subset="v2"), weight=25, headers=headers),
            )
        )
    )
    assert found["typed_per_filter_config"] == {"istio.alpn": ON}
    assert found["route"]["weighted_clusters"]["clusters"] == [
        {"name": "outbound|9080|v1|reviews.default.svc.cluster.local", "weight": 75},
        {
            "name": "outbound|9080|v2|reviews.default.svc.cluster.local",
            "weight": 25,
            "request_headers_to_add": [
                {"header": {"key": "x-v", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
            "request_headers_to_remove": ["x-d"],
            "host_rewrite_literal": "v1.example",
            "typed_per_filter_config": {"istio.alpn": OFF, "istio.metadata_exchange": OFF},
        },
    ]


def test_headers_of_a_single_destination_come_after_the_routes() -> None:
    def ops(value: str) -> Headers:
        return Headers(
            request=HeaderOperations(add=(("x", value), (":path", value))),
            response=HeaderOperations(set=(("y", value),), remove=("z", "Host")),
        )

    found = shown(
        made.route(
            headers=ops("route"),
            destinations=(WeightedDestination(destination=made.destination(), weight=1, headers=ops("own")),),
        )
    )
    assert [h["header"] for h in found["request_headers_to_add"]] == [
        {"key": "x", "value": "route"},
        {"key": "x", "value": "own"},
    ]
    assert [h["header"]["value"] for h in found["response_headers_to_add"]] == ["route", "own"]
    assert found["response_headers_to_remove"] == ["z", "z"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rewrite": Rewrite(prefix="/b")}, {"prefix_rewrite": "/b"}),
        ({"rewrite": Rewrite(path="/b")}, {"prefix_rewrite": "/b"}),
        (
            {"rewrite": Rewrite(regex=("/a/(.*)", r"/b/\1"))},
            {"regex_rewrite": {"pattern": {"regex": "/a/(.*)"}, "substitution": r"/b/\1"}},
        ),
        ({"rewrite": Rewrite(authority="o.example")}, {"host_rewrite_literal": "o.example"}),
        (
            {"headers": Headers(request=HeaderOperations(set=(("Host", "h.example"),)))},
            {"host_rewrite_literal": "h.example"},
        ),
        (
            {
                "destinations": (
                    WeightedDestination(
                        destination=made.destination(),
                        weight=1,
                        headers=Headers(request=HeaderOperations(set=((":authority", "d.example"),))),
                    ),
                )
            },
            {"host_rewrite_literal": "d.example"},
        ),
    ],
)
def test_path_and_authority_are_rewritten(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = shown(made.route(**changes))
    assert "request_headers_to_add" not in found
    assert {k: v for k, v in found["route"].items() if "rewrite" in k} == expected


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        (Redirect(path="/x"), {"path_redirect": "/x"}),
        (Redirect(prefix="/y"), {"prefix_rewrite": "/y"}),
        (
            Redirect(authority="h", port=8443, scheme="https", code=307),
            {
                "host_redirect": "h",
                "port_redirect": 8443,
                "scheme_redirect": "https",
                "response_code": "TEMPORARY_REDIRECT",
            },
        ),
    ],
)
def test_a_redirect_says_only_what_changes(redirect: Redirect, expected: dict[str, Any]) -> None:
    found = shown(made.route(redirect=redirect))
    assert found["redirect"] == expected
    assert "typed_per_filter_config" not in found


def test_a_proxy_may_answer_itself() -> None:
    assert shown(made.route(direct_response=DirectResponse(status=503, body=b"down")))["direct_response"] == {
        "status": 503,
        "body": {"inline_bytes": "ZG93bg=="},
    }
    assert shown(made.route(direct_response=DirectResponse(status=404)))["direct_response"] == {"status": 404}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (HashPolicy(header="x-user"), {"header": {"header_name": "x-user"}}),
        (HashPolicy(query_parameter="q"), {"query_parameter": {"name": "q"}}),
        (HashPolicy(source_ip=True), {"connection_properties": {"source_ip": True}}),
        (HashPolicy(cookie=HashCookie(name="c")), {"cookie": {"name": "c"}}),
        (
            HashPolicy(cookie=HashCookie(name="c", path="/p", ttl=SECOND, attributes=(("SameSite", "Lax"),))),
            {"cookie": {"name": "c", "path": "/p", "ttl": "1s", "attributes": [{"name": "SameSite", "value": "Lax"}]}},
        ),
    ],
)
def test_a_hash_policy_stands_once_however_many_destinations_have_it(
    policy: HashPolicy, expected: dict[str, Any]
) -> None:
    both = made.to(made.destination(subset="v1", hash_policy=policy), made.destination(subset="v2", hash_policy=policy))
    assert shown(made.route(destinations=both))["route"]["hash_policy"] == [expected]


def test_faults_and_cors_stand_in_the_route() -> None:
    fault = Fault(delay=Delay(fixed=SECOND, percent=0.1), abort=Abort(http_status=418, percent=33.33))
    cors = Cors(
        allow_origins=(of("https://a.example"),),
        allow_methods=("GET", "PUT"),
        allow_headers=("x",),
        expose_headers=("y",),
        max_age=60 * SECOND,
        allow_credentials=False,
    )
    found = shown(made.route(fault=fault, cors=cors))["typed_per_filter_config"]
    assert made.picked(found["envoy.filters.http.fault"], "delay", "abort") == {
        "delay": {"fixed_delay": "1s", "percentage": {"numerator": 1000, "denominator": "MILLION"}},
        "abort": {"http_status": 418, "percentage": {"numerator": 333300, "denominator": "MILLION"}},
    }
    assert found["envoy.filters.http.cors"] == {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "filter_enabled": {"default_value": {"numerator": 100}},
        "allow_origin_string_match": [{"exact": "https://a.example"}],
        "allow_methods": "GET,PUT",
        "allow_headers": "x",
        "expose_headers": "y",
        "max_age": "60",
        "allow_credentials": False,
    }
    grpc = shown(made.route(fault=Fault(abort=Abort(grpc_status=14)), cors=Cors()))["typed_per_filter_config"]
    assert grpc["envoy.filters.http.fault"]["abort"]["grpc_status"] == 14
    assert "max_age" not in grpc["envoy.filters.http.cors"]
    nobody = shown(made.route(fault=Fault(abort=Abort(http_status=418, percent=None))))["typed_per_filter_config"]
    assert "percentage" not in nobody["envoy.filters.http.fault"]["abort"]


def test_mirrors_copy_their_share_and_none_of_nothing() -> None:
    mirrors = (
        Mirror(destination=made.destination("copy"), percent=12.5),
        Mirror(destination=made.destination("never"), percent=0),
    )
    (found,) = shown(made.route(mirrors=mirrors))["route"]["request_mirror_policies"]
    assert found == {
        "cluster": "outbound|9080||copy.default.svc.cluster.local",
        "runtime_fraction": {"default_value": {"numerator": 125000, "denominator": "MILLION"}},
        "trace_sampled": False,
    }


def test_a_table_is_its_head_and_the_frames_of_its_hosts() -> None:
    hosts = (made.virtual_host("reviews"), made.virtual_host("ratings", require_tls=True, include_attempt_count=False))
    source = made.table(*hosts)
    compiled = route.table(source, [frame(host) for host in hosts])
    assert made.parsed(compiled, route_pb2.RouteConfiguration) == route.inline(source)
    found = made.shown(route.inline(source))
    assert made.picked(
        found, "name", "validate_clusters", "max_direct_response_body_size_bytes", "ignore_port_in_host_matching"
    ) == {
        "name": "9080",
        "validate_clusters": False,
        "max_direct_response_body_size_bytes": 1048576,
        "ignore_port_in_host_matching": True,
    }
    first, second = found["virtual_hosts"]
    assert (first["include_request_attempt_count"], second["require_tls"]) == (True, "ALL")
    assert first["domains"] == ["reviews.default.svc.cluster.local", "reviews"]


def test_a_table_refers_to_every_cluster_that_exists_and_its_version_follows_every_part() -> None:
    nowhere = made.destination("gone", known=False)
    mirrored = made.route(mirrors=(Mirror(destination=made.destination("copy")), Mirror(destination=nowhere)))
    one, other = made.virtual_host(routes=[mirrored]), made.virtual_host("ratings")
    both = route.table(made.table(one, other), [frame(one), frame(other)])
    assert both.refs[names.CLUSTER] == {made.cluster_name(each) for each in ("reviews", "copy", "ratings")}
    swapped = route.table(made.table(other, one), [frame(other), frame(one)])
    renamed = route.table(made.table(one, other, name="80"), [frame(one), frame(other)])
    assert len({both.version, swapped.version, renamed.version}) == 3


def test_a_mesh_may_keep_to_itself_how_often_a_request_was_tried() -> None:
    host = made.virtual_host("reviews")
    silent = route.inline(made.table(host), route.Told(attempts=False))
    assert silent.virtual_hosts[0].include_request_attempt_count is False
    assert (
        made.parsed(
            route.table(made.table(host), [frame(host, route.Told(attempts=False))]), route_pb2.RouteConfiguration
        )
        == silent
    )
