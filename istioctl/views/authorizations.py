"""``x authz check``: ACTION, AuthorizationPolicy, RULES. A row for each policy, as Istio has it.

Two rows Istio has not: CUSTOM, and policies that are only tried, marked as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from istioctl.dump import Json

HEADER: Final = ("ACTION", "AuthorizationPolicy", "RULES")
_HTTP: Final = "envoy.filters.network.http_connection_manager"
_NAME: Final = re.compile(r"ns\[(.+)\]-policy\[(.+)\]-rule\[(\d+)\]")
_ASKED: Final = "istio-ext-authz-"
_ORDER: Final = ("CUSTOM", "DENY", "ALLOW", "LOG")
_TRIED: Final = " (dry run)"


def rows(listeners: Sequence[Json]) -> list[tuple[str, str, str]]:
    """The policies in the filters of all chains: of each, how many rules."""
    found: dict[tuple[str, str], set[str]] = {}
    for filters in _chains(listeners):
        for action, name in _rules(filters):
            if match := _NAME.search(name):
                namespace, policy, rule = match.groups()
                found.setdefault((action, f"{policy}.{namespace}"), set()).add(rule)
    ordered = sorted(found, key=lambda pair: (_ORDER.index(pair[0].removesuffix(_TRIED)), pair))
    return [(action, policy, str(len(found[action, policy]))) for action, policy in ordered]


def _chains(listeners: Sequence[Json]) -> Iterator[Sequence[Json]]:
    for listener in listeners:
        for chain in listener.get("filter_chains", ()):
            for each in (filters := chain.get("filters", ())):
                if each["name"] == _HTTP:
                    yield each.get("typed_config", {}).get("http_filters", ())
            yield filters


def _rules(filters: Sequence[Json]) -> Iterator[tuple[str, str]]:
    """Action and name of every rule in RBAC filters. Envoy leaves an action away that is ALLOW."""
    for each in filters:
        if not each["name"].endswith(".rbac"):
            continue
        config = each.get("typed_config", {})
        for part, more in (("rules", ""), ("shadow_rules", _TRIED)):
            action = config.get(part, {}).get("action", "ALLOW")
            for name in config.get(part, {}).get("policies", {}):
                yield ("CUSTOM" if name.startswith(_ASKED) else action + more), name
