"""AuthorizationPolicies as filters: what Envoy compares with, by rows of one policy each."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as tcp_ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as tcp_rbac_pb2
from envoy.type.v3 import http_status_pb2
from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message

from crds.key import SECURITY, ConfigKey
from istiod.envoy import hcm, listener
from istiod.envoy.filters import authorization as filters
from istiod.mesh import authorization_rules, ext_authz
from istiod.mesh.authorization import Asked, Authorization, RuleSet
from istiod.mesh.authorization_rules import Rule
from istiod.mesh.ext_authz import Body, ExtAuthz, HttpCheck
from istiod.mesh.scope import Chain, Direction, Http, Listener, Tcp, WeightedCluster
from tests.envoy import made
from tests.mesh import fleet, world

TYPES: dict[str, type[Message]] = {
    each.DESCRIPTOR.full_name: each
    for each in (http_rbac_pb2.RBAC, tcp_rbac_pb2.RBAC, ext_authz_pb2.ExtAuthz, tcp_ext_authz_pb2.ExtAuthz)
}


def rule(**said: Any) -> Rule:
    text = fleet.istio("AuthorizationPolicy", "p", {"rules": [said]}, "ns")
    (item,) = world.objects(text)
    (found,) = authorization_rules.rules(item, ("cluster.local",))  # type: ignore[arg-type]  # it is a policy
    return found


def opened(packed: any_pb2.Any) -> Any:
    message = TYPES[packed.type_url.rpartition("/")[2]]()
    assert packed.Unpack(message)
    return message


def allowing(one: Rule) -> Authorization:
    return Authorization(allow=RuleSet(enforced=(one,)))


def terms(one: Rule, part: str) -> list[dict[str, Any]]:
    """What all must hold of a rule's only caller (``principals``) or operation (``permissions``)."""
    (found,) = filters.deciding(allowing(one))
    policy = opened(found.typed_config).rules.policies["ns[ns]-policy[p]-rule[0]"]
    (only,) = json_format.MessageToDict(policy)[part]
    (held,) = only.values()
    return list(next(iter(held.values())))


def source(**said: Any) -> dict[str, Any]:
    return {"from": [{"source": said}]}


def principal(**matcher: Any) -> dict[str, Any]:
    return {"orIds": {"ids": [{"authenticated": {"principalName": matcher}}]}}


def regex(pattern: str) -> dict[str, Any]:
    return principal(safeRegex={"regex": pattern})


def header(name: str, **matcher: Any) -> dict[str, Any]:
    return {"orIds": {"ids": [{"header": {"name": name, **matcher}}]}}


def when(key: str, *values: str) -> dict[str, Any]:
    return {"when": [{"key": key, "values": list(values)}]}


def inline(value: str) -> dict[str, Any]:
    return when("request.experimental.inline.headers[x-a]", value)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, {"any": True}),
        (source(principals=["a/b"]), principal(exact="spiffe://a/b")),
        (source(principals=["*.b[c"]), regex(r"spiffe://.*\.b\[c")),
        (source(notPrincipals=["a*"]), {"notId": principal(prefix="spiffe://a")}),
        (source(namespaces=["a*"]), regex(".*/ns/a.*/.*")),
        (source(namespaces=["*a"]), regex(".*/ns/[^/]*a/.*")),
        (source(namespaces=["b*sa"]), regex(".*/ns/b[^/]*sa/.*")),
        (source(namespaces=["b*s*"]), regex(".*/ns/b[^/]*s[^/]*/.*")),
        (source(namespaces=["*"]), regex(".*/ns/.*/.*")),
        (source(namespaces=["*-sa"]), regex(".*/ns/.*-sa/.*")),
        (source(namespaces=["a(b"]), regex(r".*/ns/a\(b/.*")),
        (source(serviceAccounts=["a.b"]), regex(r"spiffe://.+/ns/ns/(.+/|)sa/a\.b(/.+)?")),
        (source(trustDomains=["td"]), principal(prefix="spiffe://td/")),
        (source(trustDomains=["*.td"]), regex(r"spiffe://[^/]*\.td/.*")),
        (
            source(ipBlocks=["2001:db8::/32"]),
            {"orIds": {"ids": [{"directRemoteIp": {"addressPrefix": "2001:db8::", "prefixLen": 32}}]}},
        ),
        (
            source(remoteIpBlocks=["1.2.3.4"]),
            {"orIds": {"ids": [{"remoteIp": {"addressPrefix": "1.2.3.4", "prefixLen": 32}}]}},
        ),
        (when("request.headers[x-a]", "*"), header("x-a", presentMatch=True)),
        (when("request.headers[x-a]", "b"), header("x-a", stringMatch={"exact": "b"})),
        (inline("*"), header("x-a", presentMatch=True)),
        (inline("b.c"), header("x-a", stringMatch={"safeRegex": {"regex": r"(.*,)?[ \t]*b\.c[ \t]*(,.*)?"}})),
        (inline("b*"), header("x-a", stringMatch={"safeRegex": {"regex": r"(.*,)?[ \t]*b.*"}})),
        (inline("*b"), header("x-a", stringMatch={"safeRegex": {"regex": r".*b[ \t]*(,.*)?"}})),
    ],
)
def test_who_calls(said: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert terms(rule(**said), "principals") == [wanted]


def token(issuer: dict[str, Any], subject: dict[str, Any]) -> dict[str, Any]:
    def claim(name: str, matcher: dict[str, Any]) -> dict[str, Any]:
        path = [{"key": "payload"}, {"key": name}]
        return {"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": {"stringMatch": matcher}}}

    return {"andIds": {"ids": [claim("iss", issuer), claim("sub", subject)]}}


ANY = {"safeRegex": {"regex": ".+"}}


@pytest.mark.parametrize(
    ("said", "issuer", "subject"),
    [
        ("*", ANY, ANY),
        ("a", {"exact": "a"}, {"exact": ""}),
        ("https://a/b/c", {"exact": "https://a/b"}, {"exact": "c"}),
        ("a/*", {"exact": "a"}, ANY),
        ("a/b*", {"exact": "a"}, {"prefix": "b"}),
        ("a*", {"prefix": "a"}, ANY),
        ("*a", ANY, {"suffix": "a"}),
        ("*/a", ANY, {"exact": "a"}),
        ("*b/a", {"suffix": "b"}, {"exact": "a"}),
    ],
)
def test_whose_token(said: str, issuer: dict[str, Any], subject: dict[str, Any]) -> None:
    assert terms(rule(**source(requestPrincipals=[said])), "principals") == [token(issuer, subject)]


def test_several_tokens_are_alternatives() -> None:
    (found,) = terms(rule(**source(requestPrincipals=["a", "b"])), "principals")
    assert found.keys() == {"orIds"}


def test_metadata_of_filters_may_be_a_list() -> None:
    condition = {"key": "experimental.envoy.filters.a[b]", "values": ["[c]", "d"]}
    (found,) = terms(rule(when=[condition]), "permissions")
    first, second = found["metadata"]["value"]["orMatch"]["valueMatchers"]
    assert first == {"listMatch": {"oneOf": {"stringMatch": {"exact": "c"}}}}
    assert second == {"stringMatch": {"exact": "d"}}


@pytest.mark.parametrize(
    ("key", "claims"),
    [
        ("request.auth.audiences", ["aud"]),
        ("request.auth.presenter", ["azp"]),
        ("request.auth.claims[a][b]", ["a", "b"]),
    ],
)
def test_a_claim_may_be_a_list(key: str, claims: list[str]) -> None:
    (found,) = terms(rule(**when(key, "x")), "principals")
    assert found["metadata"]["path"] == [{"key": each} for each in ("payload", *claims)]
    one = {"stringMatch": {"exact": "x"}}
    assert found["metadata"]["value"]["orMatch"]["valueMatchers"] == [{"listMatch": {"oneOf": one}}, one]


def test_where_a_connection_goes() -> None:
    found = terms(
        rule(when=[*when("destination.ip", "10.0.0.0/8")["when"], *when("connection.sni", "*.a")["when"]]),
        "permissions",
    )
    address, name = found
    assert address["orRules"]["rules"][0]["destinationIp"] == {"addressPrefix": "10.0.0.0", "prefixLen": 8}
    assert name["orRules"]["rules"][0]["requestedServerName"] == {"suffix": ".a"}


def test_a_provider_of_http_needs_little() -> None:
    _, asked = filters.asking(asking(made_with(http=HttpCheck())))
    assert not opened(asked.typed_config).http_service.HasField("authorization_request")
    assert list(filters.asking(None)) == list(filters.deciding(None)) == list(filters.network(None)) == []


def test_a_path_that_is_no_template_is_compared_as_it_is() -> None:
    (found,) = terms(rule(to=[{"operation": {"paths": ["/a*"]}}]), "permissions")
    assert found == {"orRules": {"rules": [{"urlPath": {"path": {"prefix": "/a"}}}]}}


def test_hosts_are_compared_without_regard_to_case_and_paths_by_template() -> None:
    operation = {"hosts": ["A.b"], "methods": ["G*"], "paths": ["/a/{*}"], "notPorts": ["80"]}
    host, method, path, port = terms(rule(to=[{"operation": operation}]), "permissions")
    assert host["orRules"]["rules"][0]["header"]["stringMatch"] == {"exact": "A.b", "ignoreCase": True}
    assert method["orRules"]["rules"][0]["header"]["stringMatch"] == {"prefix": "G"}
    assert path["orRules"]["rules"][0]["uriTemplate"]["name"] == "uri-template"
    assert port == {"notRule": {"orRules": {"rules": [{"destinationPort": 80}]}}}


HTTP_ONLY = rule(**source(requestPrincipals=["a"], namespaces=["b"]))
BROKEN = rule(when=[{"key": "no.such", "values": ["a"]}])
NOTHING = Rule(name="n", callers=(), operations=())


def policies(said: Authorization, *, tcp: bool) -> list[tuple[int, set[str]]]:
    found = filters.network(said) if tcp else filters.deciding(said)
    return [(each.rules.action, set(each.rules.policies)) for each in (opened(one.typed_config) for one in found)]


@pytest.mark.parametrize("broken", [HTTP_ONLY, BROKEN])
def test_what_tcp_has_not_lets_nobody_in_and_refuses_all_the_more(broken: Rule) -> None:
    name = "ns[ns]-policy[p]-rule[0]"
    same = RuleSet(enforced=(broken,))
    found = policies(Authorization(audit=same, deny=same, allow=same), tcp=True)
    assert found == [
        (rbac_pb2.RBAC.LOG, {name}),
        (rbac_pb2.RBAC.DENY, {name}),
        (rbac_pb2.RBAC.ALLOW, set()),
    ]
    (refusing,) = filters.network(Authorization(deny=RuleSet(enforced=(HTTP_ONLY,))))
    (only,) = opened(refusing.typed_config).rules.policies[name].principals
    assert [each.WhichOneof("identifier") for each in only.and_ids.ids] == ["or_ids"]


def test_a_rule_that_never_holds_and_a_trial() -> None:
    said = Authorization(deny=RuleSet(tried=(rule(),)), allow=RuleSet(enforced=(NOTHING,)))
    deny, allow = (opened(one.typed_config) for one in filters.deciding(said))
    assert not deny.HasField("rules")
    assert (deny.shadow_rules_stat_prefix, allow.shadow_rules_stat_prefix) == (
        "istio_dry_run_deny_",
        "istio_dry_run_allow_",
    )
    assert allow.rules.policies["n"].permissions[0].not_rule.any


ASKED = ExtAuthz(name="a", service="s", port=80, host="s.x", cluster="outbound|80||s.x")


def asking(provider: ExtAuthz) -> Authorization:
    return Authorization(asked=(Asked(provider=provider, rules=(rule(),)),))


def test_a_provider_of_http_is_asked_about_requests_only() -> None:
    check = HttpCheck(
        path_prefix="/check",
        request_headers=("x-*",),
        additional_headers=(("a", "1"),),
        to_upstream=("u",),
        to_downstream_on_deny=("d",),
        to_downstream_on_allow=("*-o",),
    )
    provider = made_with(http=check, body=Body(most_bytes=7, partial=True), status_on_error=503, fail_open=True)
    noted, asked = filters.asking(asking(provider))
    assert opened(noted.typed_config).shadow_rules_stat_prefix == "istio_ext_authz_"
    found = opened(asked.typed_config)
    service = found.http_service
    assert (service.server_uri.uri, service.path_prefix) == ("http://s.x", "/check")
    assert service.authorization_request.allowed_headers.patterns[0].prefix == "x-"
    assert service.authorization_response.allowed_client_headers_on_success.patterns[0].suffix == "-o"
    assert (found.with_request_body.max_request_bytes, found.status_on_error.code) == (7, 503)
    assert found.failure_mode_allow
    assert list(filters.network(asking(provider))) == []


def made_with(**more: Any) -> ExtAuthz:
    return ExtAuthz(name="a", service="s", port=80, host="s.x", cluster="outbound|80||s.x", **more)


def test_a_provider_of_grpc_is_asked_about_connections_too() -> None:
    noted, asked = filters.network(asking(ASKED))
    assert opened(noted.typed_config).stat_prefix == "tcp."
    found = opened(asked.typed_config)
    assert found.grpc_service.envoy_grpc.authority == "s.x"
    assert found.filter_enabled_metadata.filter == "envoy.filters.network.rbac"
    http = opened(list(filters.asking(asking(ASKED)))[1].typed_config)
    assert not http.HasField("http_service")


@pytest.mark.parametrize("tcp", [False, True])
def test_where_nobody_can_be_asked_all_is_refused(*, tcp: bool) -> None:
    said = asking(made_with(problem="gone"))
    (found,) = filters.network(said) if tcp else filters.asking(said)
    rules = opened(found.typed_config).rules
    name = "istio-ext-authz-a-ns[ns]-policy[p]-rule[0]-deny-due-to-bad-CUSTOM-action"
    assert (rules.action, list(rules.policies)) == (rbac_pb2.RBAC.DENY, [name])


def test_every_status_that_a_provider_may_have_is_one_of_envoys() -> None:
    known = {str(number) for number in http_status_pb2.StatusCode.values()} - {"0"}
    statuses = {str(number) for number in range(100, 600) if ext_authz._is_status(str(number))}
    assert statuses <= known
    assert {"200", "403", "503"} <= statuses


def test_who_may_come_in_is_asked_before_anything_else() -> None:
    said = Authorization(asked=asking(ASKED).asked, deny=RuleSet(enforced=(rule(),)))
    http = Http(stat_prefix="a", rds="b", authorization=said, grpc_web=True)
    manager = hcm_pb2.HttpConnectionManager()
    assert hcm.network_filter(http, Direction.INBOUND, made.QUIET).typed_config.Unpack(manager)
    names = [one.name for one in manager.http_filters]
    assert names[:5] == [
        "istio.protocol",
        "envoy.filters.http.rbac",
        "envoy.filters.http.ext_authz",
        "envoy.filters.http.rbac",
        "envoy.filters.http.grpc_web",
    ]
    tcp = Tcp(stat_prefix="a", clusters=(WeightedCluster(cluster="c"),), mongo=True, authorization=said)
    whole = Listener(
        name="l", address="127.0.0.1", port=1, direction=Direction.INBOUND, chains=(Chain(name="c", tcp=tcp),)
    )
    (chain,) = listener.message(whole, made.QUIET).filter_chains
    assert [one.name for one in chain.filters] == [
        "envoy.filters.network.rbac",
        "envoy.filters.network.ext_authz",
        "envoy.filters.network.rbac",
        "envoy.filters.network.mongo_proxy",
        "envoy.filters.network.tcp_proxy",
    ]


KEY = ConfigKey(SECURITY, "AuthorizationPolicy", "ns", "p")


def test_a_rule_is_named_as_in_istios_access_logs() -> None:
    assert authorization_rules.name_of(KEY, 3) == "ns[ns]-policy[p]-rule[3]"
