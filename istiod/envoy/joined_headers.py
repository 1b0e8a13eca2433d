"""Rules on headers for Envoys that join the lines of a header before they compare (CVE-2026-26308).

Newer ones hold each line against a rule by itself. Joined, ``x: admin`` and ``x: other`` are ``admin,other``, which is
not ``admin``: a rule that refuses ``admin`` would let that in. Which lines there were cannot be seen any more, so what
refuses is widened to whatever might be one of several lines; what lets in stays as it is, and lets in less.
"""

from __future__ import annotations

from typing import Any, Final

from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2

from istiod.envoy import rbac

_NEGATED: Final = ("not_rule", "not_id")
_ONE_OF: Final = {
    "exact": r"(?s)(.*,)?{}(,.*)?",
    "prefix": r"(?s)(.*,)?{}.*",
    "suffix": r"(?s).*{}(,.*)?",
    "contains": r"(?s).*{}.*",
    "safe_regex": r"(?s)(.*,)?({})(,.*)?",
}


def widen(found: rbac_pb2.RBAC) -> bool:
    """Widen what refuses; whether there was any."""
    refuses = found.action == rbac_pb2.RBAC.DENY
    widened = [
        _widen(one, refuses=refuses)
        for policy in found.policies.values()
        for one in (*policy.permissions, *policy.principals)
    ]
    return any(widened)


def _widen(one: Any, *, refuses: bool) -> bool:
    """A Permission or a Principal: a tree of ands, ors and nots."""
    kind = one.WhichOneof("rule" if isinstance(one, rbac_pb2.Permission) else "identifier")
    inner: Any = getattr(one, kind) if kind else None
    if kind in _NEGATED:
        return _widen(inner, refuses=not refuses)
    if isinstance(inner, rbac_pb2.Permission.Set | rbac_pb2.Principal.Set):
        parts = inner.rules if isinstance(inner, rbac_pb2.Permission.Set) else inner.ids
        return any([_widen(part, refuses=refuses) for part in parts])  # noqa: C419 (all of them are widened)
    return kind == "header" and _widen_header(inner, refuses=refuses)


def _widen_header(found: route_components_pb2.HeaderMatcher, *, refuses: bool) -> bool:
    said = found.string_match
    pattern = _ONE_OF.get(said.WhichOneof("match_pattern") or "")
    if found.invert_match:
        refuses = not refuses
    if not refuses or pattern is None or found.name.startswith(":"):  # of those there is one line
        return False
    value = getattr(said, said.WhichOneof("match_pattern") or "")
    text = value.regex if isinstance(value, regex_pb2.RegexMatcher) else rbac.quoted(value)
    before = "(?i)" if said.ignore_case else ""
    found.string_match.CopyFrom(
        string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=before + pattern.format(text)))
    )
    return True
