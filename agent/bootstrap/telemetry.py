"""Collectors that ProxyConfig names: tracing (Zipkin, Datadog), metrics service, access-log service, statsd (S70)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.bootstrap import clusters
from wire import names

_ZIPKIN: Final = names.TYPE_PREFIX + "envoy.config.trace.v3.ZipkinConfig"
_DATADOG: Final = names.TYPE_PREFIX + "envoy.config.trace.v3.DatadogConfig"
_METRICS: Final = names.TYPE_PREFIX + "envoy.config.metrics.v3.MetricsServiceConfig"
_STATSD: Final = names.TYPE_PREFIX + "envoy.config.metrics.v3.StatsdSink"
_METRICS_CLUSTER: Final = "envoy_metrics_service"
_LOG_CLUSTER: Final = "envoy_accesslog_service"


def collectors(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The clusters of everything below.

    Raises:
        InputError: an address is not HOST:PORT.
    """
    found = []
    tracing = config.get("tracing") or {}
    if _address(tracing, "zipkin"):
        zipkin = clusters.external("zipkin", _address(tracing, "zipkin"), tracing)
        found.append(zipkin | {"dns_refresh_rate": "30s"})
    if _address(tracing, "datadog"):
        found.append(clusters.external("datadog_agent", _address(tracing, "datadog"), tracing))
    for key, name in (("envoyMetricsService", _METRICS_CLUSTER), ("envoyAccessLogService", _LOG_CLUSTER)):
        if _address(config, key):
            found.append(clusters.grpc(name, _address(config, key), config[key]))
    return found


def tracing(config: Mapping[str, Any], service: str) -> dict[str, Any]:
    """The bootstrap's ``tracing`` as ``{"tracing": ...}``, or nothing; ``service`` is how Datadog shows the proxy."""
    wanted = config.get("tracing") or {}
    if _address(wanted, "zipkin"):
        settings = {
            "@type": _ZIPKIN,
            "collector_cluster": "zipkin",
            "collector_endpoint": "/api/v2/spans",
            "collector_endpoint_version": "HTTP_JSON",
            "trace_id_128bit": True,
            "shared_span_context": False,
        }
        return {"tracing": {"http": {"name": "envoy.tracers.zipkin", "typed_config": settings}}}
    if _address(wanted, "datadog"):
        settings = {"@type": _DATADOG, "collector_cluster": "datadog_agent", "service_name": service}
        return {"tracing": {"http": {"name": "envoy.tracers.datadog", "typed_config": settings}}}
    return {}


def sinks(config: Mapping[str, Any]) -> dict[str, Any]:
    """The bootstrap's ``stats_sinks``, or nothing.

    Raises:
        InputError: statsdUdpAddress is not HOST:PORT.
    """
    found: list[dict[str, Any]] = []
    if _address(config, "envoyMetricsService"):
        service = {"envoy_grpc": {"cluster_name": _METRICS_CLUSTER}}
        settings = {"@type": _METRICS, "transport_api_version": "V3", "grpc_service": service}
        found.append({"name": "envoy.stat_sinks.metrics_service", "typed_config": settings})
    if config.get("statsdUdpAddress"):
        settings = {"@type": _STATSD, "address": clusters.socket(str(config["statsdUdpAddress"]))}
        found.append({"name": "envoy.stat_sinks.statsd", "typed_config": settings})
    return {"stats_sinks": found} if found else {}


def unsupported(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What ProxyConfig asks for and stock Envoy does not have, as field paths (docs/limits.md)."""
    wanted = config.get("tracing") or {}
    found = [f"tracing.{tracer}" for tracer in ("lightstep", "stackdriver", "openCensusAgent") if tracer in wanted]
    found += ["privateKeyProvider"] if config.get("privateKeyProvider") else []
    return tuple(found)


def _address(config: Mapping[str, Any], key: str) -> str:
    return str((config.get(key) or {}).get("address") or "")
