"""The table: our figures, istiod's recorded ones, and the ratio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

ISTIOD: Final[Mapping[str, Mapping[str, float]]] = {
    "100,5,100": {
        "first_ms": 9.9,
        "rss_before_mb": 116,
        "rss_connected_mb": 232,
        "endpoint_us": 140,
        "endpoint_p50_ms": 115,
        "endpoint_p99_ms": 117,
        "virtualservice_us": 1240,
        "virtualservice_p50_ms": 232,
        "virtualservice_p99_ms": 273,
        "service_us": 1340,
        "service_p50_ms": 290,
        "service_p99_ms": 300,
        "churn_us": 68,
        "churn_p50_ms": 211,
        "churn_p99_ms": 713,
    },
    "1000,5,200": {
        "first_ms": 88.8,
        "first_mb": 3.02,
        "rss_before_mb": 194,
        "rss_connected_mb": 622,
        "rss_settled_mb": 385,
        "endpoint_us": 240,
        "endpoint_p50_ms": 156,
        "endpoint_p99_ms": 169,
        "virtualservice_us": 7240,
        "virtualservice_p50_ms": 1265,
        "virtualservice_p99_ms": 1970,
        "service_us": 7520,
        "service_p50_ms": 1631,
        "service_p99_ms": 2803,
        "churn_us": 105,
        "churn_p50_ms": 364,
        "churn_p99_ms": 1104,
    },
    "1000,10,1000": {
        "first_ms": 115.7,
        "first_mb": 3.85,
        "rss_before_mb": 245,
        "rss_connected_mb": 1431,
        "rss_settled_mb": 1302,
        "rss_proxy_kb": 1080,
        "endpoint_us": 278,
        "endpoint_p50_ms": 354,
        "endpoint_p99_ms": 527,
        "virtualservice_us": 6345,
        "virtualservice_p50_ms": 3442,
        "virtualservice_p99_ms": 6282,
        "churn_us": 118,
        "churn_p50_ms": 3877,
        "churn_p99_ms": 9346,
    },
}
"""Istio 1.32's istiod, delta, plaintext, real API server, two cores of the same kind.

What it sends for one change is more: three assignments for an endpoint, CDS and all of LDS with a route. Its churn
figure is low because it merges changes for 100 ms.
"""

_ROWS: Final = (
    ("first_ms", "first configuration, CPU ms per proxy"),
    ("first_wall_s", "  all proxies at once, wall s"),
    ("first_p99_ms", "  from its connection until complete, p99 ms"),
    ("first_mb", "  MB sent to each"),
    ("endpoint_us", "endpoint change, CPU us per proxy"),
    ("endpoint_p50_ms", "  p50 ms"),
    ("endpoint_p99_ms", "  p99 ms"),
    ("endpoint_bytes", "  bytes sent to each"),
    ("virtualservice_us", "VirtualService weight, CPU us per proxy"),
    ("virtualservice_p50_ms", "  p50 ms"),
    ("virtualservice_p99_ms", "  p99 ms"),
    ("virtualservice_bytes", "  bytes sent to each"),
    ("service_us", "new Service, CPU us per proxy"),
    ("service_p50_ms", "  p50 ms"),
    ("service_p99_ms", "  p99 ms"),
    ("service_bytes", "  bytes sent to each"),
    ("churn_us", "10 endpoint changes/s, CPU us per change and proxy"),
    ("churn_p50_ms", "  p50 ms"),
    ("churn_p99_ms", "  p99 ms"),
    ("churn50_us", "50 endpoint changes/s, CPU us per change and proxy"),
    ("churn50_p50_ms", "  p50 ms"),
    ("churn50_p99_ms", "  p99 ms"),
    ("rss_before_mb", "RSS before, MB"),
    ("rss_connected_mb", "  connected"),
    ("rss_settled_mb", "  settled after all changes"),
    ("rss_proxy_kb", "  more than before, KB per proxy"),
    ("ready_cpu_s", "start until all is read and built, CPU s"),
    ("empty_ready_s", "start until an empty mesh is served, wall s"),
    ("empty_cpu_s", "  CPU s"),
    ("idle_cpu_share", "idle, share of a core"),
    ("micro_build_s", "in one process: world applied and built, CPU s"),
    ("micro_first_ms", "  first configuration, CPU ms per proxy"),
    ("micro_endpoint_us", "  endpoint change, CPU us per proxy"),
    ("micro_virtualservice_us", "  VirtualService weight, CPU us per proxy"),
    ("micro_service_us", "  new Service, CPU us per proxy"),
)


def table(size: str, figures: Mapping[str, float], factor: float) -> Iterator[str]:
    """Lines of text. ``normal`` is the figure on the reference machine (CPU only)."""
    recorded = ISTIOD.get(size, {})
    yield f"{'':52} {'here':>10} {'normal':>10} {'istiod':>10} {'ratio':>7}"
    for name, title in _ROWS:
        if name not in figures:
            continue
        value, theirs = figures[name], recorded.get(name)
        normal = _number(value / factor) if _is_cpu(name) else ""
        ratio = f"{theirs / value:.1f}x" if theirs and value > 0 else ""
        yield f"{title:52} {_number(value):>10} {normal:>10} {_number(theirs):>10} {ratio:>7}"


def _is_cpu(name: str) -> bool:
    return name.endswith(("_us", "first_ms", "_cpu_s", "_build_s"))


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
