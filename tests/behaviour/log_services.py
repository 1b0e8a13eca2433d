"""Who takes access logs by gRPC: Envoy's access-log service and OpenTelemetry's, by one server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from envoy.service.accesslog.v3 import als_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

ALS = "envoy.service.accesslog.v3.AccessLogService"
OTLP = "opentelemetry.proto.collector.logs.v1.LogsService"


class LogService:
    """``messages``: Envoy's, each with the log's name that its stream began with; ``exports``: OpenTelemetry's."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, als_pb2.StreamAccessLogsMessage]] = []
        self.exports: list[logs_service_pb2.ExportLogsServiceRequest] = []
        self._server = grpc.aio.server()

    async def start(self, address: str, port: int) -> None:
        """Serve."""
        stream = grpc.stream_unary_rpc_method_handler(
            self._stream,
            als_pb2.StreamAccessLogsMessage.FromString,
            als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        export = grpc.unary_unary_rpc_method_handler(
            self._export,
            logs_service_pb2.ExportLogsServiceRequest.FromString,
            logs_service_pb2.ExportLogsServiceResponse.SerializeToString,
        )
        handlers = (
            grpc.method_handlers_generic_handler(ALS, {"StreamAccessLogs": stream}),
            grpc.method_handlers_generic_handler(OTLP, {"Export": export}),
        )
        self._server.add_generic_rpc_handlers(handlers)
        assert self._server.add_insecure_port(f"{address}:{port}") == port
        await self._server.start()

    async def stop(self) -> None:
        """End."""
        await self._server.stop(None)

    def forget(self) -> None:
        """Begin anew."""
        self.messages.clear()
        self.exports.clear()

    def requests(self, log: str) -> list[Any]:
        """Entries of requests in Envoy's log of a name."""
        return [entry for name, one in self.messages if name == log for entry in one.http_logs.log_entry]

    def connections(self, log: str) -> list[Any]:
        """Entries of connections."""
        return [entry for name, one in self.messages if name == log for entry in one.tcp_logs.log_entry]

    def records(self) -> list[tuple[str, Any]]:
        """OpenTelemetry's records, each with the name of its log."""
        return [
            (_said(one.resource.attributes).get("log_name", ""), record)
            for export in self.exports
            for one in export.resource_logs
            for scope in one.instrumentation_library_logs
            for record in scope.logs
        ]

    async def _stream(self, messages: AsyncIterator[als_pb2.StreamAccessLogsMessage], _: Any) -> Any:
        name = ""
        async for message in messages:
            name = message.identifier.log_name or name
            self.messages.append((name, message))
        return als_pb2.StreamAccessLogsResponse()

    async def _export(self, request: logs_service_pb2.ExportLogsServiceRequest, _: Any) -> Any:
        self.exports.append(request)
        return logs_service_pb2.ExportLogsServiceResponse()


def attributes(record: Any) -> dict[str, str]:
    """The attributes of a record, all of them texts."""
    return _said(record.attributes)


def _said(pairs: Any) -> dict[str, str]:
    return {str(pair.key): str(pair.value.string_value) for pair in pairs}
