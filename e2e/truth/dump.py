"""An Envoy's /config_dump?include_eds as a View."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from e2e.truth.view import Address, Rule, View


def view(dump: Mapping[str, Any]) -> View:
    """What the proxy that gave this dump has: outbound clusters, their endpoints, and routes by host."""
    clusters = {name: frozenset[Address]() for name in _clusters(dump)}
    clusters |= {name: found for name, found in _endpoints(dump) if name in clusters}
    return View(clusters=clusters, routes=dict(_routes(dump)))


def _parts(dump: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    yield from (part for part in dump["configs"] if part["@type"].endswith(f".{kind}"))


def _clusters(dump: Mapping[str, Any]) -> Iterator[str]:
    for part in _parts(dump, "ClustersConfigDump"):
        for each in part.get("dynamic_active_clusters", []):
            name = each["cluster"]["name"]
            if name.startswith("outbound|"):
                yield name


def _endpoints(dump: Mapping[str, Any]) -> Iterator[tuple[str, frozenset[Address]]]:
    for part in _parts(dump, "EndpointsConfigDump"):
        for each in part.get("dynamic_endpoint_configs", []):
            config = each["endpoint_config"]
            found = [one for group in config.get("endpoints", []) for one in group.get("lb_endpoints", [])]
            sockets = [one["endpoint"]["address"]["socket_address"] for one in found]
            yield config["cluster_name"], frozenset((one["address"], one["port_value"]) for one in sockets)


def _routes(dump: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], tuple[Rule, ...]]]:
    for part in _parts(dump, "RoutesConfigDump"):
        for each in part.get("dynamic_route_configs", []):
            config = each["route_config"]
            for host in config.get("virtual_hosts", []):
                rules = tuple(_rule(route) for route in host.get("routes", []))
                for domain in host["domains"]:
                    yield (config["name"], domain), rules


def _rule(route: Mapping[str, Any]) -> Rule:
    words = [_path(route["match"])]
    words += sorted(_header(each) for each in route["match"].get("headers", []))
    return Rule(match=" ".join(words), to=_to(route))


def _to(route: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    action = route.get("route")
    if action is None:
        return ((next(key for key in ("redirect", "direct_response", "filter_action") if key in route), 0),)
    if "weighted_clusters" in action:
        weighted = action["weighted_clusters"]["clusters"]
        return tuple((each["name"], each.get("weight", 0)) for each in weighted)
    return ((action["cluster"], 100),)


def _path(match: Mapping[str, Any]) -> str:
    if "safe_regex" in match:
        return f"regex {match['safe_regex']['regex']}"
    kind = next(key for key in ("prefix", "path", "path_separated_prefix") if key in match)
    return f"{kind} {match[kind]}"


def _header(header: Mapping[str, Any]) -> str:
    if "string_match" not in header:
        return f"{header['name']} present"
    kind, value = next((key, value) for key, value in header["string_match"].items() if key != "ignore_case")
    return f"{header['name']} {kind} {value['regex'] if kind == 'safe_regex' else value}"
