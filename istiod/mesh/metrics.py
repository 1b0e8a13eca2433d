"""What is different about a workload's metrics: what Telemetry comes to (features row Q4).

There is one provider here, Prometheus, which scrapes; it has all of Istio's metrics unless Telemetry says otherwise.
Source: Istio's mergeMetrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from crds import telemetry as api
from crds.checks import cel
from crds.diagnostic import Code, Diagnostic, warning
from istiod.mesh.telemetry import Rules, TelemetryIndex
from wire import labels

PROMETHEUS: Final = "prometheus"
NAMES: Final[Mapping[str, str]] = {
    "REQUEST_COUNT": "requests_total",
    "REQUEST_DURATION": "request_duration_milliseconds",
    "REQUEST_SIZE": "request_bytes",
    "RESPONSE_SIZE": "response_bytes",
    "TCP_OPENED_CONNECTIONS": "tcp_connections_opened_total",
    "TCP_CLOSED_CONNECTIONS": "tcp_connections_closed_total",
    "TCP_SENT_BYTES": "tcp_sent_bytes_total",
    "TCP_RECEIVED_BYTES": "tcp_received_bytes_total",
}
"""Istio's names of metrics that there are -> what they are called, without ``istio_``."""
_BOTH: Final = "CLIENT_AND_SERVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What is different about one metric. ``tags``: label and CEL expression, None where it is left out; sorted."""

    metric: str
    disabled: bool = False
    tags: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What is different, by metric, sorted. ``client`` is of calls that the workload sends, and of all of gateways."""

    client: tuple[Override, ...] = ()
    server: tuple[Override, ...] = ()


NOTHING: Final = Metrics()


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """Names of the mesh's providers of metrics: those that are Prometheus, and those by default."""

    prometheus: frozenset[str] = frozenset({PROMETHEUS})
    default: tuple[str, ...] = ()


@dataclass(slots=True)
class _Made:
    disabled: bool = False
    tags: dict[str, str | None] = field(default_factory=dict)


def of(rules: Rules, providers: Providers) -> Metrics:
    """The metrics of a workload. Where none of its providers is Prometheus, it has none."""
    if not rules.metrics and not providers.default:
        return NOTHING
    named = providers.default or (PROMETHEUS,)
    for one in rules.metrics:
        named = tuple(ref.name for ref in one.providers) or named
    if providers.prometheus.isdisjoint(named):
        none = tuple(Override(metric=name, disabled=True) for name in sorted(NAMES.values()))
        return Metrics(client=none, server=none)
    overrides = tuple(said for one in rules.metrics if _concerns(one, providers) for said in one.overrides)
    return Metrics(client=_side(overrides, "CLIENT"), server=_side(overrides, "SERVER"))


def _concerns(said: api.Metrics, providers: Providers) -> bool:
    return not said.providers or any(ref.name in providers.prometheus for ref in said.providers)


def _side(overrides: Iterable[api.MetricsOverrides], mode: str) -> tuple[Override, ...]:
    made = {name: _Made() for name in sorted(NAMES.values())}
    for said in overrides:
        if (said.match.mode if said.match else _BOTH) not in (mode, _BOTH):
            continue
        for name in _matched(said.match):
            if said.disabled is not None:
                made[name].disabled = said.disabled
            for tag, change in said.tag_overrides.items():
                made[name].tags[tag] = None if change.operation == "REMOVE" else change.value
    found = (
        Override(metric=name, disabled=one.disabled, tags=() if one.disabled else tuple(sorted(one.tags.items())))
        for name, one in made.items()
    )
    return tuple(one for one in found if one.disabled or one.tags)


def _matched(said: api.MetricSelector | None) -> tuple[str, ...]:
    if said is not None and said.custom_metric is not None:
        name = said.custom_metric.removeprefix("istio_")
        return (name,) if name in NAMES.values() else ()
    if said is None or said.metric in (None, "ALL_METRICS"):
        return tuple(NAMES.values())
    return (NAMES[said.metric],) if said.metric in NAMES else ()


def findings(index: TelemetryIndex, providers: Providers) -> Iterator[Diagnostic]:
    """What of the objects has no effect."""
    for key, item in index.read.items():
        for place, said in enumerate(item.spec.metrics):
            field_path = f"spec.metrics[{place}]"
            for number, ref in enumerate(said.providers):
                if ref.name not in providers.prometheus:
                    message = f"no provider {ref.name!r} of the mesh configuration is Prometheus: it gets no metrics"
                    yield warning(Code.UNKNOWN_LOG_PROVIDER, key, f"{field_path}.providers[{number}].name", message)
            for number, override in enumerate(said.overrides):
                for at, code, message in _of_override(override):
                    yield warning(code, key, f"{field_path}.overrides[{number}].{at}", message)


def _of_override(said: api.MetricsOverrides) -> Iterator[tuple[str, Code, str]]:
    if not _matched(said.match):
        if said.match is not None and said.match.custom_metric is None:
            message = "gRPC messages are counted by cluster, always with the same labels"
            yield "match.metric", Code.NOT_SUPPORTED, message
        else:
            yield "match.customMetric", Code.NOT_SUPPORTED, "there is no such metric here"
    for name, change in said.tag_overrides.items():
        if labels.is_short(name):
            yield f"tagOverrides.{name}", Code.NOT_SUPPORTED, "labels of that name are taken apart by the proxy's agent"
        for unknown in cel.parse_label(change.value).unknown if change.value else ():
            message = f"Envoy knows no {unknown}: where it is looked at, the label is unknown"
            yield f"tagOverrides.{name}", Code.UNKNOWN_ATTRIBUTE, message
