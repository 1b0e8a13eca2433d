r"""Rules on headers for Envoys that join the lines of a header before they compare (CVE-2026-26308).

Newer ones hold each line against a rule by itself. Joined, ``x: admin`` and ``x: other`` are ``admin,other``, which is
not ``admin``: a rule that refuses ``admin`` would let that in. Which lines there were cannot be seen any more, so what
refuses is widened to whatever might be one of several lines; what lets in stays as it is, and lets in less.

Lines may hold any byte, and to the RE2 of older Envoys (1.38 too) ``.`` is no byte that is not UTF-8: hence ``\C``,
which is each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.type.matcher.v3 import regex_pb2, string_pb2

from istiod.envoy import rbac

_NEGATED: Final = ("not_rule", "not_id")
_ONE_OF: Final = {
    "exact": r"(\C*,)?{}(,\C*)?",
    "prefix": r"(\C*,)?{}\C*",
    "suffix": r"\C*{}(,\C*)?",
    "contains": r"\C*{}\C*",
    "safe_regex": r"(\C*,)?({})(,\C*)?",
}


PATTERNS: Final = (rb"[ \t]*", b"\x12\x02" + rbac.ANYTHING.encode())
"""What listeners hold whose rules have a pattern that meets a client's bytes: of an inline header, of any SNI."""
_DOT: Final = re.compile(r"(\\.|\[[^\]]*\])|\.")
"""A dot that stands for something, or what else a dot may be in."""


def widen(found: rbac_pb2.RBAC) -> bool:
    """Widen what refuses; whether there was any."""
    return any([_widen_header(one) for one in _refusing(found) if isinstance(one, HeaderMatcher)])  # noqa: C419 (all)


def take_bytes(found: rbac_pb2.RBAC) -> bool:
    """Have patterns of what refuses take bytes for which the RE2 of older Envoys has no character; whether any differs.

    Those of what lets in stay, and let in less. So do those about certificates: no client writes these as it likes.
    """
    before = found.SerializeToString(deterministic=True)
    for one in _refusing(found):
        said = one.string_match if isinstance(one, HeaderMatcher) else one
        if said.HasField("safe_regex"):
            said.safe_regex.regex = _DOT.sub(lambda hit: hit[1] or r"\C", said.safe_regex.regex)
    return found.SerializeToString(deterministic=True) != before


def _refusing(found: rbac_pb2.RBAC) -> Iterator[HeaderMatcher | string_pb2.StringMatcher]:
    refuses = found.action == rbac_pb2.RBAC.DENY
    for policy in found.policies.values():
        for one in (*policy.permissions, *policy.principals):
            yield from _texts(one, refuses=refuses)


def _texts(one: Any, *, refuses: bool) -> Iterator[HeaderMatcher | string_pb2.StringMatcher]:
    """Matchers of what a client sends that refuse, in a Permission or a Principal: a tree of ands, ors and nots."""
    kind = one.WhichOneof("rule" if isinstance(one, rbac_pb2.Permission) else "identifier")
    inner: Any = getattr(one, kind) if kind else None
    if kind in _NEGATED:
        yield from _texts(inner, refuses=not refuses)
    elif isinstance(inner, rbac_pb2.Permission.Set | rbac_pb2.Principal.Set):
        for part in inner.rules if isinstance(inner, rbac_pb2.Permission.Set) else inner.ids:
            yield from _texts(part, refuses=refuses)
    elif (kind == "header" and refuses != inner.invert_match) or (kind == "requested_server_name" and refuses):
        yield inner


def _widen_header(found: HeaderMatcher) -> bool:
    said = found.string_match
    pattern = _ONE_OF.get(said.WhichOneof("match_pattern") or "")
    if pattern is None or found.name.startswith(":"):  # of those there is one line
        return False
    value = getattr(said, said.WhichOneof("match_pattern") or "")
    text = value.regex if isinstance(value, regex_pb2.RegexMatcher) else rbac.quoted(value)
    before = "(?i)" if said.ignore_case else ""
    found.string_match.CopyFrom(
        string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=before + pattern.format(text)))
    )
    return True
