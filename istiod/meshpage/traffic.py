"""Who calls whom how often, how fast and with how many failures: counts of several moments made into rates. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from istiod.meshpage import listing, samples
from istiod.meshpage.samples import Counted, Edge, Node, Series

WORKLOADS, SERVICES = "workloads", "services"
GROUPS: Final = (WORKLOADS, SERVICES)
_NOTHING: Final = 1e-6
_ALARMING: Final = 0.05
"""From this part of failures on an edge is drawn as an error, not as a warning."""


class Place(NamedTuple):
    """A node of the picture; "" is a namespace that nobody knows."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What was counted in so many seconds, by all proxies together."""

    seconds: float
    counted: Counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One edge: requests, failures and TCP bytes a second, and latencies in milliseconds (None: not measured)."""

    source: Place
    destination: Place
    requests: float
    errors: float
    bytes: float
    p50: float | None
    p99: float | None

    @property
    def failing(self) -> float:
        """The part of the requests that fail, 0 to 1."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def tone(self) -> str:
        """How it is drawn: good, warning or error."""
        if not self.errors:
            return "good"
        return "error" if self.failing >= _ALARMING else "warning"


def grown(before: Counted, after: Counted) -> Counted:
    """What was counted in between; a count that fell began anew."""
    found: Counted = {}
    for series, value in after.items():
        old = before.get(series, 0.0)
        if (more := value - old if value >= old else value) > 0:
            found[series] = more
    return found


def together(several: Iterable[Counted]) -> Counted:
    """The sum of several proxies' counts."""
    found: Counted = defaultdict(float)
    for each in several:
        for series, value in each.items():
            found[series] += value
    return dict(found)


def moved(total: Counted, latest: Counted, oldest: Counted) -> None:
    """Keep the sum of a window that moves on: a large mesh has too many counts to add all of them up again."""
    for series, value in latest.items():
        total[series] = total.get(series, 0.0) + value
    for series, value in oldest.items():
        left = total[series] - value
        if left > _NOTHING:
            total[series] = left
        else:
            del total[series]


def flows(rounds: Sequence[Round], group: str) -> list[Flow]:
    """Edges between workloads or services, the busiest first.

    The caller's word counts where there is any: it knows of requests that never arrive, and waits as users do.
    """
    seconds = sum(each.seconds for each in rounds)
    if seconds <= 0:
        return []
    found: dict[tuple[Place, Place], dict[str, dict[tuple[str, float], float]]] = {}
    for each in rounds:
        for series, value in each.counted.items():
            _note(found, series, value, group)
    made = [_flow(pair, said.get("source") or said["destination"], seconds) for pair, said in found.items()]
    return sorted(made, key=lambda flow: (-flow.requests, -flow.bytes, flow.source, flow.destination))


def _note(
    found: dict[tuple[Place, Place], dict[str, dict[tuple[str, float], float]]],
    series: Series,
    value: float,
    group: str,
) -> None:
    pair = places(series.edge, group)
    counts = found.setdefault(pair, {}).setdefault(series.edge.reporter, defaultdict(float))
    counts[series.what, series.bound] += value


def places(edge: Edge, group: str) -> tuple[Place, Place]:
    """Both ends of an edge in the picture of workloads or of services."""
    return _place(edge.source, group), _place(edge.destination, group)


def _place(node: Node, group: str) -> Place:
    """A workload that nobody knows stands for its service, and the other way round."""
    first, second = (node.workload, node.service) if group == WORKLOADS else (node.service, node.workload)
    name = second if first == samples.UNKNOWN else first
    return Place("" if node.namespace == samples.UNKNOWN else node.namespace, name)


def _flow(pair: tuple[Place, Place], counts: Mapping[tuple[str, float], float], seconds: float) -> Flow:
    buckets = sorted((bound, value) for (what, bound), value in counts.items() if what == samples.WITHIN)
    return Flow(
        source=pair[0],
        destination=pair[1],
        requests=counts.get((samples.REQUESTS, 0.0), 0.0) / seconds,
        errors=counts.get((samples.ERRORS, 0.0), 0.0) / seconds,
        bytes=counts.get((samples.BYTES, 0.0), 0.0) / seconds,
        p50=quantile(buckets, 0.5),
        p99=quantile(buckets, 0.99),
    )


def quantile(buckets: Sequence[tuple[float, float]], part: float) -> float | None:
    """Prometheus' histogram_quantile: linear within a bucket; of the last one its lower bound.

    Buckets are (upper bound, how many took at most so long), ascending, and those that stayed empty may be missing;
    ``part`` is 0 to 1.
    """
    if not buckets or buckets[-1][1] <= 0:
        return None
    wanted = part * buckets[-1][1]
    index = next(number for number, (_, count) in enumerate(buckets) if count >= wanted)
    low, below = buckets[index - 1] if index else (0.0, 0.0)
    bound, count = buckets[index]
    return low if math.isinf(bound) else low + (bound - low) * (wanted - below) / (count - below or 1)


def chosen(found: Iterable[Flow], namespace: str, query: str) -> list[Flow]:
    """Flows from or to a namespace ("" is any) that a search finds."""
    return [
        flow
        for flow in found
        if (not namespace or namespace in (flow.source.namespace, flow.destination.namespace))
        and listing.fits(query, *flow.source, *flow.destination)
    ]
