"""Each row: a spec in YAML, and the fields that are found fault with; "?" marks a warning."""

# Tables of YAML read better with one case to a line, however long.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest

from crds import attributes, text
from crds.attributes import Attribute, Key
from crds.authorization_policy import AuthorizationPolicy, closed
from crds.diagnostic import Severity
from crds.key import SECURITY, ConfigKey
from crds.parse import parse


def document(spec: object, **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "a", "namespace": "ns", "annotations": annotations},
        "spec": spec,
    }


def found(spec: str, **annotations: str) -> list[str]:
    marks = {Severity.ERROR: "", Severity.WARNING: "?"}
    parsed = parse(document(text.load(spec), **annotations))
    return [marks[one.severity] + one.field.removeprefix("spec.rules[0].") for one in parsed.diagnostics]


FROM, TO, WHEN = "from[0].source", "to[0].operation", "when[0]"


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("{}", []),
        ("{rules: [{}]}", []),
        ("{selector: {}}", ["?spec.selector"]),
        (
            "{selector: {matchLabels: {'a*': b, '': c}}}",
            ['spec.selector.matchLabels["a*"]', 'spec.selector.matchLabels[""]'],
        ),
        ("{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a}]}", ["spec"]),
        ("{targetRef: {name: a, namespace: b}}", ["spec.targetRef.namespace", "spec.targetRef"]),
        ("{targetRefs: [{kind: Gateway}]}", ["spec.targetRefs[0].name", "spec.targetRefs[0]"]),
        ("{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}]}", []),
        (
            "{rules: [{to: [{operation: {notPaths: ['/a/{b}', '/a}/b', '/a{*}']}}]}]}",
            [f"?{TO}.notPaths[0]", f"?{TO}.notPaths[1]", f"{TO}.notPaths[2]"],
        ),
        ("{action: DENY}", ["spec.rules"]),
        ("{action: CUSTOM, rules: [{}]}", ["spec.provider.name"]),
        ("{action: CUSTOM, provider: {name: a}}", ["spec.rules"]),
        ("{provider: {name: a}}", ["spec.provider"]),
        ("{action: NONE}", ["spec.action"]),
        (
            "{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {notPrincipals: [a]}}], when: [{key: source.principal, values: [a]}]}]}",
            [f"{FROM}.notPrincipals", f"{WHEN}.key"],
        ),
        ("{rules: [{from: [{source: {}}], to: [{}]}]}", [FROM, TO]),
        (
            "{rules: [{from: [{source: {principals: ['', 'spiffe://a/b']}}]}]}",
            [f"{FROM}.principals[0]", f"{FROM}.principals[1]"],
        ),
        (f"{{rules: [{{to: [{{operation: {{hosts: [{'a' * 8192}, {'a' * 8193}]}}}}]}}]}}", [f"{TO}.hosts[1]"]),
        (
            "{rules: [{from: [{source: {ipBlocks: [1.2.3.4, 1.2.0.0/16, '::1', 'fe80::1%a', x]}}]}]}",
            [f"{FROM}.ipBlocks[3]", f"{FROM}.ipBlocks[4]"],
        ),
        (
            "{rules: [{from: [{source: {serviceAccounts: [a, b/c, 'a*', /c, a/, a/b/c]}}]}]}",
            [f"{FROM}.serviceAccounts[{n}]" for n in (2, 3, 4, 5)],
        ),
        ("{rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]}", [FROM]),
        ("{rules: [{to: [{operation: {ports: ['80', '70000', web]}}]}]}", [f"{TO}.ports[1]", f"{TO}.ports[2]"]),
        (
            "{rules: [{to: [{operation: {paths: ['/a/{*}', '/a{*}', '/{**}/{*}', '/{*}/x/']}}]}]}",
            [f"{TO}.paths[1]", f"{TO}.paths[2]"],
        ),
        ("{rules: [{when: [{values: [a]}]}]}", [f"{WHEN}.key"]),
        ("{rules: [{when: [{key: source.port, values: [a]}]}]}", [f"{WHEN}.key"]),
        ("{rules: [{when: [{key: source.ip}]}]}", [WHEN]),
        (
            "{rules: [{when: [{key: source.ip, values: [a]}, {key: destination.port, notValues: [b]}]}]}",
            [f"{WHEN}.values[0]", "when[1].notValues[0]"],
        ),
        ("{rules: [{when: [{key: 'request.headers[Host]', values: [a]}]}]}", [f"?{WHEN}.key"]),
        ("{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}", ["?spec.rules"]),
        ("{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]}", []),
        (
            "{action: DENY, rules: [{from: [{source: {requestPrincipals: [a]}}], when: [{key: destination.port, values: ['80']}]}]}",
            [],
        ),
        ("{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}", ["?spec.rules"]),
        ("{action: DENY, rules: [{when: [{key: 'request.headers[a]', values: [b]}]}]}", ["?spec.rules"]),
        ("{action: DENY, rules: [{from: [{source: {namespaces: [a]}}]}]}", []),
    ],
)
def test_what_is_wrong_with_a_policy(spec: str, wanted: list[str]) -> None:
    assert found(spec) == wanted


def test_more_accounts_than_the_definition_takes_are_refused_when_they_are_new() -> None:
    many = ", ".join(f"a/{number}" for number in range(17))
    assert found(f"{{rules: [{{from: [{{source: {{serviceAccounts: [{many}]}}}}]}}]}}") == [f"?{FROM}.serviceAccounts"]
    said = f"{{rules: [{{from: [{{source: {{notServiceAccounts: [{'a' * 321}]}}}}]}}]}}"
    assert found(said) == [f"?{FROM}.notServiceAccounts[0]"]


@pytest.mark.parametrize(
    ("said", "action", "wrong"), [("true", "ALLOW", 0), ("0", "ALLOW", 0), ("yes", "ALLOW", 1), ("true", "AUDIT", 1)]
)
def test_a_dry_run_is_true_or_false_and_of_what_refuses(said: str, action: str, wrong: int) -> None:
    assert len(found(f"{{action: {action}, rules: [{{}}]}}", **{"istio.io/dry-run": said})) == wrong


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("source.ip", Key(attribute=Attribute.SOURCE_IP)),
        ("request.headers[x-a]", Key(attribute=Attribute.HEADER, path=("x-a",))),
        ("request.headers[:authority]", Key(attribute=Attribute.HEADER, path=(":authority",))),
        ("request.headers[a b]", None),
        ("request.headers[]", None),
        ("request.headers", None),
        ("request.experimental.inline.headers[x-a]", Key(attribute=Attribute.INLINE_HEADER, path=("x-a",))),
        ("request.auth.claims[a][b]", Key(attribute=Attribute.CLAIM, path=("a", "b"))),
        ("request.auth.claims[a][]", None),
        ("request.auth.claims", None),
        ("experimental.envoy.filters.a.b[c]", Key(attribute=Attribute.METADATA, path=("envoy.filters.a.b", "c"))),
        ("experimental.envoy.filters.a.b", None),
        ("host", None),
        ("destination.labels[app]", None),
    ],
)
def test_how_a_key_is_read(key: str, wanted: Key | None) -> None:
    assert attributes.read(key) == wanted


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/a/{*}", "/a/*"),
        ("/{**}/b", "/**/b"),
        ("/a/{*}/", "/a/*/"),
        ("/{*}/{**}", "/*/**"),
        ("a/{*}", None),
        ("{*}", None),
        ("/a//{*}", None),
        ("/{name}/{*}", None),
        ("/{**}/{**}", None),
    ],
)
def test_templates_are_written_as_envoy_reads_them(path: str, wanted: str | None) -> None:
    assert attributes.is_template(path)
    assert attributes.template(path) == wanted


def test_a_path_without_operators_is_no_template() -> None:
    assert not attributes.is_template("/a/*")


KEY = ConfigKey(SECURITY, "AuthorizationPolicy", "ns", "a")


@pytest.mark.parametrize(
    ("spec", "action", "rules"),
    [
        ({"rules": [{"from": 1}]}, "ALLOW", 0),
        ({"action": "DENY", "rules": 1}, "DENY", 1),
        ({"action": "CUSTOM", "rules": 1}, "DENY", 1),
        ({"action": "allow"}, "DENY", 1),
        ({"provider": {"name": "a"}}, "DENY", 1),
        ("nothing", "ALLOW", 0),
    ],
)
def test_what_cannot_be_read_fails_closed(spec: object, action: str, rules: int) -> None:
    made = closed(document(spec), KEY)
    assert made is not None
    assert (made.key, made.spec.action, len(made.spec.rules)) == (KEY, action, rules)


def test_what_cannot_be_read_refuses_nobody_who_was_not_selected() -> None:
    labels = {"app": "web"}
    made = closed(document({"rules": 1, "selector": {"matchLabels": labels}}), KEY)
    assert made is not None
    assert made.spec.selector is not None
    assert made.spec.selector.match_labels == labels
    everyone = closed(document({"rules": 1, "selector": {"matchLabels": {"app": 1}}}), KEY)
    assert isinstance(everyone, AuthorizationPolicy)
    assert everyone.spec.selector is None
    of_targets = closed(document({"rules": 1, "targetRef": {}, "targetRefs": [{}]}), KEY)
    assert of_targets is not None
    assert of_targets.spec.target_refs


@pytest.mark.parametrize("annotations", [{"istio.io/dry-run": "true"}, None, 1])
def test_what_only_counts_refuses_nothing(annotations: Any) -> None:
    audit = {**document({"action": "AUDIT", "rules": 1}), "metadata": {"annotations": annotations}}
    assert closed(audit, KEY) is None
    tried = {**document({"rules": 1}), "metadata": {"annotations": annotations}}
    assert (closed(tried, KEY) is None) == isinstance(annotations, dict)
    assert closed({**tried, "metadata": 1}, KEY) is not None
