"""``istioctl experimental metrics WORKLOAD...``: rates and latencies of workloads, out of Prometheus (row U6).

Prometheus is one of the control plane's namespace, as samples/addons brings it; the questions are those of Istio's
command, so that both say the same of the same metrics. What a server's own proxy counts is asked for.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

from istioctl import dashboard, options, output, reach
from istioctl.errors import CommandError

_PAGE: Final = dashboard.PAGES["prometheus"]
SELECTORS: Final = (_PAGE.selector, "app=prometheus")
_REQUESTS: Final = "istio_requests_total"
_LATENCIES: Final = "istio_request_duration_milliseconds_bucket"
_FAILED: Final = ',response_code=~"[45][0-9]{2}"'
_QUANTILES: Final = (0.5, 0.9, 0.99)
_HEADER: Final = ("WORKLOAD", "TOTAL RPS", "ERROR RPS", "P50 LATENCY", "P90 LATENCY", "P99 LATENCY")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")
_WIDTHS: Final = (42, 13)
"""Of the first column, and of the others."""
_SECOND, _MINUTE = 1000, 60_000


def register(subparsers: Any) -> None:
    """Add the command below ``experimental``."""
    parser = subparsers.add_parser(
        "metrics",
        aliases=["m"],
        parents=[options.shared()],
        help="requests, errors and latencies of workloads, out of Prometheus",
        allow_abbrev=False,
    )
    parser.add_argument("workloads", nargs="+", metavar="NAME[.NAMESPACE]", help="workloads whose names begin so")
    parser.add_argument("-d", "--duration", type=options.seconds, default=60.0, help="of the past, such as 5m; else 1m")
    parser.add_argument(
        "--prometheus-address", default="", metavar="HOST:PORT", help="ask this Prometheus instead of the cluster's"
    )
    parser.set_defaults(run=_run)


def queries(workload: str, seconds: int) -> tuple[str, ...]:
    """What is asked of a workload: requests and errors per second, and three quantiles of milliseconds.

    Raises:
        CommandError: it can be no workload's name.
    """
    name, dot, namespace = workload.partition(".")
    if not all(_NAME.fullmatch(each) for each in ((name, namespace) if dot else (name,))):
        raise CommandError(f"{workload!r} is no NAME[.NAMESPACE] of a workload")
    of = f'destination_workload=~"{name}.*",destination_workload_namespace=~"{namespace}.*",reporter="destination"'
    rates = (f"sum(rate({_REQUESTS}{{{of}{more}}}[{seconds}s]))" for more in ("", _FAILED))
    buckets = f"sum(rate({_LATENCIES}{{{of}}}[{seconds}s])) by (le)"
    return (*rates, *(f"histogram_quantile({each}, {buckets})" for each in _QUANTILES))


def _run(given: argparse.Namespace) -> int:
    asked = {workload: queries(workload, max(1, round(given.duration))) for workload in given.workloads}
    where = _prometheus(given)
    rows = [_HEADER]
    for workload, each in asked.items():
        rate, errors, *latencies = (_value(where, query) for query in each)
        rows.append((workload, f"{rate:.3f}", f"{errors:.3f}", *map(_duration, latencies)))
    first, other = _WIDTHS
    output.say("".join(f"{name:>{first}}{''.join(f'{each:>{other}}' for each in rest)}\n" for name, *rest in rows))
    return 0


def _prometheus(given: argparse.Namespace) -> reach.Address:
    if given.prometheus_address:
        return reach.Address(given.prometheus_address)
    where = options.cluster(given)
    for selector in SELECTORS:
        try:
            found: reach.Address = where.page(where.beside(selector)[0], _PAGE.port)
        except CommandError as error:
            reason = error
        else:
            return found
    raise CommandError(f"no Prometheus is found ({reason}); see samples/addons, or name one by --prometheus-address")


def _value(where: reach.Address, query: str) -> float:
    """What a query finds now; 0 where there is nothing, as Istio says it."""
    body = where.ask(f"/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    try:
        found: Mapping[str, Any] = json.loads(body)["data"]
        value = float(found["result"][0]["value"][1]) if found["result"] else 0.0
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise CommandError(f"{where.name} does not answer as Prometheus does: {error!r}") from error
    return value if math.isfinite(value) else 0.0


def _duration(milliseconds: float) -> str:
    """Whole milliseconds as Go writes a duration."""
    whole = int(milliseconds)
    if whole < _SECOND:
        return f"{whole}ms" if whole else "0s"
    minutes, rest = divmod(whole, _MINUTE)
    return f"{minutes}m{rest / _SECOND:g}s" if minutes else f"{rest / _SECOND:g}s"
