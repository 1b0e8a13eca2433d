"""Local rate limits: a filter for each bucket, since each has a status and headers of its own (features row X1).

Envoy's filter counts what its descriptors name; here one descriptor says that a request is among those counted. Its
default bucket, which all others would draw from, is never empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2
from envoy.type.v3 import http_status_pb2, percent_pb2, token_bucket_pb2

from istiod.envoy import rbac, wellknown
from istiod.mesh.rate_limits import HeaderMatch, RateLimit, RateLimits, RequestMatch

NAME: Final = "envoy.filters.http.local_ratelimit"
STATISTICS: Final = "rate_limit"
"""Envoy counts as ``rate_limit.NAMESPACE.OBJECT.RULE.http_local_rate_limit.rate_limited`` and so on."""
_COUNTED: Final = ("counted", "true")
_MOST: Final = 2**32 - 1
_ALWAYS: Final = base_pb2.RuntimeFractionalPercent(default_value=percent_pb2.FractionalPercent(numerator=100))
_PATH, _QUERY = ":path", r"(\?\C*)?"
_HOST, _PORT = ":authority", r"(:[0-9]+)?"
_Matcher = route_components_pb2.HeaderMatcher
_Filter = local_rate_limit_pb2.LocalRateLimit


def filters(limits: RateLimits) -> Iterator[hcm_pb2.HttpFilter]:
    """One for each limit, in their order."""
    for one in limits:
        yield hcm_pb2.HttpFilter(name=f"{NAME}.{one.name}", typed_config=wellknown.packed(_config(one)))


def _config(limit: RateLimit) -> _Filter:
    own = _bucket(limit.requests, limit.burst, limit.per)
    found = _Filter(
        stat_prefix=f"{STATISTICS}.{limit.name}",
        status=http_status_pb2.HttpStatus(code=limit.status),  # type: ignore[arg-type]  # any number
        token_bucket=_bucket(_MOST, _MOST, limit.per) if limit.match else own,
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        local_rate_limit_per_downstream_connection=limit.per_connection,
        response_headers_to_add=[
            base_pb2.HeaderValueOption(
                header=base_pb2.HeaderValue(key=name, value=value),
                append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
            )
            for name, value in limit.response_headers
        ],
        rate_limits=[_counting(limit.match)] if limit.match else [],
    )
    if limit.match:
        key, value = _COUNTED
        entry = ratelimit_pb2.RateLimitDescriptor.Entry(key=key, value=value)
        found.descriptors.append(ratelimit_pb2.LocalRateLimitDescriptor(entries=[entry], token_bucket=own))
        found.always_consume_default_token_bucket.value = False
    return found


def _bucket(requests: int, burst: int, per: timedelta) -> token_bucket_pb2.TokenBucket:
    return token_bucket_pb2.TokenBucket(
        max_tokens=burst, tokens_per_fill=wellknown.uint32(requests), fill_interval=wellknown.duration(per)
    )


def _counting(match: RequestMatch) -> route_components_pb2.RateLimit:
    key, value = _COUNTED
    action = route_components_pb2.RateLimit.Action.HeaderValueMatch(
        descriptor_key=key,
        descriptor_value=value,
        expect_match=wellknown.boolean(value=True),
        headers=list(_matchers(match)),
    )
    return route_components_pb2.RateLimit(actions=[route_components_pb2.RateLimit.Action(header_value_match=action)])


def _matchers(match: RequestMatch) -> Iterator[_Matcher]:
    if match.methods:
        yield _one_of(":method", match.methods)
    if match.paths:
        yield _one_of(_PATH, match.paths, inside="[^?]", after=_QUERY)
    if match.hosts:
        yield _one_of(_HOST, match.hosts, before="(?i)", after=_PORT)
    for header in match.headers:
        yield from _header(header)


def _header(said: HeaderMatch) -> Iterator[_Matcher]:
    if said.values:
        yield _one_of(said.name, said.values)
    if said.not_values:
        excluded = _one_of(said.name, said.not_values)
        excluded.invert_match = excluded.treat_missing_header_as_empty = True
        yield excluded


def _one_of(
    name: str, values: Sequence[str], *, inside: str = r"\C", before: str = "", after: str = ""
) -> route_components_pb2.HeaderMatcher:
    r"""A header with one of these values; ``inside`` is what may be before a suffix, ``after`` what may follow.

    ``\C`` is any byte, and what is no UTF-8 is counted with older Envoys, too, for which ``.`` is no such byte. Such a
    path they find by all but its suffix, and that where normalization is off: else its bytes have become text.
    """
    if "*" in values and not after:
        return _Matcher(name=name, present_match=True)
    pattern = "|".join(_pattern(value, inside) for value in values)
    regex = regex_pb2.RegexMatcher(regex=f"{before}({pattern}){after}")
    return _Matcher(name=name, string_match=string_pb2.StringMatcher(safe_regex=regex))


def _pattern(value: str, inside: str) -> str:
    if value.endswith("*"):
        return rf"{rbac.quoted(value[:-1])}\C*"
    if value.startswith("*"):
        return f"{inside}*{rbac.quoted(value[1:])}"
    return rbac.quoted(value)
