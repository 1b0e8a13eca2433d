"""The common form of both sides: what a proxy's configuration says of Services, their endpoints and their routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Address = tuple[str, int]
"""IP address and port."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Rule:
    """One route: what a request must look like, and the clusters it goes to with their weights."""

    match: str
    to: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A proxy's configuration.

    Attributes:
        clusters: name of an outbound cluster -> addresses of its endpoints.
        routes: (name of a route configuration, host) -> its routes in order.
    """

    clusters: Mapping[str, frozenset[Address]]
    routes: Mapping[tuple[str, str], tuple[Rule, ...]]


def differences(wanted: View, found: View, *, whole: bool) -> list[str]:
    """What is wrong with ``found``, one sentence each.

    Args:
        wanted: what must be there.
        found: what is there.
        whole: a cluster that is not in ``wanted`` is wrong, too.
    """
    wrong = [f"cluster {name} is missing" for name in sorted(wanted.clusters.keys() - found.clusters.keys())]
    if whole:
        wrong += [f"cluster {name} is too much" for name in sorted(found.clusters.keys() - wanted.clusters.keys())]
    for name in sorted(wanted.clusters.keys() & found.clusters.keys()):
        missing = sorted(wanted.clusters[name] - found.clusters[name])
        stale = sorted(found.clusters[name] - wanted.clusters[name])
        if missing or stale:
            wrong.append(f"cluster {name}: endpoints {missing} are missing, {stale} are stale")
    for key, rules in sorted(wanted.routes.items()):
        have = found.routes.get(key)
        if have != rules:
            wrong.append(f"routes of {key[1]} in {key[0]}: wanted {_text(rules)}, found {_text(have)}")
    return wrong


def _text(rules: tuple[Rule, ...] | None) -> str:
    if rules is None:
        return "none"
    return "; ".join(f"[{rule.match}] -> {', '.join(f'{name} {weight}' for name, weight in rule.to)}" for rule in rules)
