"""``proxy-config route``: NAME, VHOST NAME, DOMAINS, MATCH, VIRTUAL SERVICE, a row for each route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from istioctl.dump import Json
from istioctl.views import origin
from istioctl.views.listeners import matched
from wire import decimal

HEADER: Final = ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE")
BRIEF: Final = ("NAME", "VIRTUAL HOSTS")
_SHOWN: Final = 2
_SUFFIXES: Final = (".svc.cluster.local", ".svc", ".svc.cluster.local.", ".")
_IPV6_COLONS: Final = 2


def selected(routes: Sequence[Json], name: str) -> list[Json]:
    """Those of this name (any, if empty): numbers first, in their order, then names."""
    found = [each for each in routes if not name or each.get("name") == name]
    return sorted(found, key=lambda each: _order(str(each.get("name", ""))))


def rows(routes: Sequence[Json]) -> list[tuple[str, ...]]:
    """A row for each route; a virtual host without any answers 404."""
    hosts = ((str(each.get("name", "")), host) for each in routes for host in each.get("virtual_hosts", ()))
    return [row for name, host in hosts for row in _host(name, host)]


def brief(routes: Sequence[Json]) -> list[tuple[str, ...]]:
    """A row for each table."""
    return [(str(each.get("name", "")), str(len(each.get("virtual_hosts", ())))) for each in routes]


def domains(every: Sequence[str]) -> str:
    """The two that say most: without ports and final dots, and the short name where the long one is there too."""
    if len(every) == 1:
        return every[0]
    plain = [each for each in every if ":" not in each or (each.count(":") > _IPV6_COLONS and each.endswith("]"))]
    known = set(plain)
    kept = [each for each in plain if not any(_shorter(each, suffix) in known for suffix in _SUFFIXES)]
    more = f" + {len(kept) - _SHOWN} more..." if len(kept) > _SHOWN else ""
    return ", ".join(kept[:_SHOWN]) + more


def _host(table: str, host: Json) -> Iterator[tuple[str, ...]]:
    where = (table, str(host.get("name", "")), domains(host.get("domains", [])))
    if not host.get("routes"):
        yield (*where, "/*", "404")
    for route in host.get("routes", ()):
        if route.get("route", {}).get("cluster") != "PassthroughCluster":
            yield (*where, matched(route.get("match", {})), _owner(route))


def _shorter(domain: str, suffix: str) -> str:
    return domain.removesuffix(suffix) if domain.endswith(suffix) else ""


def _owner(route: Json) -> str:
    answer = route.get("direct_response", {}).get("status")
    return origin.shown(route) or (str(answer) if answer else "")


def _order(name: str) -> tuple[int, int, str]:
    number = decimal.number(name)
    return (1, 0, name) if number is None else (0, number, "")
