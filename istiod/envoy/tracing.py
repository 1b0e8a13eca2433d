"""Tracing of HTTP connection managers: the tracer, how much is sampled, and the tags of spans (features rows Q5-Q9).

What of a proxy stands in Istio's tags are variables that its agent sets (``wire.telemetry``), and so is the name that
OpenTelemetry and Datadog show it by: all proxies share the bytes (decision 25). Zipkin and SkyWalking take that name
from Envoy's node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from envoy.config.core.v3 import base_pb2, extension_pb2, grpc_service_pb2, http_service_pb2, http_uri_pb2
from envoy.config.trace.v3 import datadog_pb2, http_tracer_pb2, opentelemetry_pb2, skywalking_pb2, zipkin_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from envoy.extensions.tracers.opentelemetry.resource_detectors.v3 import (
    dynatrace_resource_detector_pb2,
    environment_resource_detector_pb2,
)
from envoy.extensions.tracers.opentelemetry.samplers.v3 import dynatrace_sampler_pb2
from envoy.type.metadata.v3 import metadata_pb2
from envoy.type.tracing.v3 import custom_tag_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from crds.span_tags import Source, Tag
from istiod.envoy import wellknown
from istiod.mesh import tracing
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.scope import Direction
from istiod.mesh.settings import MeshSettings
from istiod.mesh.tracers import PATIENCE, Endpoint, Kind, Tracer
from istiod.mesh.tracing import ProxyTracing, Side
from wire import telemetry

_Manager = hcm_pb2.HttpConnectionManager
_Tag = custom_tag_pb2.CustomTag
_WHOLE: Final = 100.0
_NO_PROPAGATION: Final = b"\x68\x01"
"""``no_context_propagation: true`` of HttpConnectionManager.Tracing, which xds-protos does not know yet (field 13)."""
_RBAC: Final = "envoy.filters.http.rbac"


def apply(
    manager: hcm_pb2.HttpConnectionManager, direction: Direction, settings: MeshSettings, own: NodeSettings
) -> None:
    """Trace the requests of a connection manager as the mesh, its proxy and Telemetry say."""
    said = tracing.joined(settings.tracing, own.tracing)
    side = side_of(own, direction)
    if side is None:
        if settings.enable_tracing:
            manager.tracing.CopyFrom(_of_proxy(said, settings))
        return
    if side.tracer is None:
        return
    found = _sampled(_sampling(side, said, settings))
    found.custom_tags.extend(_tags(said.tags if side.tags is None else side.tags, settings, istio=side.istio_tags))
    found.provider.CopyFrom(_provider(side.tracer))
    if most := side.tracer.most or said.most:
        found.max_path_tag_length.value = most
    if direction is Direction.GATEWAY or side.tracer.kind is Kind.SKYWALKING:  # as on Istio
        found.spawn_upstream_span.value = True
    if not side.propagate:
        found.MergeFromString(_NO_PROPAGATION)
    manager.tracing.CopyFrom(found)
    if not side.by_request_id:
        manager.request_id_extension.typed_config.CopyFrom(_NOT_BY_ID)


def side_of(own: NodeSettings, direction: Direction) -> Side | None:
    """What Telemetry says of requests of a direction; None where it says nothing."""
    if own.traced is None:
        return None
    return own.traced.server if direction is Direction.INBOUND else own.traced.client


def clusters(own: NodeSettings, direction: Direction) -> tuple[str, ...]:
    """The clusters that a listener's tracer sends to."""
    side = side_of(own, direction)
    return () if side is None or side.tracer is None else tuple(at.cluster for at in side.tracer.endpoints)


_NOT_BY_ID: Final = wellknown.packed(
    uuid_pb2.UuidRequestIdConfig(use_request_id_for_trace_sampling=wellknown.boolean(value=False))
)


def _of_proxy(said: ProxyTracing, settings: MeshSettings) -> hcm_pb2.HttpConnectionManager.Tracing:
    """For the tracer of the proxy's bootstrap, if it has one; without it Envoy notes the decision in the request's id.

    Where nobody says anything, tags would only be bytes.
    """
    found = _sampled(settings.features.trace_sampling if said.sampling is None else said.sampling)
    if said != tracing.NOTHING:
        found.custom_tags.extend(_tags(said.tags, settings, istio=said.istio_tags is not False))
    if said.most:
        found.max_path_tag_length.value = said.most
    return found


def _sampled(percent: float) -> hcm_pb2.HttpConnectionManager.Tracing:
    whole = percent_pb2.Percent(value=_WHOLE)
    return _Manager.Tracing(
        client_sampling=whole, random_sampling=percent_pb2.Percent(value=percent), overall_sampling=whole
    )


def _sampling(side: Side, said: ProxyTracing, settings: MeshSettings) -> float:
    """Percent; a sampler of the provider sees everything and decides itself."""
    if side.tracer is not None and side.tracer.sampler is not None:
        return _WHOLE
    if side.sampling is not None:
        return side.sampling
    return settings.features.trace_sampling if said.sampling is None else said.sampling


# --- tags


def _tags(more: Iterable[Tag], settings: MeshSettings, *, istio: bool) -> list[custom_tag_pb2.CustomTag]:
    found = [*(_of_istio(ruled=settings.features.log_rules) if istio else ()), *map(_custom, more)]
    return sorted(found, key=lambda tag: tag.tag)


@cache
def _of_istio(*, ruled: bool) -> tuple[custom_tag_pb2.CustomTag, ...]:
    return (
        *(_from_environment(name, telemetry.variable(part)) for name, part in telemetry.TAGS.items()),
        *(_tried(action, part) for action in ("allow", "deny") for part in _TRIED),
        *(_of_rule(key) for key in (("config", "field") if ruled else ())),
    )


_TRIED: Final = {"name": "effective_policy_id", "result": "engine_result"}


def _from_environment(name: str, variable: str) -> custom_tag_pb2.CustomTag:
    return _Tag(tag=name, environment=_Tag.Environment(name=variable, default_value=telemetry.UNKNOWN))


def _tried(action: str, part: str) -> custom_tag_pb2.CustomTag:
    """What policies on trial would have done; there is no tag where none is."""
    key = metadata_pb2.MetadataKey(
        key=_RBAC, path=[metadata_pb2.MetadataKey.PathSegment(key=f"istio_dry_run_{action}_shadow_{_TRIED[part]}")]
    )
    kind = metadata_pb2.MetadataKind(request=metadata_pb2.MetadataKind.Request())
    return _Tag(
        tag=f"istio.authorization.dry_run.{action}_policy.{part}",
        metadata=_Tag.Metadata(kind=kind, metadata_key=key),
    )


def _of_rule(key: str) -> custom_tag_pb2.CustomTag:
    """The object and field that routed the request, as access logs say them (row Z3)."""
    where = metadata_pb2.MetadataKey(key=wellknown.ISTIO, path=[metadata_pb2.MetadataKey.PathSegment(key=key)])
    kind = metadata_pb2.MetadataKind(route=metadata_pb2.MetadataKind.Route())
    return _Tag(tag=f"istio.{key}", metadata=_Tag.Metadata(kind=kind, metadata_key=where))


def _custom(tag: Tag) -> custom_tag_pb2.CustomTag:
    if tag.source is Source.LITERAL:
        return _Tag(tag=tag.name, literal=_Tag.Literal(value=tag.value))
    if tag.source is Source.FORMATTER:
        return _Tag(tag=tag.name, value=tag.value)
    if tag.source is Source.HEADER:
        return _Tag(tag=tag.name, request_header=_Tag.Header(name=tag.value, default_value=tag.default))
    return _Tag(tag=tag.name, environment=_Tag.Environment(name=tag.value, default_value=tag.default))


# --- tracers


@cache
def _provider(tracer: Tracer) -> http_tracer_pb2.Tracing.Http:
    name, make = _KINDS[tracer.kind]
    return http_tracer_pb2.Tracing.Http(name=f"envoy.tracers.{name}", typed_config=wellknown.packed(make(tracer)))


def _zipkin(tracer: Tracer) -> Message:
    options = zipkin_pb2.ZipkinConfig
    return options(
        collector_endpoint_version=options.HTTP_JSON,
        trace_id_128bit=not tracer.short_ids,
        shared_span_context=wellknown.boolean(value=False),
        trace_context_option=options.USE_B3_WITH_W3C_PROPAGATION if tracer.w3c else options.USE_B3,
        collector_service=_http(tracer.at),
    )


def _datadog(tracer: Tracer) -> Message:
    """Its service name has to be there; the agent's variable says what it really is."""
    return datadog_pb2.DatadogConfig(
        collector_cluster=tracer.at.cluster, collector_hostname=tracer.at.host, service_name=telemetry.PROXY
    )


def _skywalking(tracer: Tracer) -> Message:
    found = skywalking_pb2.SkyWalkingConfig(grpc_service=_grpc(tracer.at))
    if tracer.token:
        found.client_config.backend_token = tracer.token
    return found


def _opentelemetry(tracer: Tracer) -> Message:
    detectors = [_ENVIRONMENT, *((_DYNATRACE,) if tracer.dynatrace else ())]
    found = opentelemetry_pb2.OpenTelemetryConfig(resource_detectors=detectors)
    if tracer.kind is Kind.OTLP_HTTP:
        found.http_service.CopyFrom(_http(tracer.at))
    else:
        found.grpc_service.CopyFrom(_grpc(tracer.at))
    if (sampler := tracer.sampler) is not None:
        config = dynatrace_sampler_pb2.DynatraceSamplerConfig(
            tenant=sampler.tenant,
            cluster_id=sampler.cluster_id,
            root_spans_per_minute=sampler.root_spans_per_minute,
            http_service=_http(sampler.api),
        )
        found.sampler.name = "envoy.tracers.opentelemetry.samplers.dynatrace"
        found.sampler.typed_config.CopyFrom(wellknown.packed(config))
    return found


def _extension(kind: str, config: Message) -> extension_pb2.TypedExtensionConfig:
    typed: any_pb2.Any = wellknown.packed(config)
    name = f"envoy.tracers.opentelemetry.resource_detectors.{kind}"
    return extension_pb2.TypedExtensionConfig(name=name, typed_config=typed)


_ENVIRONMENT: Final = _extension("environment", environment_resource_detector_pb2.EnvironmentResourceDetectorConfig())
_DYNATRACE: Final = _extension("dynatrace", dynatrace_resource_detector_pb2.DynatraceResourceDetectorConfig())
_KINDS: Final = {
    Kind.ZIPKIN: ("zipkin", _zipkin),
    Kind.DATADOG: ("datadog", _datadog),
    Kind.SKYWALKING: ("skywalking", _skywalking),
    Kind.OTLP_HTTP: ("opentelemetry", _opentelemetry),
    Kind.OTLP_GRPC: ("opentelemetry", _opentelemetry),
}


def _http(at: Endpoint) -> http_service_pb2.HttpService:
    return http_service_pb2.HttpService(
        http_uri=http_uri_pb2.HttpUri(
            uri=f"http://{at.host}{at.path}",
            cluster=at.cluster,
            timeout=wellknown.duration(PATIENCE if at.timeout is None else at.timeout),
        ),
        request_headers_to_add=list(_added(at)),
    )


def _added(at: Endpoint) -> Iterator[base_pb2.HeaderValueOption]:
    replacing = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    for name, value in at.headers:
        header = base_pb2.HeaderValue(key=name, value=value)
        yield base_pb2.HeaderValueOption(header=header, append_action=replacing)


def _grpc(at: Endpoint) -> grpc_service_pb2.GrpcService:
    found = grpc_service_pb2.GrpcService(
        envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=at.cluster, authority=at.host),
        initial_metadata=[base_pb2.HeaderValue(key=name, value=value) for name, value in at.headers],
    )
    if at.timeout is not None:
        found.timeout.CopyFrom(wellknown.duration(at.timeout))
    return found
