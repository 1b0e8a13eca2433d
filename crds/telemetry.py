"""Telemetry: what is measured, logged and traced of some workloads (features rows Q3-Q6).

Source: istio.telemetry telemetry.proto, v1 and v1alpha1. A value that is absent is None or empty: what a wider object
says holds then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from crds.duration import Duration
from crds.meta import Bool, Float, Ignored, Model, Object, WorkloadSelector
from crds.target_reference import PolicyTargetReference
from crds.tracing_provider import CustomTags

Mode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
"""Whose side of a call: the caller's, the callee's, both."""


class ProviderRef(Model):
    """An extension provider of the mesh configuration, or a built-in one."""

    name: str = ""


class ModeSelector(Model):
    """Which side of calls something holds for."""

    mode: Mode = "CLIENT_AND_SERVER"


class Tracing(Model):
    """Tracing of one side, or of both. ``random_sampling_percentage`` is of requests that nobody decided about yet."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: Float | None = None
    disable_span_reporting: Bool | None = None
    disable_context_propagation: Bool | None = None
    custom_tags: CustomTags = Field(default_factory=dict)
    use_request_id_for_trace_sampling: Bool | None = None
    enable_istio_tags: Bool | None = None


IstioMetric = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]
"""Istio's own metrics, as a Telemetry names them."""


class MetricSelector(Model):
    """Which metric, of Istio's or by name; neither is all of them."""

    metric: IstioMetric | None = None
    custom_metric: str | None = None
    mode: Mode = "CLIENT_AND_SERVER"


class TagOverride(Model):
    """What happens to a label: it is set to what a CEL expression gives, or it is left out."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str = ""


class MetricsOverrides(Model):
    """What is different for some metrics."""

    match: MetricSelector | None = None
    disabled: Bool | None = None
    tag_overrides: Mapping[str, TagOverride] = Field(default_factory=dict)


class Metrics(Model):
    """Metrics for some providers; of ``overrides`` later ones win."""

    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverrides, ...] = ()
    reporting_interval: Duration | None = None


class AccessLogFilter(Model):
    """Which calls are logged: a CEL expression says it."""

    expression: str = ""


class AccessLogging(Model):
    """Access logs for some providers."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: Bool | None = None
    filter: AccessLogFilter | None = None


class TelemetrySpec(Model):
    """What is measured, logged and traced, and of whom."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()


class Telemetry(Object):
    """telemetry.istio.io Telemetry."""

    spec: TelemetrySpec = TelemetrySpec()
    status: Ignored = None
