"""Envoy's matchers of strings, headers, query parameters and metadata, each of which says why it does not hold.

The empty reason means that a matcher holds. Source: the v3 API documents and the behaviour of Envoy 1.40, which the
tests ask.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from functools import lru_cache

import re2
from envoy.config.core.v3 import address_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import metadata_pb2, path_pb2, string_pb2, value_pb2

from istiod.explain.call import Call, UndecidedError

Metadata = Mapping[str, object]
"""Dynamic metadata, by the name of the filter that wrote it."""
_LITERAL = r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]"
"""What Envoy's path templates take for a part of a segment (uri_template_internal)."""


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)  # type: ignore[no-any-return]  # no stubs
    except re2.error as error:
        raise UndecidedError(f"pattern {pattern!r}: {error}") from error


def full(pattern: str, text: str) -> bool:
    """Whether RE2 takes the whole text.

    Raises:
        UndecidedError: it does not take the pattern.
    """
    return _compiled(pattern).fullmatch(text) is not None


def replaced(pattern: str, substitution: str, text: str) -> str:
    r"""Every match replaced, with ``\1`` for groups as in RE2."""
    groups = re.sub(r"\\(\d)", r"\\g<\1>", substitution)
    return str(_compiled(pattern).sub(groups, text))


def words(matcher: string_pb2.StringMatcher) -> str:
    """What a matcher asks, for people."""
    kind = matcher.WhichOneof("match_pattern") or "exact"
    value = matcher.safe_regex.regex if kind == "safe_regex" else getattr(matcher, kind)
    said = {"exact": "", "prefix": "begin of ", "suffix": "end of ", "contains": "part ", "safe_regex": "pattern "}
    return f"{said.get(kind, '')}{value!r}"


def string(matcher: string_pb2.StringMatcher, value: str) -> bool:
    """Whether a text is what is asked for.

    Raises:
        UndecidedError: the kind of matcher is not known.
    """
    kind = matcher.WhichOneof("match_pattern") or "exact"
    if kind == "safe_regex":
        return full(matcher.safe_regex.regex, value)
    if kind not in ("exact", "prefix", "suffix", "contains"):
        raise UndecidedError(f"a matcher of kind {kind}")
    wanted: str = getattr(matcher, kind)
    if matcher.ignore_case:
        wanted, value = wanted.lower(), value.lower()
    if kind in ("prefix", "suffix"):
        return value.startswith(wanted) if kind == "prefix" else value.endswith(wanted)
    return value == wanted if kind == "exact" else wanted in value


def header(matcher: route_components_pb2.HeaderMatcher, call: Call) -> str:
    """Why a header is not as asked."""
    kind = matcher.WhichOneof("header_match_specifier") or "present_match"
    value = call.header(matcher.name)
    if kind == "present_match":
        wanted = matcher.present_match or not matcher.HasField("present_match")
        return "" if (wanted != matcher.invert_match) == (value is not None) else _presence(matcher.name, value)
    if value is None and not matcher.treat_missing_header_as_empty:
        return f"there is no header {matcher.name}"
    found = _specific(matcher, kind, value or "")
    if found != matcher.invert_match:
        return ""
    asked = words(_as_string(matcher, kind))
    return f"header {matcher.name} is {value!r}, {'which is excluded' if found else f'not {asked}'}"


def _presence(name: str, value: str | None) -> str:
    return f"there is no header {name}" if value is None else f"there is a header {name}"


def _as_string(matcher: route_components_pb2.HeaderMatcher, kind: str) -> string_pb2.StringMatcher:
    if kind == "string_match":
        return matcher.string_match
    old = {"exact_match": "exact", "prefix_match": "prefix", "suffix_match": "suffix", "contains_match": "contains"}
    if kind in old:
        return string_pb2.StringMatcher(**{old[kind]: getattr(matcher, kind)})
    if kind == "safe_regex_match":
        return string_pb2.StringMatcher(safe_regex=matcher.safe_regex_match)
    raise UndecidedError(f"a header matcher of kind {kind}")


def _specific(matcher: route_components_pb2.HeaderMatcher, kind: str, value: str) -> bool:
    return string(_as_string(matcher, kind), value)


def query(matcher: route_components_pb2.QueryParameterMatcher, path: str) -> str:
    """Why a parameter of the query is not as asked."""
    pairs = (part.partition("=") for part in path.partition("?")[2].partition("#")[0].split("&") if part)
    values: dict[str, str] = {}
    for name, _, value in pairs:
        values.setdefault(name, value)
    found = values.get(matcher.name)
    if found is None:
        return f"there is no parameter {matcher.name}"
    if matcher.HasField("string_match") and not string(matcher.string_match, found):
        return f"parameter {matcher.name} is {found!r}, not {words(matcher.string_match)}"
    return ""


def path(matcher: path_pb2.PathMatcher, call: Call) -> str:
    """Why the path is not as asked."""
    if string(matcher.path, call.plain_path):
        return ""
    return f"path is {call.plain_path!r}, not {words(matcher.path)}"


@lru_cache(maxsize=256)
def _pattern(template: str) -> str:
    """A template as a regular expression: ``*`` is one segment, ``**`` any number, also as ``{*}`` or ``{name=*}``."""
    found = []
    for part in re.findall(r"\{[^}]*\}|\*\*|\*|[^{*]+", template):
        inner = part[1:-1] if part.startswith("{") else part
        asked = inner.partition("=")[2] or inner
        if part.startswith("{") and "=" not in part and "*" not in part:
            asked = "*"  # a name alone
        found.append({"*": f"{_LITERAL}+", "**": f"(?:{_LITERAL}|/)*"}.get(asked, re.escape(asked)))
    return "".join(found)


def template(wanted: str, call: Call) -> str:
    """Why the path is not of a template such as ``/a/{*}/b/{**}``."""
    if full(_pattern(wanted), call.plain_path):
        return ""
    return f"path is {call.plain_path!r}, not of the form {wanted!r}"


def metadata(matcher: metadata_pb2.MetadataMatcher, held: Metadata) -> str:
    """Why dynamic metadata are not as asked: of a token's claims, mostly."""
    value: object = held.get(matcher.filter)
    for step in matcher.path:
        value = value.get(step.key) if isinstance(value, Mapping) else None
    if _value(matcher.value, value) != matcher.invert:
        return ""
    place = ".".join(step.key for step in matcher.path[1:]) or matcher.path[0].key
    shown = "not there" if value is None else f"{value!r}"
    return f"claim {place} is {shown}, {'which is excluded' if matcher.invert else f'not {_asked(matcher.value)}'}"


def _asked(matcher: value_pb2.ValueMatcher) -> str:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "or_match":
        return " or ".join(dict.fromkeys(map(_asked, matcher.or_match.value_matchers)))
    if kind == "list_match":
        return _asked(matcher.list_match.one_of)
    return words(matcher.string_match) if kind == "string_match" else "as asked"


def _value(matcher: value_pb2.ValueMatcher, value: object) -> bool:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "or_match":
        return any(_value(one, value) for one in matcher.or_match.value_matchers)
    if kind == "list_match":
        return isinstance(value, list | tuple) and any(_value(matcher.list_match.one_of, one) for one in value)
    if kind == "string_match":
        return isinstance(value, str) and string(matcher.string_match, value)
    if kind == "present_match":
        return (value is not None) == matcher.present_match
    raise UndecidedError(f"a value matcher of kind {kind}")


def within(address: str, ranges: Iterable[address_pb2.CidrRange]) -> int | None:
    """The length of the longest of the ranges that holds an address; None where none does."""
    found = [
        each.prefix_len.value
        for each in ranges
        if ipaddress.ip_address(address)
        in ipaddress.ip_network(f"{each.address_prefix}/{each.prefix_len.value}", strict=False)
    ]
    return max(found, default=None)


def parameters(path: str) -> Mapping[str, str]:
    """The parameters of a query, decoded; of several of one name the first."""
    found: dict[str, str] = {}
    for name, value in urllib.parse.parse_qsl(path.partition("?")[2], keep_blank_values=True):
        found.setdefault(name, value)
    return found
