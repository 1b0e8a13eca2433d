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
class Dashboard:
    """A page. ``variables`` are (name, metric with matchers, label); ``rows`` are (title, panels)."""

    name: str
    title: str
    variables: tuple[tuple[str, str, str], ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def panel(title: str, *queries: Query, unit: str = "short", kind: str = "timeseries", width: int = 8) -> Panel:
    """A panel; its fields are those of Panel."""
    return Panel(title=title, queries=queries, unit=unit, kind=kind, width=width)


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
