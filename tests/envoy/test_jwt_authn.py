from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from envoy.config.listener.v3 import listener_components_pb2

from istiod.envoy import hcm, match
from istiod.envoy.filters import jwt_authn
from istiod.mesh.jwt import Provider, Remote
from istiod.mesh.route import ClaimMatch, MatchKind, RouteMatch, StringMatch
from istiod.mesh.scope import Direction, DnsCache, Http
from tests.envoy import made

ONE = Provider(issuer="a", keys="keys")
OTHER = Provider(issuer="b", keys="keys", required=True)
REMOTE = Provider(issuer="c", remote=Remote(uri="http://x/", cluster="outbound|80||x", timeout=timedelta(seconds=2)))


def requirement(*providers: Provider) -> Any:
    (rule,) = made.shown(jwt_authn.message(providers))["rules"]
    return rule["requires"]


def missing_or(name: str) -> Any:
    return {"requires_any": {"requirements": [{"provider_name": name}, {"allow_missing": {}}]}}


def test_one_provider_asks_for_its_token_or_none() -> None:
    assert requirement(ONE) == missing_or("origins-0")
    assert requirement(OTHER) == {"provider_name": "origins-0"}


def test_several_ask_for_the_token_of_one_or_of_each_its_own_or_none() -> None:
    every = {"requires_all": {"requirements": [missing_or("origins-0"), {"provider_name": "origins-1"}]}}
    names = [{"provider_name": "origins-0"}, {"provider_name": "origins-1"}]
    assert requirement(ONE, OTHER) == {"requires_any": {"requirements": [*names, every]}}


def test_keys_of_a_service_are_fetched_through_its_cluster() -> None:
    found = made.shown(jwt_authn.message((REMOTE,)))["providers"]["origins-0"]
    assert found["remote_jwks"] == {
        "http_uri": {"uri": "http://x/", "cluster": "outbound|80||x", "timeout": "2s"},
        "cache_duration": "300s",
    }
    assert "local_jwks" not in found


@pytest.mark.parametrize("direction", [Direction.INBOUND, Direction.GATEWAY])
def test_tokens_are_looked_at_before_anything_else(direction: Direction) -> None:
    http = Http(stat_prefix="x", rds="r", tokens=(ONE,), grpc_web=True, caches=(DnsCache(name="c"),))
    chain = listener_components_pb2.FilterChain(filters=[hcm.network_filter(http, direction, made.QUIET)])
    names = [one.name for one in made.manager(chain).http_filters]
    noting = [name for name in names if name in {"istio.protocol", "istio.metadata_exchange"}]
    assert names[len(noting) :][:2] == [jwt_authn.NAME, "envoy.filters.http.grpc_web"]
    assert names[-1] == "envoy.filters.http.router"
    assert ("clear_route_cache: true" in str(jwt_authn.message((ONE,), clear_route_cache=True))) is True
    assert ("clear_route_cache" in str(jwt_authn.message((ONE,)))) is False
    assert not list(jwt_authn.http_filters((), clear_route_cache=True))


def test_a_condition_on_a_claim_looks_at_what_the_filter_left() -> None:
    admin = StringMatch(kind=MatchKind.EXACT, value="admin")
    claims = (
        ClaimMatch(path=("a", "b"), match=admin, invert=True),
        ClaimMatch(path=("c",), match=StringMatch(kind=MatchKind.PRESENT)),
    )
    found = made.shown(match.route(RouteMatch(claims=claims)))["dynamic_metadata"]
    assert found == [
        {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{"key": "payload"}, {"key": "a"}, {"key": "b"}],
            "value": {
                "or_match": {
                    "value_matchers": [
                        {"list_match": {"one_of": {"string_match": {"exact": "admin"}}}},
                        {"string_match": {"exact": "admin"}},
                    ]
                }
            },
            "invert": True,
        },
        {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{"key": "payload"}, {"key": "c"}],
            "value": {
                "or_match": {
                    "value_matchers": [
                        {"list_match": {"one_of": {"present_match": True}}},
                        {"present_match": True},
                    ]
                }
            },
        },
    ]
