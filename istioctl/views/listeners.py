"""``proxy-config listener``: ADDRESSES, PORT, MATCH, DESTINATION, a row for each filter chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from istioctl.dump import Json

HEADER: Final = ("ADDRESSES", "PORT", "MATCH", "DESTINATION")
BRIEF: Final = ("ADDRESSES", "PORT", "TYPE")
_HTTP: Final = "envoy.filters.network.http_connection_manager"
_TCP: Final = "envoy.filters.network.tcp_proxy"
_NOWHERE: Final = "BlackHoleCluster"
_ALPN: Final = {
    ("http/1.0", "http/1.1", "h2c", "istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: HTTP TLS",
    ("istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: Istio HTTP Plain",
    ("istio-peer-exchange", "istio"): "App: TCP TLS",
    ("http/1.0", "http/1.1", "h2c"): "App: HTTP",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which listeners; empty means any. ``type`` is HTTP, TCP or HTTP+TCP."""

    address: str = ""
    port: int = 0
    type: str = ""


def selected(listeners: Sequence[Json], wanted: Filter) -> list[Json]:
    """Those that the filter lets through, by port, address and type."""
    found = [each for each in listeners if _fits(each, wanted)]
    return sorted(found, key=lambda each: (_port(each), _addresses(each), kind(each)))


def rows(listeners: Sequence[Json]) -> list[tuple[str, ...]]:
    """A row for each filter chain of each listener."""
    found: list[tuple[str, ...]] = []
    for each in listeners:
        chains = [(_match(chain), _destination(chain.get("filters", ()))) for chain in _chains(each)]
        chains.sort(key=lambda pair: pair[1], reverse=True)
        found += [(",".join(_addresses(each)), str(_port(each)), *pair) for pair in chains]
    return found


def brief(listeners: Sequence[Json]) -> list[tuple[str, ...]]:
    """A row for each listener, with its type only."""
    return [(",".join(_addresses(each)), str(_port(each)), kind(each)) for each in listeners]


def kind(listener: Json) -> str:
    """HTTP, TCP, HTTP+TCP or UNKNOWN, by the filters of its chains."""
    filters = [each for chain in _chains(listener) for each in chain.get("filters", ())]
    http = any(each["name"] == _HTTP for each in filters)
    tcp = any(each["name"] == _TCP and _typed(each).get("cluster") != _NOWHERE for each in filters)
    return "+".join(name for name, there in (("HTTP", http), ("TCP", tcp)) if there) or "UNKNOWN"


def _fits(listener: Json, wanted: Filter) -> bool:
    return (
        (not wanted.address or wanted.address.lower() in (each.lower() for each in _addresses(listener)))
        and (not wanted.port or _port(listener) == wanted.port)
        and (not wanted.type or kind(listener).lower() == wanted.type.lower())
    )


def _addresses(listener: Json) -> list[str]:
    others = (each.get("address", {}) for each in listener.get("additional_addresses", ()))
    every = (each.get("socket_address", {}).get("address", "") for each in (listener.get("address", {}), *others))
    return [each for each in every if each]


def _port(listener: Json) -> int:
    return int(listener.get("address", {}).get("socket_address", {}).get("port_value", 0))


def _chains(listener: Json) -> list[Json]:
    default = listener.get("default_filter_chain")
    return [*listener.get("filter_chains", ()), *([default] if default else [])]


def _match(chain: Json) -> str:
    match = chain.get("filter_chain_match", {})
    said = []
    if names := match.get("server_names"):
        said.append(f"SNI: {','.join(names)}")
    if transport := match.get("transport_protocol"):
        said.append(f"Trans: {transport}")
    if protocols := match.get("application_protocols"):
        said.append(_ALPN.get(tuple(protocols), f"App: {','.join(protocols)}"))
    port = f":{match['destination_port']}" if "destination_port" in match else ""
    ranges = [f"{each['address_prefix']}/{each.get('prefix_len', 0)}" for each in match.get("prefix_ranges", ())]
    if ranges or port:
        said.append(f"Addr: {','.join(ranges) or '*'}{port}")
    return "; ".join(said) or "ALL"


def _typed(each: Json) -> Json:
    found: Json = each.get("typed_config", {})
    return found


def _destination(filters: Sequence[Json]) -> str:
    for each in filters:
        if each["name"] == _HTTP:
            return _http(_typed(each))
        if each["name"] == _TCP:
            found = _tcp(_typed(each))
            if found:
                return found
    return "Non-HTTP/Non-TCP"


def _http(manager: Json) -> str:
    if inline := manager.get("route_config"):
        return _inline(inline)
    route = manager.get("rds", {}).get("route_config_name")
    return f"Route: {route}" if route else "HTTP"


def _tcp(proxy: Json) -> str:
    if weighted := proxy.get("weighted_clusters"):
        return "; ".join(f"Cluster: {each['name']}" for each in weighted.get("clusters", ()))
    cluster = str(proxy.get("cluster", ""))
    return "" if cluster == _NOWHERE else _cluster(cluster)


def _cluster(name: str) -> str:
    return name if "Cluster" in name else f"Cluster: {name}"


def _inline(config: Json) -> str:
    """A table inside of a listener: its cluster where everything goes to one, else what it matches."""
    hosts = config.get("virtual_hosts", ())
    if only := _everything(hosts):
        return _cluster(only)
    return "Inline Route: " + "; ".join(_virtual_host(each) for each in hosts)


def _everything(hosts: Sequence[Json]) -> str:
    if len(hosts) != 1 or hosts[0].get("domains") != ["*"] or len(hosts[0].get("routes", ())) != 1:
        return ""
    route = hosts[0]["routes"][0]
    return str(route.get("route", {}).get("cluster", "")) if route.get("match", {}).get("prefix") == "/" else ""


def _virtual_host(host: Json) -> str:
    domains = host.get("domains", [])
    routes = ", ".join(matched(each.get("match", {})) for each in host.get("routes", ()))
    return routes if domains == ["*"] else f"{'/'.join(domains)} {routes}"


def matched(match: Json) -> str:
    """The path that a route matches, as istioctl writes it."""
    said: list[Any] = []
    if "prefix" in match:
        said.append(f"{match['prefix']}*")
    if "path_separated_prefix" in match:
        said.append(f"PathPrefix:{match['path_separated_prefix']}")
    if "path" in match:
        said.append(match["path"])
    if "safe_regex" in match:
        said.append(f"regex {match['safe_regex'].get('regex', '')}")
    return " ".join(said)
