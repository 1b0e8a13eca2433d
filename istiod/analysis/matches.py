"""Rules of one VirtualService that never serve a request, because one before them has the same or a wider match.

As in Istio's validation, equal matches and prefixes of prefixes are found; whatever else shadows a route shows in the
compiled result (istiod.analysis.compiled).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from istiod.analysis import catalogue, fields, message
from istiod.analysis.message import Message
from istiod.analysis.resources import Resource

_MAPS: Final = ("headers", "queryParams", "withoutHeaders")
_ALL_USED: Final = "all matches used by prior rules"
_NOT_LAST: Final = "only the last rule can have no matches"
_AFTER_ALL: Final = "route without matches defined before"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefix:
    """A match on a path's beginning, with everything else that it wants."""

    rule: str
    match: str
    path: str
    port: int
    method: str
    authority: str
    maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def findings(rules: Resource) -> Iterator[Message]:
    """What is never used of a VirtualService."""
    for kind in ("http", "tls", "tcp"):
        yield from _of_kind(rules, kind)


def _of_kind(rules: Resource, kind: str) -> Iterator[Message]:
    routes = fields.records(rules.spec, kind)
    seen = _Seen(names=[_name(route, number) for number, route in enumerate(routes)])
    for number, route in enumerate(routes):
        matches = fields.records(route, "match")
        if matches and not seen.bare:
            yield from _repeated(rules, number, matches, seen)
        elif seen.bare:
            yield message.make(
                catalogue.UNREACHABLE_RULE, rules, seen.names[number], _AFTER_ALL if matches else _NOT_LAST
            )
        seen.bare = seen.bare or not matches
    yield from _covered(rules, seen.prefixes if kind == "http" else [])


@dataclass(slots=True, kw_only=True)
class _Seen:
    """The rules so far: which matches stood in which rule, and whether one had no matches."""

    names: list[str]
    first: dict[str, int] = field(default_factory=dict)
    prefixes: list[_Prefix] = field(default_factory=list)
    bare: bool = False


def _repeated(rules: Resource, number: int, matches: list[fields.Record], seen: _Seen) -> Iterator[Message]:
    """Matches that a rule before has, or the same rule."""
    name, repeated = seen.names[number], 0
    for position, match in enumerate(matches):
        content = _content(match)
        if content in seen.first:
            other = seen.names[seen.first[content]]
            yield message.make(catalogue.INEFFECTIVE_MATCH, rules, name, _name(match, position), other)
            repeated += 1
            continue
        seen.first[content] = number
        if (prefix := _prefix(name, match, position)) is not None:
            seen.prefixes.append(prefix)
    if repeated == len(matches):
        yield message.make(catalogue.UNREACHABLE_RULE, rules, name, _ALL_USED)


def _covered(rules: Resource, prefixes: list[_Prefix]) -> Iterator[Message]:
    before: dict[str, list[_Prefix]] = {}
    for other in prefixes:
        for one in (each for end in range(len(other.path)) for each in before.get(other.path[:end], ())):
            if _covers(one, other):
                mine = f"{one.match} of prefix {one.path} on {one.rule}"
                theirs = f"{other.match} of prefix {other.path}"
                yield message.make(catalogue.INEFFECTIVE_MATCH, rules, other.rule, theirs, mine)
        before.setdefault(other.path, []).append(other)


def _covers(one: _Prefix, other: _Prefix) -> bool:
    """Whether a match on the beginning of a path holds for all that the other one, on a longer beginning, holds for."""
    if one.port != other.port:
        return False
    if not (one.method.startswith(other.method) and one.authority.startswith(other.authority)):
        return False
    return all(_covers_map(one.maps[name], other.maps[name]) for name in _MAPS)


def _covers_map(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return one.keys() == other.keys() and all(one[name].startswith(other[name]) for name in one)


def _prefix(rule: str, match: fields.Record, position: int) -> _Prefix | None:
    path = fields.text(match, "uri", "prefix")
    if not path:
        return None
    return _Prefix(
        rule=rule,
        match=_name(match, position),
        path=path,
        port=fields.number(match, "port"),
        method=_string(fields.dig(match, "method")) or "exact/GET",
        authority=_string(fields.dig(match, "authority")),
        maps={name: {key: _string(value) for key, value in fields.record(match, name).items()} for name in _MAPS},
    )


def _string(said: Any) -> str:
    for kind in ("exact", "prefix"):
        if found := fields.text(said, kind):
            return f"{kind}/{found}"
    return ""


def _content(match: fields.Record) -> str:
    """A match without its name, which has no effect."""
    return json.dumps({key: value for key, value in match.items() if key != "name"}, sort_keys=True, default=str)


def _name(said: fields.Record, number: int) -> str:
    name = fields.text(said, "name")
    return json.dumps(name, ensure_ascii=False) if name else f"#{number}"
