"""Loggers that send to a service by gRPC: Envoy's access-log service, and OpenTelemetry's (features row Q7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import config_source_pb2, extension_pb2, grpc_service_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.access_loggers.open_telemetry.v3 import logs_service_pb2

from istiod.envoy import wellknown
from istiod.mesh.loggers import Kind, Logger

_NAMES: Final = {Kind.HTTP: "http_envoy_accesslog", Kind.TCP: "tcp_envoy_accesslog", Kind.OTLP: "otel_envoy_accesslog"}
"""What a log is called of which nobody says it (Istio's names)."""


def envoys(to: Logger) -> accesslog_pb2.AccessLog:
    """The logger of a provider that speaks Envoy's own protocol."""
    common = _common(to)
    if to.kind is Kind.TCP:
        tcp = als_pb2.TcpGrpcAccessLogConfig(common_config=common)
        return accesslog_pb2.AccessLog(name="envoy.access_loggers.tcp_grpc", typed_config=wellknown.packed(tcp))
    http = als_pb2.HttpGrpcAccessLogConfig(
        common_config=common,
        additional_request_headers_to_log=to.request_headers,
        additional_response_headers_to_log=to.response_headers,
        additional_response_trailers_to_log=to.response_trailers,
    )
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.http_grpc", typed_config=wellknown.packed(http))


def otlp(
    to: Logger, body: str, labels: Mapping[str, str], formatters: Iterable[extension_pb2.TypedExtensionConfig]
) -> accesslog_pb2.AccessLog:
    """The logger of a provider that speaks OTLP: ``body`` and the values of ``labels`` are formats."""
    made = logs_service_pb2.OpenTelemetryAccessLogConfig(
        common_config=_common(to), disable_builtin_labels=True, formatters=formatters
    )
    made.body.string_value = body
    for key in sorted(labels):
        made.attributes.values.add(key=key).value.string_value = labels[key]
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.open_telemetry", typed_config=wellknown.packed(made))


def _common(to: Logger) -> als_pb2.CommonGrpcAccessLogConfig:
    return als_pb2.CommonGrpcAccessLogConfig(
        log_name=to.log_name or _NAMES[to.kind],
        grpc_service=grpc_service_pb2.GrpcService(
            envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=to.cluster, authority=to.host)
        ),
        transport_api_version=config_source_pb2.V3,
        filter_state_objects_to_log=to.filter_state,
    )
