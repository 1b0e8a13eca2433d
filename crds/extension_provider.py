"""Extension providers of MeshConfig (features row R4): who decides for CUSTOM policies, and by name all others.

Those that spans are sent to are tracing_provider.py's, those of access logs log_provider.py's.

Source: istio.mesh.v1alpha1 config.proto, MeshConfig.ExtensionProvider.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from crds.duration import Duration
from crds.log_provider import (
    EnvoyFileAccessLogProvider,
    EnvoyHttpGrpcV3LogProvider,
    EnvoyOpenTelemetryLogProvider,
    EnvoyTcpGrpcV3LogProvider,
)
from crds.meta import Bool, Model, Tree, UInt32
from crds.tracing_provider import (
    DatadogTracingProvider,
    OpenTelemetryTracingProvider,
    SkyWalkingTracingProvider,
    ZipkinTracingProvider,
)


class RequestBody(Model):
    """How much of a request's body the provider gets."""

    max_request_bytes: UInt32 = 0
    allow_partial_message: Bool = False
    pack_as_bytes: Bool = False


class EnvoyExternalAuthorization(Model):
    """What providers of both protocols have; this is all of one that speaks gRPC."""

    service: str = ""
    port: UInt32 = 0
    timeout: Duration | None = None
    fail_open: Bool = False
    clear_route_cache: Bool = False
    status_on_error: str = ""
    include_request_body_in_check: RequestBody | None = None


class EnvoyExternalAuthorizationHttpProvider(EnvoyExternalAuthorization):
    """A provider that speaks HTTP. ``include_headers_in_check`` is the deprecated spelling."""

    path_prefix: str = ""
    include_headers_in_check: tuple[str, ...] = ()
    include_request_headers_in_check: tuple[str, ...] = ()
    include_additional_headers_in_check: Mapping[str, str] = Field(default_factory=dict)
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()


class ExtensionProvider(Model):
    """One provider of tracing, metrics, logs or authorization, by name (R4)."""

    name: str = ""
    envoy_ext_authz_http: EnvoyExternalAuthorizationHttpProvider | None = None
    envoy_ext_authz_grpc: EnvoyExternalAuthorization | None = None
    zipkin: ZipkinTracingProvider | None = None
    lightstep: Tree | None = None
    datadog: DatadogTracingProvider | None = None
    stackdriver: Tree | None = None
    opencensus: Tree | None = None
    skywalking: SkyWalkingTracingProvider | None = None
    opentelemetry: OpenTelemetryTracingProvider | None = None
    prometheus: Tree | None = None
    envoy_file_access_log: EnvoyFileAccessLogProvider | None = None
    envoy_http_als: EnvoyHttpGrpcV3LogProvider | None = None
    envoy_tcp_als: EnvoyTcpGrpcV3LogProvider | None = None
    envoy_otel_als: EnvoyOpenTelemetryLogProvider | None = None
    sds: Tree | None = None
