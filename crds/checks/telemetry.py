"""Telemetry: whom it is for, and values that Istio's own validation refuses (features rows Q3-Q6).

Source: Istio's validation.ValidateTelemetry. Whether a provider is there is istiod.mesh's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from crds import path
from crds.checks import cel, target_reference, values
from crds.checks.findings import Findings
from crds.telemetry import Metrics, MetricsOverrides, ProviderRef, TagOverride, Telemetry, Tracing
from crds.tracing_provider import CustomTag

_WHOLE: Final = 100.0
_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
"""What Envoy can make a label of; it writes ``_`` for dots and hyphens, which Prometheus does not have."""
_LEAST: Final = timedelta(milliseconds=1)


def check(item: Telemetry, found: Findings) -> None:
    """Everything that one Telemetry can be wrong about."""
    spec = item.spec
    target_reference.check(found, spec.selector, spec.target_ref, spec.target_refs)
    for field, providers in _providers(item):
        for index, one in enumerate(providers):
            if not one.name:
                found.missing(f"{field}.providers[{index}].name")
    for index, tracing in enumerate(spec.tracing):
        _tracing(found, f"spec.tracing[{index}]", tracing)
    for index, logging in enumerate(spec.access_logging):
        if logging.filter is not None and logging.filter.expression:
            found.check(f"spec.accessLogging[{index}].filter.expression", cel.problem(logging.filter.expression))
    for index, metrics in enumerate(spec.metrics):
        _metrics(found, f"spec.metrics[{index}]", metrics)


def _providers(item: Telemetry) -> Iterator[tuple[str, tuple[ProviderRef, ...]]]:
    spec = item.spec
    yield from ((f"spec.tracing[{index}]", one.providers) for index, one in enumerate(spec.tracing))
    yield from ((f"spec.metrics[{index}]", one.providers) for index, one in enumerate(spec.metrics))
    yield from ((f"spec.accessLogging[{index}]", one.providers) for index, one in enumerate(spec.access_logging))


def _tracing(found: Findings, field: str, said: Tracing) -> None:
    if len(said.providers) > 1:
        found.warning(f"{field}.providers", "spans go to the first one only, as on Istio")
    percent = said.random_sampling_percentage
    if percent is not None and not 0 <= percent <= _WHOLE:
        found.error(f"{field}.randomSamplingPercentage", "must be between 0 and 100")
    for name, tag in said.custom_tags.items():
        _custom(found, path.child(f"{field}.customTags", name), name, tag)


def _custom(found: Findings, field: str, name: str, tag: CustomTag) -> None:
    """What Istio's definition refuses; a tag that only Envoy would refuse is left out where spans are made."""
    if not name:
        found.error(field, "a tag has no name")
    sources = {"literal": tag.literal, "environment": tag.environment, "header": tag.header, "formatter": tag.formatter}
    given = [source for source, said in sources.items() if said is not None]
    if len(given) > 1:
        found.error(field, f"only one of {', '.join(given)} may be given")
    for source, fixed in (("literal", tag.literal), ("formatter", tag.formatter)):
        if fixed is not None and not fixed.value:
            found.missing(f"{field}.{source}.value")
    for source, lookup in (("environment", tag.environment), ("header", tag.header)):
        if lookup is not None and not lookup.name:
            found.missing(f"{field}.{source}.name")


def _metrics(found: Findings, field: str, said: Metrics) -> None:
    found.check(f"{field}.reportingInterval", values.duration(said.reporting_interval, _LEAST))
    for index, override in enumerate(said.overrides):
        _override(found, f"{field}.overrides[{index}]", override)


def _override(found: Findings, field: str, said: MetricsOverrides) -> None:
    match = said.match
    if match is not None and match.custom_metric is not None:
        if match.metric is not None:
            found.error(f"{field}.match", "only one of metric and customMetric can be set")
        if not match.custom_metric:
            found.missing(f"{field}.match.customMetric")
    _tags(found, f"{field}.tagOverrides", said.tag_overrides)


def _tags(found: Findings, field: str, said: Mapping[str, TagOverride]) -> None:
    for name, tag in said.items():
        place = path.child(field, name)
        found.check(place, None if _LABEL.match(name) else f"{name!r} is no name of a label")
        if tag.operation == "UPSERT" and not tag.value:
            found.missing(f"{place}.value")
        elif tag.operation == "UPSERT":
            found.check(f"{place}.value", cel.problem(tag.value, cel.parse_label))
        if tag.operation == "REMOVE" and tag.value:
            found.error(f"{place}.value", "must be empty where the tag is removed")
