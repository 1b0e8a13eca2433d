"""The filters of rate limits; what they count is test_real_rate_limits.py's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import re2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2

from istiod.envoy.filters import local_rate_limit
from istiod.mesh.rate_limits import HeaderMatch, RateLimit, RequestMatch


def config(**more: object) -> local_rate_limit_pb2.LocalRateLimit:
    limit = RateLimit(name="a.b.0", requests=5, per=timedelta(seconds=2), burst=9, **more)  # type: ignore[arg-type]  # a test's
    (made,) = local_rate_limit.filters((limit,))
    assert made.name == "envoy.filters.http.local_ratelimit.a.b.0"
    found = local_rate_limit_pb2.LocalRateLimit()
    assert made.typed_config.Unpack(found)
    return found


def test_a_limit_for_all_requests_is_the_default_bucket() -> None:
    found = config(status=503, response_headers=(("retry-after", "1"),), per_connection=True)
    bucket = found.token_bucket
    assert (bucket.max_tokens, bucket.tokens_per_fill.value, bucket.fill_interval.seconds) == (9, 5, 2)
    assert not found.descriptors
    assert (found.status.code, found.local_rate_limit_per_downstream_connection) == (503, True)
    assert [one.header.key for one in found.response_headers_to_add] == ["retry-after"]


def test_what_a_rule_counts_has_a_bucket_beside_one_that_is_never_empty() -> None:
    headers = (HeaderMatch(name="x", values=("*",)), HeaderMatch(name="y", not_values=("b*",)))
    found = config(match=RequestMatch(methods=("GET",), paths=("/a.b*",), hosts=("*.example",), headers=headers))
    assert found.token_bucket.max_tokens == 2**32 - 1
    assert not found.always_consume_default_token_bucket.value
    (descriptor,) = found.descriptors
    assert descriptor.token_bucket.max_tokens == 9
    matchers = {one.name: one for one in found.rate_limits[0].actions[0].header_value_match.headers}
    assert matchers[":method"].string_match.safe_regex.regex == "(GET)"
    assert matchers[":path"].string_match.safe_regex.regex == r"(/a\.b\C*)(\?\C*)?"
    assert matchers[":authority"].string_match.safe_regex.regex == r"(?i)(\C*\.example)(:[0-9]+)?"
    assert matchers["x"].present_match
    assert matchers["y"].invert_match


@pytest.mark.parametrize(
    ("path", "counted"),
    [("/a", b"/a"), ("/a", b"/a?\xff"), ("/a*", b"/a\xff?b"), ("*a", b"/b/a?\xff")],
)
def test_a_path_of_any_bytes_is_counted(path: str, counted: bytes) -> None:
    """This RE2 is as old as that of Envoy 1.38."""
    pattern = compiled(RequestMatch(paths=(path,)))
    assert pattern.fullmatch(counted)
    assert not pattern.fullmatch(b"b")


def test_headers_and_hosts_of_any_bytes_are_counted() -> None:
    assert compiled(RequestMatch(headers=(HeaderMatch(name="x", values=("a*",)),))).fullmatch(b"a\xff")
    assert compiled(RequestMatch(headers=(HeaderMatch(name="x", values=("*a",)),))).fullmatch(b"\xffa")
    assert compiled(RequestMatch(hosts=("*.example",))).fullmatch(b"\xff.Example:80")


def test_a_suffix_of_a_path_is_none_of_its_query() -> None:
    assert not compiled(RequestMatch(paths=("*b",))).fullmatch(b"/a?b")


def compiled(match: RequestMatch) -> Any:
    (matcher,) = config(match=match).rate_limits[0].actions[0].header_value_match.headers
    return re2.compile(matcher.string_match.safe_regex.regex.encode())


@pytest.mark.parametrize("empty", [RequestMatch(), RequestMatch(headers=())])
def test_a_match_that_names_nothing_counts_all(empty: RequestMatch) -> None:
    assert not found_matchers(empty)


def found_matchers(match: RequestMatch) -> list[str]:
    return [one.name for one in config(match=match).rate_limits[0].actions[0].header_value_match.headers]
