"""LocalRateLimit: limits that count, and what Envoy takes (features row X1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from crds import path
from crds.checks import values
from crds.checks.findings import Findings
from crds.local_rate_limit import Limit, LimitRule, LocalRateLimit, RequestMatch

_LEAST: Final = timedelta(milliseconds=50)
"""Envoy fills no bucket more often."""
_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~A-Za-z0-9]+\Z")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_MOST_RULES: Final = 32
"""Each is a filter in every chain."""
_REFUSALS: Final = frozenset((*range(400, 418), 421, 422, 423, 424, 426, 428, 429, 431, *range(500, 509), 510, 511))
"""The codes that Envoy knows (envoy.type.v3.StatusCode)."""


def check(item: LocalRateLimit, found: Findings) -> None:
    """Everything that one LocalRateLimit can be wrong about."""
    spec = item.spec
    for name, value in (spec.selector.match_labels if spec.selector is not None else {}).items():
        if not name or "*" in name + value:
            found.error(path.child("spec.selector.matchLabels", name), "a selector has no wildcards and no empty names")
    if not spec.rules:
        found.missing("spec.rules")
    if len(spec.rules) > _MOST_RULES:
        found.error("spec.rules", f"has more than {_MOST_RULES} items")
    taken: set[str] = set()
    for index, rule in enumerate(spec.rules):
        field = f"spec.rules[{index}]"
        if rule.name and (not _NAME.match(rule.name) or rule.name in taken):
            found.error(f"{field}.name", "must be a name of lower-case letters, digits and hyphens, and the only such")
        taken.add(rule.name)
        _rule(found, field, rule)


def _rule(found: Findings, field: str, rule: LimitRule) -> None:
    _limit(found, f"{field}.limit", rule.limit)
    if rule.status not in _REFUSALS:
        found.error(f"{field}.status", f"{rule.status} is no status of a refusal that Envoy knows (400 to 511)")
    for name, value in rule.response_headers.items():
        place = path.child(f"{field}.responseHeaders", name)
        found.check(place, None if _TOKEN.match(name) else f"{name!r} is no name of a header")
        found.check(place, values.line(value) or ("must not hold %" if "%" in value else None))
    if rule.match is not None:
        _match(found, f"{field}.match", rule.match)


def _limit(found: Findings, field: str, limit: Limit) -> None:
    if not limit.requests:
        found.missing(f"{field}.requests")
    if limit.per is None:
        found.missing(f"{field}.per")
    found.check(f"{field}.per", values.duration(limit.per, _LEAST))
    if limit.burst is not None and limit.burst < limit.requests:
        found.error(f"{field}.burst", "must be at least as many as requests: a bucket holds what is filled in")


def _match(found: Findings, field: str, one: RequestMatch) -> None:
    lists: list[tuple[str, Iterable[str]]] = [("methods", one.methods), ("paths", one.paths), ("hosts", one.hosts)]
    for index, header in enumerate(one.headers):
        place = f"{field}.headers[{index}]"
        found.check(f"{place}.name", None if _TOKEN.match(header.name) else f"{header.name!r} is no name of a header")
        if not header.values and not header.not_values:
            found.missing(f"{place}.values")
        lists += [(f"headers[{index}].values", header.values), (f"headers[{index}].notValues", header.not_values)]
    for name, texts in lists:
        for index, text in enumerate(texts):
            wild = "*" in text[1:-1] or text in ("", "**")
            problem = "must not be empty, and have * at one end only" if wild or _both(text) else values.line(text)
            found.check(f"{field}.{name}[{index}]", problem)
    if not any((one.methods, one.paths, one.hosts, one.headers)):
        found.error(field, "names nothing; a rule for all requests has no match")


def _both(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] == "*"
