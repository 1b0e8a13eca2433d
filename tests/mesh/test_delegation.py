"""VirtualServices that leave rules to others (features row F9): what of both counts, and who is told what."""

from __future__ import annotations

import pytest

from istiod.mesh.route import DirectResponse, Redirect, Route
from istiod.mesh.virtual_services import VirtualServiceIndex
from tests.mesh import world

BASE = (world.service("reviews", "http:9080"), world.service("app", "http:9080", namespace="team"))
HOST = "reviews.default.svc.cluster.local"
APP = "outbound|9080||app.team.svc.cluster.local"
TO_APP = "route: [{destination: {host: app}}]"


def root(http: str, name: str = "root", more: str = "") -> str:
    return world.rules(name, f"{{hosts: [reviews]{more}, http: [{http}]}}")


def delegate(http: str, name: str = "part", namespace: str = "team", more: str = "") -> str:
    return world.rules(name, f"{{http: [{http}]{more}}}", namespace=namespace)


PART = "delegate: {name: part, namespace: team}"


def made(*texts: str) -> world.World:
    return world.build(*BASE, *texts)


def routes(*texts: str) -> tuple[Route, ...]:
    return world.host(made(*texts).sidecar().routes["9080"], HOST).routes


def test_a_rule_of_a_delegate_serves_in_the_place_of_the_rule_that_names_it() -> None:
    found = routes(
        root(
            f"{{match: [{{uri: {{prefix: /a}}}}], {PART}}}, {{name: rest, route: [{{destination: {{host: reviews}}}}]}}"
        ),
        delegate(f"{{name: one, match: [{{uri: {{exact: /a/1}}}}], {TO_APP}}}, {{name: two, {TO_APP}}}"),
    )
    assert [one.name for one in found] == ["one", "two", "rest"]
    assert [one.match.path and one.match.path.value for one in found] == ["/a/1", "/a", None]
    # A short name is one of the namespace where it is written, and so is an origin.
    assert [world.clusters(one) for one in found[:2]] == [[APP], [APP]]
    assert [str(one.origin) for one in found] == [
        "VirtualService/team/part#spec.http[0]",
        "VirtualService/team/part#spec.http[1]",
        "VirtualService/default/root#spec.http[1]",
    ]


def test_a_delegate_without_namespace_is_one_of_the_same() -> None:
    found = routes(
        root("{delegate: {name: part}}"), delegate("{route: [{destination: {host: reviews}}]}", namespace="default")
    )
    assert world.clusters(found[0]) == [f"outbound|9080||{HOST}"]


def test_what_the_delegate_leaves_open_the_rule_that_names_it_says() -> None:
    outer = """
      {name: outer, delegate: {name: part, namespace: team}, timeout: 1s, retries: {attempts: 7},
       rewrite: {uri: /new}, headers: {request: {set: {x-by: root}}},
       mirror: {host: reviews}, mirrorPercentage: {value: 10},
       fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, corsPolicy: {allowOrigins: [{exact: a}]}}
      """
    (found,) = routes(root(outer), delegate(f"{{{TO_APP}}}"))
    assert found.name == "outer"
    assert (found.timeout and found.timeout.total_seconds(), found.retry and found.retry.attempts) == (1, 7)
    assert found.rewrite is not None
    assert (found.fault, found.cors) != (None, None)
    assert found.headers.request.set == (("x-by", "root"),)
    # The mirror's short name is of the namespace of the rule that has it.
    assert [(one.destination.host, one.percent) for one in found.mirrors] == [(HOST, 10)]
    inner = f"""
      {{name: inner, {TO_APP}, timeout: 2s, retries: {{attempts: 3}}, headers: {{response: {{remove: [x]}}}},
       mirrors: [{{destination: {{host: app}}}}]}}
      """
    (found,) = routes(root(outer), delegate(inner))
    assert found.name == "outer-inner"
    assert (found.timeout and found.timeout.total_seconds(), found.retry and found.retry.attempts) == (2, 3)
    assert (found.headers.request.set, found.headers.response.remove) == ((), ("x",))
    assert [one.destination.host for one in found.mirrors] == [HOST, "app.team.svc.cluster.local"]


def test_a_delegate_may_answer_itself() -> None:
    found = routes(
        root(f"{{match: [{{uri: {{prefix: /a}}}}], {PART}}}, {{{PART}}}"),
        delegate("{match: [{method: {exact: GET}}], directResponse: {status: 404}}, {redirect: {uri: /x}}"),
    )
    assert [type(one.direct_response or one.redirect) for one in found] == [DirectResponse, Redirect] * 2


def names_of_matches(outer: str, inner: str) -> list[str]:
    found = made(root(f"{{match: {outer}, {PART}}}"), delegate(f"{{match: {inner}, {TO_APP}}}"))
    (rules,) = found.index.for_requests(HOST, "default")
    return [condition.name for rule in rules.http for condition in rule.conditions]


@pytest.mark.parametrize(
    ("outer", "inner", "kept"),
    [
        ("[{name: r}]", "[{name: d}]", ["r-d"]),
        ("[{name: r}, {name: s}]", "[{name: d}, {}]", ["r-d", "s-d", "r", "s"]),
        # One of two has room.
        ("[{name: r, port: 80}, {name: s, port: 81}]", "[{name: d, port: 81}]", ["s-d"]),
        ("[{name: r, uri: {prefix: /a}}]", "[{name: d, uri: {prefix: /a/b}}]", ["r-d"]),
        ("[{name: r, uri: {prefix: /a}}]", "[{name: d, uri: {exact: /a/b}}]", ["r-d"]),
        ("[{name: r, uri: {prefix: /a/b}}]", "[{name: d, uri: {prefix: /a}}]", []),
        ("[{name: r, uri: {prefix: /a}}]", "[{name: d, uri: {exact: /b}}]", []),
        ("[{name: r, uri: {exact: /a}}]", "[{name: d, uri: {exact: /a}}]", ["r-d"]),
        ("[{name: r, uri: {exact: /a}}]", "[{name: d, uri: {exact: /b}}]", []),
        ("[{name: r, uri: {exact: /a}}]", "[{name: d, uri: {prefix: /a}}]", []),
        ("[{name: r, uri: {regex: /a}}]", "[{name: d}]", ["r-d"]),
        ("[{name: r, uri: {regex: /a}}]", "[{name: d, uri: {regex: /a}}]", []),
        ("[{name: r, uri: {prefix: /a}}]", "[{name: d, uri: {regex: /a/b}}]", []),
        ("[{name: r, uri: {prefix: /a}, ignoreUriCase: true}]", "[{name: d, uri: {prefix: /a}}]", []),
        ("[{name: r, scheme: {exact: https}}]", "[{name: d, scheme: {exact: http}}]", []),
        ("[{name: r, headers: {a: {exact: x}}}]", "[{name: d, headers: {b: {exact: y}}}]", ["r-d"]),
        ("[{name: r, headers: {a: {exact: x}}}]", "[{name: d, headers: {a: {exact: y}}}]", []),
        ("[{name: r, headers: {a: {}}}]", "[{name: d, headers: {a: {exact: y}}}]", []),
        ("[{name: r, withoutHeaders: {a: {exact: x}}}]", "[{name: d, withoutHeaders: {a: {exact: y}}}]", []),
        ("[{name: r, queryParams: {a: {prefix: x}}}]", "[{name: d, queryParams: {a: {prefix: xy}}}]", ["r-d"]),
        ("[{name: r, queryParams: {a: {prefix: x}}}]", "[{name: d, queryParams: {a: {prefix: y}}}]", []),
        ("[{name: r, port: 80}]", "[{name: d, port: 81}]", []),
        ("[{name: r, sourceLabels: {a: x}}]", "[{name: d, sourceLabels: {b: y}}]", ["r-d"]),
        ("[{name: r, sourceLabels: {a: x}}]", "[{name: d, sourceLabels: {a: y}}]", []),
        ("[{name: r, sourceNamespace: one}]", "[{name: d, sourceNamespace: one}]", ["r-d"]),
        ("[{name: r, sourceNamespace: one}]", "[{name: d}]", []),
        ("[{name: r, gateways: [mesh, gw]}]", "[{name: d, gateways: [mesh]}]", ["r-d"]),
        # gw is another gateway in the delegate's namespace.
        ("[{name: r, gateways: [mesh, gw]}]", "[{name: d, gateways: [gw]}]", []),
        ("[{name: r, gateways: [mesh, gw]}]", "[{name: d, gateways: [default/gw]}]", ["r-d"]),
    ],
)
def test_conditions_of_a_delegate_lie_within_those_of_the_rule(outer: str, inner: str, kept: list[str]) -> None:
    assert names_of_matches(outer, inner) == kept


def test_merged_conditions_ask_for_both() -> None:
    (found,) = routes(
        root(f"{{match: [{{uri: {{prefix: /a}}, headers: {{h: {{exact: x}}}}, port: 9080}}], {PART}}}"),
        delegate(f"{{match: [{{method: {{exact: GET}}, headers: {{i: {{}}}}, queryParams: {{q: {{}}}}}}], {TO_APP}}}"),
    )
    assert found.match.path is not None
    assert [one.name for one in found.match.headers] == [":method", "h", "i"]
    assert [one.name for one in found.match.query] == ["q"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ((), "there is no VirtualService team/part"),
        ((world.rules("part", f"{{hosts: [x.example], http: [{{{TO_APP}}}]}}", namespace="team"),), "has hosts"),
        ((delegate(f"{{{TO_APP}}}", more=", exportTo: ['.']"),), "is not exported to default"),
    ],
)
def test_a_delegate_that_cannot_be_had_is_told_and_leaves_only_its_rule_out(other: tuple[str, ...], said: str) -> None:
    mesh = made(root(f"{{{PART}}}, {{route: [{{destination: {{host: reviews}}}}]}}"), *other)
    assert [one.origin and one.origin.field for one in world.host(mesh.sidecar().routes["9080"], HOST).routes] == [
        "spec.http[1]"
    ]
    (found,) = [one for one in mesh.findings() if one.code.name == "UNKNOWN_DELEGATE"]
    assert (found.key and found.key.name, found.field) == ("root", "spec.http[0].delegate")
    assert said in found.message


def test_a_delegate_is_seen_where_it_is_exported_to() -> None:
    found = routes(root(f"{{{PART}}}"), delegate(f"{{{TO_APP}}}", more=", exportTo: [default]"))
    assert world.clusters(found[0]) == [APP]


def test_delegation_goes_one_level() -> None:
    third = delegate(f"{{{TO_APP}}}", name="third")
    mesh = made(root(f"{{{PART}}}"), delegate(f"{{delegate: {{name: third}}}}, {{{TO_APP}}}"), third)
    (only,) = world.host(mesh.sidecar().routes["9080"], HOST).routes
    assert str(only.origin) == "VirtualService/team/part#spec.http[1]"
    assert mesh.told() == [
        ("UNKNOWN_DELEGATE", "part", "spec.http[0].delegate"),
        ("INEFFECTIVE", "third", "spec.hosts"),
    ]


def test_a_rule_of_a_delegate_that_does_not_fit_is_told_of_both() -> None:
    told = made(
        root(f"{{match: [{{uri: {{prefix: /a}}}}], {PART}}}"),
        delegate(f"{{match: [{{uri: {{prefix: /b}}}}], {TO_APP}}}"),
    ).told()
    assert set(told) == {
        ("INEFFECTIVE", "root", "spec.http[0].delegate"),
        ("INEFFECTIVE", "part", "spec.http[0].match"),
    }


def test_what_is_wrong_with_a_delegate_is_told_once_and_of_the_delegate() -> None:
    told = made(
        root(f"{{{PART}, mirror: {{host: none}}}}"),
        delegate("{route: [{destination: {host: nobody}}]}, {timeout: 1s}, {route: [{destination: {host: app}}]}"),
    ).told()
    assert sorted(told) == [
        ("MISSING_FIELD", "part", "spec.http[1]"),
        ("SHADOWED_ROUTE", "part", "spec.http[2]"),
        ("UNKNOWN_HOST", "part", "spec.http[0].route[0].destination.host"),
        ("UNKNOWN_HOST", "root", "spec.http[0].mirror.host"),
    ]


def test_a_delegation_after_a_rule_for_everything_is_shadowed() -> None:
    told = made(
        root(f"{{route: [{{destination: {{host: reviews}}}}]}}, {{{PART}}}"),
        delegate(f"{{match: [{{uri: {{prefix: /a}}}}], {TO_APP}}}, {{{TO_APP}}}"),
    ).told()
    assert told == [("SHADOWED_ROUTE", "root", "spec.http[1]")]


def test_a_changed_delegate_is_read_into_those_that_name_it_and_no_others() -> None:
    texts = (root(f"{{{PART}}}"), world.rules("other", f"{{hosts: [x.example], http: [{{{TO_APP}}}]}}"))
    before = made(*texts, delegate(f"{{{TO_APP}, timeout: 1s}}"))
    same = world.of(before.snapshot, previous=before)
    now = world.build(*BASE, *texts, delegate(f"{{{TO_APP}, timeout: 2s}}"), previous=before)
    gone = world.build(*BASE, *texts, previous=now)

    def timeout(of: VirtualServiceIndex) -> list[float]:
        return [rule.timeout.total_seconds() for rule in of.by_host[HOST][0].http if rule.timeout]

    assert same.index.by_host[HOST][0] is before.index.by_host[HOST][0]
    assert (timeout(before.index), timeout(now.index), timeout(gone.index)) == ([1], [2], [])


def test_a_router_follows_delegates_too() -> None:
    gateway = world.gateway("gw", "{selector: {}, servers: [{port: {number: 80, protocol: HTTP}, hosts: ['*']}]}")
    rules = root(f"{{{PART}}}", more=", gateways: [gw]")
    mesh = made(gateway, rules, delegate(f"{{{TO_APP}}}"))
    (host,) = mesh.router().routes["http.8080"].virtual_hosts
    assert [world.clusters(one) for one in host.routes] == [[APP]]
