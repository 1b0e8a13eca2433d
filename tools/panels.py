"""What Grafana dashboards are made of: panels with queries, in rows. How they become JSON is tools.dashboards'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_RATE: Final = "[$__rate_interval]"

Query = tuple[str, str]
"""PromQL, and the legend of its series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture: ``kind`` is Grafana's name of it, ``unit`` the one of its values, ``width`` of 24."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """What a user chooses: ``query`` is Grafana's, and what ``pattern`` finds first in each of its lines is a value."""

    name: str
    query: str
    pattern: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A page; ``rows`` are (title, panels)."""

    name: str
    title: str
    variables: tuple[Variable, ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def panel(title: str, *queries: Query, unit: str = "short", kind: str = "timeseries", width: int = 8) -> Panel:
    """A panel; its fields are those of Panel."""
    return Panel(title=title, queries=queries, unit=unit, kind=kind, width=width)


def values(name: str, metric: str, label: str) -> Variable:
    """The values of a label."""
    return Variable(name=name, query=f"label_values({metric}, {label})")


def either_side(name: str, part: str, matcher: str = "") -> Variable:
    """What the sources and destinations of all calls are: ``part`` and ``matcher`` are labels without the side.

    Who only calls, or is only called, is among them, whether by HTTP or by TCP.
    """
    found = (
        f"sum({metric}{{{matcher and f'{side}_{matcher}'}}}) by ({side}_{part})"
        for metric in ("istio_requests_total", "istio_tcp_connections_opened_total")
        for side in ("source", "destination")
    )
    return Variable(name=name, query=f"query_result({' or '.join(found)})", pattern=f'/_{part}="([^"]+)"/')


def rate(metric: str, matchers: str = "", by: str = "") -> str:
    """A counter's growth per second, summed, or summed by labels."""
    grouped = f" by ({by})" if by else ""
    return f"sum(rate({metric}{{{matchers}}}{_RATE})){grouped}"


def success(matchers: str) -> str:
    """Which part of the requests was not answered with 5xx."""
    good = rate("istio_requests_total", f'{matchers},response_code!~"5.*"')
    return f"{good} / {rate('istio_requests_total', matchers)}"


def quantile(of: float, metric: str, matchers: str = "", by: str = "") -> str:
    """A quantile (0 to 1) of a histogram."""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({of}, sum(rate({metric}_bucket{{{matchers}}}{_RATE})) by ({labels}))"


def quantiles(metric: str, matchers: str = "") -> tuple[Query, ...]:
    """Three of them, with their names."""
    return tuple((quantile(of, metric, matchers), f"p{of * 100:g}") for of in (0.5, 0.9, 0.99))
