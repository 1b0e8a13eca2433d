from __future__ import annotations

import pytest

from crds.virtual_service import HTTPMatchRequest, StringMatch
from istiod.mesh import conditions, string_matches
from istiod.mesh.conditions import Client, Condition, Source
from istiod.mesh.route import ANY, HeaderMatch, MatchKind, QueryMatch, RouteMatch
from istiod.mesh.route import StringMatch as Match

PRESENT = Match(kind=MatchKind.PRESENT)


def said(**fields: object) -> Condition:
    return conditions.condition(HTTPMatchRequest.model_validate(fields), "shop")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"exact": "/a"}, Match(kind=MatchKind.EXACT, value="/a")),
        ({"prefix": "/a"}, Match(kind=MatchKind.PREFIX, value="/a")),
        ({"regex": "/a.*"}, Match(kind=MatchKind.REGEX, value="/a.*")),
        ({}, None),
        ({"prefix": ""}, None),
    ],
)
def test_a_uri_becomes_a_path(given: dict[str, str], expected: Match | None) -> None:
    assert said(uri=given).match.path == expected


def test_case_is_ignored_in_exact_and_prefix_paths_only() -> None:
    assert said(uri={"exact": "/a"}, ignoreUriCase=True).match.path == Match(
        kind=MatchKind.EXACT, value="/a", ignore_case=True
    )
    assert said(uri={"regex": "/a"}, ignoreUriCase=True).match.path == Match(kind=MatchKind.REGEX, value="/a")


@pytest.mark.parametrize("given", [{}, {"prefix": ""}, {"regex": "*"}, {"regex": ""}])
def test_a_comparison_that_says_nothing_asks_for_presence(given: dict[str, str]) -> None:
    assert string_matches.convert_value(StringMatch.model_validate(given)) == PRESENT


def test_an_empty_text_is_a_value() -> None:
    found = string_matches.convert_value(StringMatch.model_validate({"exact": ""}))
    assert found == Match(kind=MatchKind.EXACT, value="")


def test_headers_stand_after_pseudo_headers_and_before_forbidden_ones_in_order_of_names() -> None:
    found = said(
        method={"exact": "GET"},
        scheme={"exact": "https"},
        authority={"prefix": "a"},
        headers={"b": {"exact": "1"}, "a": {}},
        withoutHeaders={"c": {"regex": "x"}},
    ).match.headers
    assert found == (
        HeaderMatch(name=":authority", match=Match(kind=MatchKind.PREFIX, value="a")),
        HeaderMatch(name=":method", match=Match(kind=MatchKind.EXACT, value="GET")),
        HeaderMatch(name=":scheme", match=Match(kind=MatchKind.EXACT, value="https")),
        HeaderMatch(name="a", match=PRESENT),
        HeaderMatch(name="b", match=Match(kind=MatchKind.EXACT, value="1")),
        HeaderMatch(name="c", match=Match(kind=MatchKind.REGEX, value="x"), invert=True),
    )


def test_query_parameters_are_compared() -> None:
    assert said(queryParams={"q": {"exact": "1"}, "p": {}}).match.query == (
        QueryMatch(name="p", match=PRESENT),
        QueryMatch(name="q", match=Match(kind=MatchKind.EXACT, value="1")),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mesh", "mesh"),
        ("gw", "shop/gw"),
        ("./gw", "shop/gw"),
        ("edge/gw", "edge/gw"),
        ("gw.edge.svc.cluster.local", "edge/gw"),
        ("gw.edge", "edge/gw"),
    ],
)
def test_gateways_are_named_by_namespace_and_name(name: str, expected: str) -> None:
    assert conditions.resolve_gateway(name, "shop") == expected


SIDECAR = Client(namespace="shop", selectors=frozenset({"app=web"}))
ROUTER = Client(namespace="edge", gateways=frozenset({"shop/gw"}))


@pytest.mark.parametrize(
    ("source", "client", "holds"),
    [
        (Source(), SIDECAR, True),
        (Source(port=80), SIDECAR, True),
        (Source(port=81), SIDECAR, False),
        (Source(selector="app=web"), SIDECAR, True),
        (Source(selector="app=db"), SIDECAR, False),
        (Source(namespace="shop"), SIDECAR, True),
        (Source(namespace="other"), SIDECAR, False),
        (Source(gateways=("mesh",), selector="app=db"), SIDECAR, True),
        (Source(gateways=("shop/gw",)), SIDECAR, False),
        (Source(gateways=("shop/gw",)), ROUTER, True),
    ],
)
def test_a_source_holds_for_a_client(source: Source, client: Client, *, holds: bool) -> None:
    assert source.holds(client, 80) is holds


@pytest.mark.parametrize(
    ("source", "client", "holds"),
    [
        (Source(port=81), SIDECAR, False),
        (Source(gateways=("shop/gw",)), SIDECAR, False),
        (Source(gateways=("mesh",), selector="app=db"), SIDECAR, False),
        (Source(gateways=("mesh",), selector="app=web", namespace="shop"), SIDECAR, True),
        (Source(namespace="other"), SIDECAR, False),
        (Source(gateways=("shop/gw",), selector="app=db", namespace="other"), ROUTER, True),
        (Source(selector="app=db"), ROUTER, True),
    ],
)
def test_connections_of_sidecars_have_to_meet_all_of_a_source(source: Source, client: Client, *, holds: bool) -> None:
    assert source.holds_connection(client, 80) is holds


def test_the_source_of_a_match_is_read() -> None:
    found = said(gateways=["gw", "mesh"], sourceLabels={"b": "2", "a": "1"}, sourceNamespace="x", port=8080, name="n")
    assert found.source == Source(gateways=("shop/gw", "mesh"), selector="a=1,b=2", namespace="x", port=8080)
    assert found.name == "n"


@pytest.mark.parametrize(
    ("match", "catches_all"),
    [
        (ANY, True),
        (RouteMatch(path=Match(kind=MatchKind.PREFIX, value="/")), True),
        (RouteMatch(path=Match(kind=MatchKind.PREFIX, value="/a")), False),
        (RouteMatch(path=Match(kind=MatchKind.EXACT, value="/")), False),
        (RouteMatch(headers=(HeaderMatch(name="a", match=PRESENT),)), False),
        (RouteMatch(query=(QueryMatch(name="a", match=PRESENT),)), False),
    ],
)
def test_a_condition_catches_all_where_it_asks_for_nothing(match: RouteMatch, *, catches_all: bool) -> None:
    assert Condition(match=match).catches_all is catches_all
