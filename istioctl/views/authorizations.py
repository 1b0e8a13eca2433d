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
_CAPTURED: Final = "virtualInbound"


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


def of_port(listeners: Sequence[Json], port: int) -> list[str]:
    """Names of the rules that guard an inbound port, each once; those that are only tried are marked.

    A chain of the port's own guards it, else those that take what no other chain does.
    """
    chains = [(_port(listener, chain), chain) for listener in listeners for chain in listener.get("filter_chains", ())]
    own = [chain for number, chain in chains if number == port] or [chain for number, chain in chains if not number]
    found = {
        name + (_TRIED if action.endswith(_TRIED) else "")
        for filters in _chains([{"filter_chains": own}])
        for action, name in _rules(filters)
    }
    return sorted(found)


def _port(listener: Json, chain: Json) -> int:
    """The port that a chain is for: its own condition, or its listener's; 0 for the rest of what is captured."""
    said = chain.get("filter_chain_match", {}).get("destination_port")
    captured = listener.get("name") == _CAPTURED
    address = listener.get("address", {}).get("socket_address", {})
    return int(said or (0 if captured else address.get("port_value", 0)))


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
