"""Envoy's matchers one by one, where a random request seldom comes."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.type.matcher.v3 import metadata_pb2, string_pb2
from google.protobuf import json_format

from istiod.explain import matching, rbac, routing, tokens
from istiod.explain.call import Call, Tls, UndecidedError
from istiod.explain.tokens import Status
from tests.jwks.made import ec_signer, key_set

CALL = Call(
    destination="10.0.0.1",
    port=80,
    authority="web",
    path="/a/b?q=1&r=",
    headers={"x-a": "one"},
    unknown=frozenset({"x-made"}),
)
SIGNER = ec_signer()


def read(kind: Any, **fields: Any) -> Any:
    return json_format.ParseDict(fields, kind())


def header(**fields: Any) -> str:
    return matching.header(read(route_components_pb2.HeaderMatcher, **fields), CALL)


@pytest.mark.parametrize(
    ("template", "path", "fits"),
    [
        ("/templates/{*}/x", "/templates/a/x", True),
        ("/templates/{*}/x", "/templates/a/b/x", False),
        ("/deep/{**}", "/deep/a/b", True),
        ("/deep/{**}", "/deep/", True),
        ("/deep/{**}/z", "/deep/a/b/z", True),
        ("/a/*/c", "/a/b/c", True),
        ("/a/{name}/c", "/a/b/c", True),
        ("/a/{name=**}", "/a/b/c", True),
        ("/a.c", "/abc", False),
    ],
)
def test_templates_of_paths(template: str, path: str, fits: bool) -> None:  # noqa: FBT001 (a row)
    assert (matching.template(template, Call(destination="::1", port=1, path=path)) == "") is fits


def test_headers_hold_or_say_why_not() -> None:
    assert header(name="x-a", string_match={"exact": "one"}) == ""
    assert header(name="x-a", string_match={"prefix": "t"}) == "header x-a is 'one', not begin of 't'"
    assert header(name="x-a", string_match={"exact": "one"}, invert_match=True) == (
        "header x-a is 'one', which is excluded"
    )
    assert header(name="x-b", string_match={"exact": ""}, invert_match=True) == "there is no header x-b"
    assert header(name="x-b", string_match={"exact": "x"}, invert_match=True, treat_missing_header_as_empty=True) == ""
    assert header(name="x-b", present_match=True) == "there is no header x-b"
    assert header(name="x-a", present_match=True, invert_match=True) == "there is a header x-a"
    assert header(name="x-a") == ""
    assert header(name=":authority", exact_match="web") == ""
    assert header(name=":scheme", exact_match="http") == ""
    assert header(name="x-a", safe_regex_match={"regex": "o.e"}) == ""


def test_what_no_matcher_here_knows_is_undecided() -> None:
    for fields in ({"name": "x-made", "present_match": True}, {"name": "x-a", "range_match": {"start": 1, "end": 2}}):
        with pytest.raises(UndecidedError):
            header(**fields)
    with pytest.raises(UndecidedError):
        matching.full("(", "a")
    with pytest.raises(UndecidedError):
        matching.string(read(string_pb2.StringMatcher, custom={"name": "x"}), "a")
    assert matching.string(read(string_pb2.StringMatcher, contains="N", ignore_case=True), "one")


def test_parameters_of_a_query() -> None:
    ask = route_components_pb2.QueryParameterMatcher
    assert matching.query(read(ask, name="q", string_match={"exact": "1"}), CALL.path) == ""
    assert "parameter q is '1', not '2'" in matching.query(read(ask, name="q", string_match={"exact": "2"}), CALL.path)
    assert matching.query(read(ask, name="r", present_match=True), CALL.path) == ""
    assert matching.query(read(ask, name="s", present_match=True), CALL.path) == "there is no parameter s"


@pytest.mark.parametrize(
    ("value", "held", "fits"),
    [
        ({"string_match": {"exact": "a"}}, "a", True),
        ({"list_match": {"one_of": {"string_match": {"exact": "a"}}}}, ["b", "a"], True),
        ({"or_match": {"value_matchers": [{"string_match": {"exact": "b"}}, {"present_match": True}]}}, "a", True),
        ({"present_match": True}, None, False),
        ({"string_match": {"exact": "a"}}, ["a"], False),
    ],
)
def test_claims(value: Any, held: Any, fits: bool) -> None:  # noqa: FBT001 (a row)
    asked = read(metadata_pb2.MetadataMatcher, filter="f", path=[{"key": "payload"}, {"key": "group"}], value=value)
    said = matching.metadata(asked, {"f": {"payload": {"group": held}}})
    assert (said == "") is fits
    assert fits or "claim group is" in said


def decided(action: str, call: Call, *, requests: bool = True, **policy: Any) -> rbac.Decision:
    rules = read(rbac_pb2.RBAC, action=action, policies={"ns[a]-policy[b]-rule[0]": policy})
    return rbac.decide(rules, call, {}, requests=requests)


ANY = [{"any": True}]


def test_a_connection_has_no_request_and_no_identity_that_the_proxy_did_not_check() -> None:
    caller = [{"authenticated": {"principal_name": {"exact": "spiffe://a"}}}]
    mutual = Call(destination="10.0.0.1", port=80, tls=Tls.MUTUAL, principal="spiffe://a", sni="s")
    assert decided("ALLOW", mutual, permissions=ANY, principals=caller).allowed
    rules = read(rbac_pb2.RBAC, action="ALLOW", policies={"p": {"permissions": ANY, "principals": caller}})
    unchecked = rbac.decide(rules, mutual, {}, requests=False, secured=False)
    assert not unchecked.allowed
    assert "no identity" in unchecked.lost[0].reason
    paths = [{"url_path": {"path": {"exact": "/"}}}]
    assert not decided("ALLOW", CALL, requests=False, permissions=paths, principals=ANY).allowed
    assert decided("DENY", CALL, permissions=[{"destination_port": 81}], principals=ANY).allowed
    assert not decided("DENY", CALL, permissions=[{"not_rule": {"destination_port": 81}}], principals=ANY).allowed
    named = [{"requested_server_name": {"exact": "s"}}]
    assert decided("ALLOW", mutual, permissions=named, principals=ANY).allowed
    blocks = [{"direct_remote_ip": {"address_prefix": "192.0.2.0", "prefix_len": 24}}]
    assert decided("ALLOW", CALL, permissions=ANY, principals=blocks).allowed
    with pytest.raises(UndecidedError):
        decided("ALLOW", CALL, permissions=[{"metadata": {"filter": "f", "value": {"null_match": {}}}}], principals=ANY)


def test_a_rule_is_found_by_the_name_of_its_policy() -> None:
    found = rbac.origin("istio-ext-authz-provider-ns[a]-policy[b]-rule[3]")
    assert found is not None
    assert str(found) == "AuthorizationPolicy/a/b#spec.rules[3]"
    assert rbac.origin("else") is None


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("/a/./b/../c/", "/a/c/"), ("/%41%2e%2E/x", "/A../x"), ("/a//b", "/a//b"), ("/..", "/"), ("\\a", "/a")],
)
def test_paths_are_normalized_as_the_connection_manager_does(given: str, wanted: str) -> None:
    manager = read(hcm_pb2.HttpConnectionManager, normalize_path=True)
    assert routing.normalized(Call(destination="::1", port=1, path=f"{given}?q"), manager).path == f"{wanted}?q"


def test_domains_are_chosen_by_how_much_they_say() -> None:
    domains = ("*", "web.*", "*.example", "*a.example", "a.example")
    table = route_pb2.RouteConfiguration()
    for domain in domains:
        table.virtual_hosts.add(name=domain, domains=[domain])
    chosen = {name: routing.host(table, name)[1] for name in ("a.example", "ba.example", "b.example", "web.x", "q")}
    assert chosen == {
        "a.example": "a.example",
        "ba.example": "*a.example",
        "b.example": "*.example",
        "web.x": "web.*",
        "q": "*",
    }


def checked(token: str = "", *, claims: Any = None, moment: float = 1000, **provider: Any) -> tokens.Verdict:
    said: dict[str, Any] = {"issuer": "i", "payload_in_metadata": "payload"}
    if "remote_jwks" not in provider:
        said["local_jwks"] = {"inline_string": key_set(SIGNER)}
    requirement = {"provider_name": "p"}
    optional = {"requires_any": {"requirements": [requirement, {"allow_missing": {}}]}}
    config = read(
        config_pb2.JwtAuthentication,
        providers={"p": {**said, **provider}},
        rules=[{"match": {"prefix": "/"}, "requires": optional}],
    )
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return tokens.check(config, Call(destination="::1", port=1, headers=headers, claims=claims, moment=moment))


def test_tokens_are_good_missing_foreign_late_or_for_others() -> None:
    assert checked().status is Status.GOOD
    assert checked("x.y.z").status is Status.BAD
    assert checked(claims={"iss": "i", "scope": "a b"}).claims == {"payload": {"iss": "i", "scope": "a b"}}
    assert checked(claims={"iss": "i"}).takes == ("authorization",)
    assert checked(claims={"iss": "i"}, forward=True).takes == ()
    assert checked(claims={"iss": "j"}).status is Status.FOREIGN
    assert checked(claims={"iss": "i", "exp": 900}).text == "the token has expired"
    assert checked(claims={"iss": "i", "nbf": 1100}).text == "the token is not valid yet"
    late = checked(claims={"iss": "i", "aud": ["https://a/"]}, audiences=["b"])
    assert (late.status, late.code) == (Status.AUDIENCE, 403)
    assert checked(claims={"iss": "i", "aud": "https://a/"}, audiences=["a"]).code == 0
    unsigned = jwt.encode({"iss": "i"}, "k" * 32, "HS256")
    assert checked(unsigned).code == 401
    with pytest.raises(UndecidedError):
        checked(unsigned, remote_jwks={"http_uri": {"uri": "x", "cluster": "c", "timeout": "1s"}})
