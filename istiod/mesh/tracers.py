"""Where spans go: the extension providers of the mesh configuration that take them (features rows Q7, R4).

Source: Istio's tracing.go. Who is traced, and how often, is tracing.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import Final

from crds import extension_provider
from crds import tracing_provider as api
from crds.span_tags import HEADER
from istiod.mesh import provider_services
from istiod.mesh.registry import Registry

PATIENCE: Final = timedelta(seconds=5)
"""How long a collector may take; Istio's default for Zipkin, for Envoy has none."""
_SPANS: Final = "/api/v2/spans"
_SAMPLING: Final = "api/v2/samplingConfiguration"
_GONE: Final = ("lightstep", "opencensus", "stackdriver")
"""Providers whose tracers Envoy had once."""


class Kind(Enum):
    """What a collector speaks."""

    ZIPKIN = "zipkin"
    DATADOG = "datadog"
    SKYWALKING = "skywalking"
    OTLP_HTTP = "opentelemetry over HTTP"
    OTLP_GRPC = "opentelemetry over gRPC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A service that is sent something, with how; ``host`` and ``cluster`` are known once the service is found."""

    service: str
    port: int
    path: str = ""
    timeout: timedelta | None = None
    headers: tuple[tuple[str, str], ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    """Headers whose values stand in variables of istiod, with these; () once they are known."""
    host: str = ""
    namespace: str = ""
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Dynatrace's sampler; ``api`` is where it asks how much it may send."""

    tenant: str
    cluster_id: int
    root_spans_per_minute: int
    api: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracer:
    """A provider. ``most`` 0 leaves the length of paths in tags to others; ``problem``: why nothing can be sent."""

    name: str
    kind: Kind
    at: Endpoint
    most: int = 0
    short_ids: bool = False
    """Trace ids of 64 bits."""
    w3c: bool = False
    """Zipkin: besides B3 headers, traceparent is read and written."""
    token: str = ""
    dynatrace: bool = False
    """What Dynatrace's files say of the sender is told."""
    sampler: Sampler | None = None
    problem: str = ""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All that it needs clusters for."""
        return (self.at,) if self.sampler is None else (self.at, self.sampler.api)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracers:
    """The providers by name, resolved, and the name of the mesh's own ("": there is none)."""

    by_name: Mapping[str, Tracer] = field(default_factory=dict)
    default: str = ""

    def of(self, name: str) -> Tracer:
        """A provider by name, which may be one with a problem."""
        problem = f"the mesh configuration has no provider {name!r} that spans can be sent to"
        none = Endpoint(service="", port=0)
        return self.by_name.get(name) or Tracer(name=name, kind=Kind.ZIPKIN, at=none, problem=problem)


NOBODY: Final = Tracers()


def read(said: Iterable[extension_provider.ExtensionProvider]) -> tuple[Tracer, ...]:
    """The providers that take spans. Of one name twice, neither can be used."""
    return provider_services.distinct(map(_read, said))


def _read(said: extension_provider.ExtensionProvider) -> Tracer | None:
    if said.zipkin is not None:
        return _zipkin(said.name, said.zipkin)
    if said.opentelemetry is not None:
        return _opentelemetry(said.name, said.opentelemetry)
    if (datadog := said.datadog) is not None:
        at = Endpoint(service=datadog.service, port=datadog.port)
        return _checked(Tracer(name=said.name, kind=Kind.DATADOG, at=at, most=datadog.max_tag_length))
    if (skywalking := said.skywalking) is not None:
        at = Endpoint(service=skywalking.service, port=skywalking.port)
        return _checked(Tracer(name=said.name, kind=Kind.SKYWALKING, at=at, token=skywalking.access_token))
    gone = next((name for name in _GONE if getattr(said, name) is not None), "")
    nowhere = Endpoint(service="", port=0)
    problem = f"Envoy has no tracer {gone} any more: use opentelemetry"
    return Tracer(name=said.name, kind=Kind.OTLP_GRPC, at=nowhere, problem=problem) if gone else None


def _zipkin(name: str, said: api.ZipkinTracingProvider) -> Tracer:
    at = Endpoint(
        service=said.service,
        port=said.port,
        path=said.path or _SPANS,
        timeout=said.timeout,
    )
    found = Tracer(
        name=name,
        kind=Kind.ZIPKIN,
        at=_with_headers(at, said.headers),
        most=said.max_tag_length,
        short_ids=said.enable_64bit_trace_id,
        w3c=said.trace_context_option == "USE_B3_WITH_W3C_PROPAGATION",
    )
    return _checked(found)


def _opentelemetry(name: str, said: api.OpenTelemetryTracingProvider) -> Tracer:
    at = Endpoint(service=said.service, port=said.port)
    if said.http is not None:
        at = _http(at, said.http)
    elif said.grpc is not None:
        at = _with_headers(replace(at, timeout=said.grpc.timeout), said.grpc.initial_metadata)
    detectors = said.resource_detectors
    found = Tracer(
        name=name,
        kind=Kind.OTLP_GRPC if said.http is None else Kind.OTLP_HTTP,
        at=at,
        most=said.max_tag_length,
        dynatrace=detectors is not None and detectors.dynatrace is not None,
    )
    sampler = said.dynatrace_sampler
    if sampler is None:
        return _checked(found)
    if sampler.http_service is None and said.http is None:
        return replace(found, problem="dynatraceSampler needs httpService, or http beside it")
    return _checked(replace(found, sampler=_sampler(sampler, at)))


def _sampler(said: api.DynatraceSampler, beside: Endpoint) -> Sampler:
    own = said.http_service
    asked = replace(beside, path=f"/{_SAMPLING}")
    if own is not None:
        asked = _http(Endpoint(service=own.service, port=own.port), own.http or api.HttpService())
    return Sampler(
        tenant=said.tenant,
        cluster_id=said.cluster_id,
        root_spans_per_minute=said.root_spans_per_minute,
        api=asked,
    )


def _http(at: Endpoint, said: api.HttpService) -> Endpoint:
    path = "/" + said.path.removeprefix("/")
    return _with_headers(replace(at, path=path, timeout=said.timeout), said.headers)


def _with_headers(at: Endpoint, said: Sequence[api.HttpHeader]) -> Endpoint:
    given = tuple((one.name, one.value) for one in said if one.value is not None)
    named = tuple((one.name, one.env_name) for one in said if one.value is None and one.env_name)
    return replace(at, headers=given, variables=named)


def _checked(one: Tracer) -> Tracer:
    return replace(one, problem="; ".join(dict.fromkeys(_problems(one))))


def _problems(one: Tracer) -> Iterator[str]:
    for at in one.endpoints:
        yield from provider_services.problems(at.service, at.port)
        if at.timeout is not None and at.timeout <= timedelta():
            yield "timeout must be more than nothing"
        for name, value in (*at.headers, *((name, "") for name, _ in at.variables)):
            if not HEADER.fullmatch(name) or not value.isprintable():
                yield f"header {name!r} has a name or a value that no header can have"
        if not at.path.isprintable() or " " in at.path:
            yield f"{at.path!r} is no path"


def resolve(said: Iterable[Tracer], default: str, registry: Registry, environment: Mapping[str, str] | None) -> Tracers:
    """The providers, each with its clusters or with what is wrong.

    ``environment``: the variables of istiod; None where they are not known, so that each may have a value.
    """
    found = {one.name: one if one.problem else _resolved(one, registry, environment) for one in said}
    return Tracers(by_name=found, default=default)


def _resolved(one: Tracer, registry: Registry, environment: Mapping[str, str] | None) -> Tracer:
    at, problem = _placed(one.at, registry, environment)
    if one.sampler is None:
        return replace(one, at=at, problem=problem)
    asked, more = _placed(one.sampler.api, registry, environment)
    return replace(one, at=at, sampler=replace(one.sampler, api=asked), problem=problem or more)


def _placed(at: Endpoint, registry: Registry, environment: Mapping[str, str] | None) -> tuple[Endpoint, str]:
    found = provider_services.find(at.service, at.port, registry)
    placed = replace(at, host=found.host, namespace=found.namespace, cluster=found.cluster)
    values = [
        (name, variable, f"${{{variable}}}" if environment is None else environment.get(variable, ""))
        for name, variable in at.variables
    ]
    unusable = (
        f"istiod has no variable {variable} with a value that header {name!r} can have"
        for name, variable, value in values
        if not value or not value.isprintable()
    )
    headers = (*at.headers, *((name, value) for name, _, value in values))
    return replace(placed, headers=headers, variables=()), found.problem or next(unusable, "")
