"""Collectors of spans: Zipkin's and OTLP's HTTP by the rig's servers, OTLP's gRPC by a server of its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.behaviour.servers import Seen
from tests.waiting import until

EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span, whatever brought it; ``parent`` "" is none. ``resource``: what OTLP says of the sender."""

    service: str
    trace: str
    id: str
    parent: str
    kind: str
    name: str
    tags: Mapping[str, str]
    resource: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Collector:
    """OTLP over gRPC; ``exports`` with the metadata that came along."""

    def __init__(self) -> None:
        self.exports: list[tuple[trace_service_pb2.ExportTraceServiceRequest, Mapping[str, str]]] = []
        self._server = grpc.aio.server()

    async def start(self, address: str, port: int) -> None:
        """Serve."""
        method = grpc.unary_unary_rpc_method_handler(
            self._export,
            trace_service_pb2.ExportTraceServiceRequest.FromString,
            trace_service_pb2.ExportTraceServiceResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(EXPORT, {"Export": method}),))
        assert self._server.add_insecure_port(f"{address}:{port}") == port
        await self._server.start()

    async def stop(self) -> None:
        """End."""
        await self._server.stop(None)

    async def _export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any) -> Any:
        said = {str(key): str(value) for key, value in context.invocation_metadata()}
        self.exports.append((request, said))
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        """All that came."""
        return [span for request, _ in self.exports for span in of_otlp(request)]


def of_zipkin(seen: Seen) -> Iterator[Span]:
    """The spans of a request to a Zipkin collector."""
    for one in json.loads(seen.body):
        yield Span(
            service=one["localEndpoint"]["serviceName"],
            trace=one["traceId"],
            id=one["id"],
            parent=one.get("parentId", ""),
            kind=one.get("kind", ""),
            name=one["name"],
            tags=one.get("tags", {}),
        )


def of_otlp_http(seen: Seen) -> Iterator[Span]:
    """The spans of a request to a collector of OTLP over HTTP."""
    yield from of_otlp(trace_service_pb2.ExportTraceServiceRequest.FromString(seen.body))


def of_otlp(request: trace_service_pb2.ExportTraceServiceRequest) -> Iterator[Span]:
    """The spans of a request to a collector of OTLP."""
    for resource in request.resource_spans:
        about = _attributes(resource.resource.attributes)
        for one in (span for library in resource.instrumentation_library_spans for span in library.spans):
            yield Span(
                service=about.get("service.name", ""),
                trace=one.trace_id.hex(),
                id=one.span_id.hex(),
                parent=one.parent_span_id.hex(),
                kind=trace_pb2.Span.SpanKind.Name(one.kind).removeprefix("SPAN_KIND_"),
                name=one.name,
                tags=_attributes(one.attributes),
                resource=about,
            )


def _attributes(pairs: Any) -> dict[str, str]:
    found = {}
    for pair in pairs:
        (value,) = json_format.MessageToDict(pair.value).values()
        found[pair.key] = str(value)
    return found


async def arrived(spans: Callable[[], list[Span]], count: int) -> list[Span]:
    """So many spans, once they are there."""
    await until(lambda: len(spans()) >= count, f"{count} spans", 20)
    return spans()
