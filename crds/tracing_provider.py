"""Extension providers of MeshConfig that spans are sent to (features row Q7), and tags of spans (Q5).

Source: istio.mesh.v1alpha1 config.proto, MeshConfig.ExtensionProvider, and proxy.proto, Tracing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from crds.duration import Duration
from crds.meta import Bool, Int32, Model, Tree, UInt32


class HttpHeader(Model):
    """A header of what is sent to a provider; ``env_name`` names a variable of istiod's own environment."""

    name: str = ""
    value: str | None = None
    env_name: str | None = None


class _Provider(Model):
    """Where a provider is: a host or NAMESPACE/HOST of the registry, and a port of it."""

    service: str = ""
    port: UInt32 = 0


class ZipkinTracingProvider(_Provider):
    """A collector that speaks Zipkin's HTTP, version 2; Jaeger and many others do."""

    max_tag_length: UInt32 = 0
    enable_64bit_trace_id: Bool = Field(default=False, alias="enable64bitTraceId")
    path: str = ""
    trace_context_option: Literal["USE_B3", "USE_B3_WITH_W3C_PROPAGATION"] = "USE_B3"
    timeout: Duration | None = None
    headers: tuple[HttpHeader, ...] = ()


class DatadogTracingProvider(_Provider):
    """Datadog's agent."""

    max_tag_length: UInt32 = 0


class SkyWalkingTracingProvider(_Provider):
    """SkyWalking's collector."""

    access_token: str = ""


class HttpService(Model):
    """How something is sent by HTTP."""

    path: str = ""
    timeout: Duration | None = None
    headers: tuple[HttpHeader, ...] = ()


class GrpcService(Model):
    """How something is sent by gRPC."""

    timeout: Duration | None = None
    initial_metadata: tuple[HttpHeader, ...] = ()


class ResourceDetectors(Model):
    """What else is told of the sender: what its environment or Dynatrace's files say."""

    environment: Tree | None = None
    dynatrace: Tree | None = None


class DynatraceApi(_Provider):
    """Where the sampler asks how much it may send."""

    http: HttpService | None = None


class DynatraceSampler(Model):
    """Samples as much as Dynatrace wants; without ``http_service`` it asks where spans go."""

    tenant: str = ""
    cluster_id: Int32 = 0
    root_spans_per_minute: UInt32 = 0
    http_service: DynatraceApi | None = None


class OpenTelemetryTracingProvider(_Provider):
    """A collector that speaks OTLP: over HTTP where ``http`` is there, else over gRPC."""

    max_tag_length: UInt32 = 0
    http: HttpService | None = None
    grpc: GrpcService | None = None
    resource_detectors: ResourceDetectors | None = None
    dynatrace_sampler: DynatraceSampler | None = None


class Fixed(Model):
    """A fixed text, or a format as in access logs."""

    value: str = ""


class Lookup(Model):
    """A header of the request, or a variable of the proxy's environment."""

    name: str = ""
    default_value: str = ""


class CustomTag(Model):
    """Where the value of a tag comes from: exactly one is set. Istio has ``formatter`` in Telemetry only."""

    literal: Fixed | None = None
    environment: Lookup | None = None
    header: Lookup | None = None
    formatter: Fixed | None = None


CustomTags = Mapping[str, CustomTag]
