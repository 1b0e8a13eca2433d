from __future__ import annotations

import textwrap

import pytest

from crds.diagnostic import Code, Severity
from tests.mesh import world

BASE = (world.service("reviews", "http:9080"), world.subsets("reviews", "v1"))
ALIAS = """
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: default}
spec: {type: ExternalName, externalName: reviews.default.svc.cluster.local}
"""


def told(http: str, *more: str) -> list[tuple[str, str, str]]:
    return world.build(*BASE, *more, world.rules("r", f"{{hosts: [reviews], http: [{http}]}}")).told()


def test_good_rules_have_no_findings() -> None:
    found = """
        {match: [{uri: {prefix: /a}}], route: [{destination: {host: reviews, subset: v1, port: {number: 9080}}}]},
        {route: [{destination: {host: alias}}]}
        """
    assert told(found, ALIAS) == []


@pytest.mark.parametrize(
    ("http", "code", "field"),
    [
        ("{route: [{destination: {host: nobody}}]}", "UNKNOWN_HOST", "spec.http[0].route[0].destination.host"),
        (
            "{route: [{destination: {host: reviews, port: {number: 1}}}]}",
            "UNKNOWN_HOST",
            "spec.http[0].route[0].destination.port.number",
        ),
        (
            "{route: [{destination: {host: x}, weight: 0}, {destination: {host: reviews, subset: v2}, weight: 1}]}",
            "UNKNOWN_SUBSET",
            "spec.http[0].route[1].destination.subset",
        ),
        (
            "{route: [{destination: {host: reviews}}], mirror: {host: nobody}}",
            "UNKNOWN_HOST",
            "spec.http[0].mirror.host",
        ),
        (
            "{route: [{destination: {host: reviews}}], mirrors: [{destination: {host: reviews, subset: v2}}]}",
            "UNKNOWN_SUBSET",
            "spec.http[0].mirrors[0].destination.subset",
        ),
        ("{delegate: {name: x}}", "UNKNOWN_DELEGATE", "spec.http[0].delegate"),
        ("{timeout: 1s}", "MISSING_FIELD", "spec.http[0]"),
        ("{route: [{destination: {host: reviews}}, {destination: {host: x}}]}", "WEIGHT_SUM", "spec.http[0].route"),
    ],
)
def test_a_rule_that_cannot_work_is_reported_with_its_field(http: str, code: str, field: str) -> None:
    assert (code, "r", field) in told(http)


def test_a_condition_on_the_clients_address_is_told() -> None:
    route = "[{destination: {host: reviews}}]"
    text = f"""
      hosts: [reviews]
      tls: [{{match: [{{sniHosts: [reviews], sourceSubnet: 10.0.0.0/8}}], route: {route}}}]
      tcp: [{{match: [{{port: 80}}, {{sourceSubnet: 10.0.0.0/8}}], route: {route}}}]
    """
    found = world.build(world.service("reviews"), world.rules("r", textwrap.dedent(text))).findings()
    assert [(one.code.name, one.field) for one in found if "Subnet" in one.field] == [
        ("NOT_SUPPORTED", "spec.tls[0].match[0].sourceSubnet"),
        ("NOT_SUPPORTED", "spec.tcp[0].match[1].sourceSubnet"),
    ]


def test_a_condition_on_a_claim_is_never_read_as_one_on_a_header_that_anybody_can_send() -> None:
    to = "route: [{destination: {host: web.default.svc.cluster.local}}]"
    text = f"""
      hosts: ["*"]
      gateways: [gw]
      http:
      - {{name: members, match: [{{headers: {{"@request.auth.claims.group": {{exact: admin}}}}}}], {to}}}
      - {{name: either, match: [{{headers: {{"@Request.auth.claims[a][b]": {{}}}}}}, {{uri: {{prefix: /open}}}}], {to}}}
      - {{name: guests, match: [{{withoutHeaders: {{"@request.auth.claims.sub": {{regex: ".*"}}, x: {{}}}}}}], {to}}}
      - {{name: rest, {to}}}
    """
    gateway = world.gateway("gw", "{selector: {}, servers: [{port: {number: 80, protocol: HTTP}, hosts: ['*']}]}")
    mesh = world.build(world.service("web"), gateway, world.rules("r", textwrap.dedent(text)))
    (host,) = mesh.router().routes["http.8080"].virtual_hosts
    assert [(one.name, [h.name for h in one.match.headers]) for one in host.routes] == [
        ("members", []),
        ("either", []),
        ("either", []),
        ("guests", ["x"]),
        ("rest", []),
    ]
    assert [[(c.path, c.match.kind.name, c.invert) for c in one.match.claims] for one in host.routes] == [
        [(("group",), "EXACT", False)],
        [(("a", "b"), "PRESENT", False)],
        [],
        [(("sub",), "REGEX", True)],
        [],
    ]


@pytest.mark.parametrize("name", ["", "X", ".", ".a.", "..a", "[", "[]", "[a", "[a]b", "[a][]", "[a].b", "a.b"])
def test_a_condition_on_a_claim_that_has_no_name_holds_for_no_request(name: str) -> None:
    text = f"""
      hosts: ["*"]
      gateways: [gw]
      http:
      - match:
        - headers: {{"@request.auth.claims{name}": {{exact: admin}}}}
        - {{withoutHeaders: {{"@request.auth.claims{name}": {{exact: admin}}}}, uri: {{prefix: /open}}}}
        route: [{{destination: {{host: web.default.svc.cluster.local}}}}]
    """
    gateway = world.gateway("gw", "{selector: {}, servers: [{port: {number: 80, protocol: HTTP}, hosts: ['*']}]}")
    mesh = world.build(world.service("web"), gateway, world.rules("r", textwrap.dedent(text)))
    (host,) = mesh.router().routes["http.8080"].virtual_hosts
    assert [(r.match.path.value, r.match.headers, r.match.claims) for r in host.routes if r.match.path] == [
        ("/open", (), ())
    ]
    assert len(host.routes) == 1
    found = [one for one in mesh.findings() if one.code is Code.BAD_VALUE]
    assert [(one.severity, one.field[:26]) for one in found] == [
        (Severity.ERROR, "spec.http[0].match[0].head"),
        (Severity.ERROR, "spec.http[0].match[1].with"),
    ]


def test_a_destination_without_a_host_is_unknown() -> None:
    assert ("UNKNOWN_HOST", "r", "spec.http[0].route[0].destination.host") in told("{route: [{weight: 1}]}")


def test_a_subset_of_a_host_without_destination_rule_is_unknown() -> None:
    found = told("{route: [{destination: {host: other, subset: v1}}]}", world.service("other"))
    assert ("UNKNOWN_SUBSET", "r", "spec.http[0].route[0].destination.subset") in found


def test_rules_after_one_that_matches_everything_are_shadowed() -> None:
    rule = "{route: [{destination: {host: reviews}}]}"
    some = "{match: [{sourceLabels: {a: b}}], route: [{destination: {host: reviews}}]}"
    assert told(f"{some}, {rule}, {rule}") == [("SHADOWED_ROUTE", "r", "spec.http[2]")]


def test_fields_without_effect_are_reported() -> None:
    rule = """
        {match: [{name: x}], route: [{destination: {host: reviews}}], websocketUpgrade: true,
         appendHeaders: {a: b}, removeResponseHeaders: {a: b},
         fault: {delay: {exponentialDelay: 1s}, abort: {http2Error: x}}}
        """
    assert {field for _, _, field in told(rule)} == {
        f"spec.http[0].{name}"
        for name in (
            "websocketUpgrade",
            "appendHeaders",
            "removeResponseHeaders",
            "fault.delay.exponentialDelay",
            "fault.abort.http2Error",
        )
    }


def test_what_is_about_an_upstream_is_told_where_the_proxy_answers_itself() -> None:
    more = "timeout: 1s, retries: {attempts: 1}, mirrors: [{destination: {host: reviews}}]"
    fields = [f"spec.http[0].{name}" for name in ("timeout", "retries", "mirrors")]
    for answer in ("redirect: {uri: /a}", "directResponse: {status: 404}"):
        assert [field for _, _, field in told(f"{{{answer}, {more}}}")] == fields
    assert told(f"{{route: [{{destination: {{host: reviews}}}}], {more}}}") == []


def rules(name: str, more: str, http: str = "http: [{route: [{destination: {host: reviews}}]}]") -> str:
    return world.rules(name, f"{{{more}, {http}}}")


def test_two_rules_for_one_host_are_reported_on_the_younger() -> None:
    found = world.build(*BASE, rules("a", "hosts: [reviews]"), rules("b", "hosts: [reviews]")).findings()
    assert [(one.code.name, one.key and one.key.name) for one in found] == [("DUPLICATE_HOST", "b")]
    assert "VirtualService/default/a" in found[0].message


@pytest.mark.parametrize(
    "other",
    [
        rules("b", "hosts: [reviews]", "tcp: [{route: [{destination: {host: reviews}}]}]"),
        rules("b", "hosts: [reviews], exportTo: [elsewhere]"),
        rules("b", "hosts: [reviews], exportTo: ['~']"),
    ],
)
def test_rules_for_one_host_that_do_not_meet_are_fine(other: str) -> None:
    first = rules("a", "hosts: [reviews], exportTo: ['.']")
    assert world.build(*BASE, first, other).told() == []


def test_a_younger_one_that_is_not_for_everybody_serves_its_own() -> None:
    first, other = rules("a", "hosts: [reviews]"), rules("b", "hosts: [reviews], exportTo: ['.']")
    assert world.build(*BASE, first, other).told() == []


def test_unknown_gateways_and_hosts_that_no_server_has_are_reported() -> None:
    gateway = world.gateway("gw", "{servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: [a.example]}]}")
    mesh = world.build(
        *BASE,
        gateway,
        rules("a", "hosts: [a.example], gateways: [gw]"),
        rules("b", "hosts: [b.example], gateways: [gw, none]"),
    )
    assert mesh.told() == [("INEFFECTIVE", "b", "spec.hosts"), ("UNKNOWN_GATEWAY", "b", "spec.gateways")]


def test_hosts_of_sidecars_that_no_service_has_are_reported() -> None:
    assert world.build(*BASE, rules("a", "hosts: [nobody, '*.default.svc.cluster.local']")).told() == [
        ("UNKNOWN_HOST", "a", "spec.hosts")
    ]


def test_tls_rules_for_a_host_below_a_services_pattern_serve() -> None:
    """Its HTTP rules serve port 80 only, and that is said."""
    wild = world.entry("wild", "{hosts: ['*.w.com'], ports: [{number: 443, name: tls, protocol: TLS}]}")
    tls = "{match: [{sniHosts: [x.w.com]}], route: [{destination: {host: reviews}}]}"
    alone = rules("a", "hosts: [x.w.com]", f"tls: [{tls}]")
    assert world.build(*BASE, wild, alone).told() == []
    both = rules("a", "hosts: [x.w.com]")
    assert world.build(*BASE, wild, both).told() == [("UNKNOWN_HOST", "a", "spec.hosts")]


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_destinations_of_l4_rules_are_checked(kind: str) -> None:
    match = "match: [{sniHosts: [reviews.example]}], " if kind == "tls" else ""
    rule = rules("a", "hosts: [reviews]", f"{kind}: [{{{match}route: [{{destination: {{host: nobody}}}}]}}]")
    field = f"spec.{kind}[0].route[0].destination.host"
    assert world.build(*BASE, rule).told() == [("UNKNOWN_HOST", "a", field)]
