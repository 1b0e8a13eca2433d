"""Access logs: Istio's line with the rule behind the request at its end (features rows R4, Z3; decision 23).

The rule is the origin in the route's metadata, so a line says which object and field routed its request; it can be
switched off (``Features.log_rules``). Formats that users set are theirs: they name
``%METADATA(ROUTE:istio:config)%`` themselves if they want it. Where logs go, and which calls, is decided in
``istiod.mesh.access_logs``; services that take them have log_services.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2, extension_pb2, substitution_format_string_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as entries
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.formatter.req_without_query.v3 import req_without_query_pb2
from google.protobuf import json_format, struct_pb2

from istiod.envoy import log_services, wellknown
from istiod.mesh.access_logs import Log
from istiod.mesh.loggers import BUILT_IN, Format, Kind, Logger
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.scope import Direction
from istiod.mesh.settings import AccessLogEncoding, MeshSettings

RULE = "%METADATA(ROUTE:istio:config)%"
"""Prints the object that decided, such as ``/apis/networking.istio.io/v1/namespaces/default/virtual-service/x``."""
RULE_FIELD = "%METADATA(ROUTE:istio:field)%"
"""Prints the field of that object, such as ``spec.http[0]``."""

TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
"""Istio's default line."""
RULED_TEXT = TEXT.replace("\n", f" {RULE} {RULE_FIELD}\n")
"""The same, then the rule."""

JSON = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""Istio's default JSON fields."""
RULED_JSON = {**JSON, "rule": RULE, "rule_field": RULE_FIELD}
"""The same, and the rule."""

_FORMATTERS = (("%REQ_WITHOUT_QUERY(", "envoy.formatter.req_without_query", req_without_query_pb2.ReqWithoutQuery),)
_NO_ROUTE = accesslog_pb2.AccessLogFilter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=["NR"]))

_ENDED = accesslog_pb2.AccessLogFilter(
    log_type_filter=accesslog_pb2.LogTypeFilter(types=[entries.TcpUpstreamConnected], exclude=True)
)


Logs = tuple[Log, ...] | None


def side(own: NodeSettings, direction: Direction) -> Logs:
    """What Telemetry says of the logs of one side; None where nobody says anything."""
    if own.logs is None:
        return None
    return own.logs.server if direction is Direction.INBOUND else own.logs.client


def requests(settings: MeshSettings, logs: Logs = None) -> tuple[accesslog_pb2.AccessLog, ...]:
    """Loggers of an HTTP connection manager; the mesh's log file, if there is one, where ``logs`` is None."""
    return tuple(_made(settings, logs, None))


def connections(settings: MeshSettings, logs: Logs = None) -> tuple[accesslog_pb2.AccessLog, ...]:
    """Loggers of a TCP proxy: a line when a connection ends, none when it has only begun (metrics count that)."""
    return tuple(_made(settings, logs, _ENDED))


def unrouted(settings: MeshSettings, logs: Logs = None) -> tuple[accesslog_pb2.AccessLog, ...]:
    """Loggers of a listener: connections that no filter chain took, which else nobody would see."""
    return tuple(_made(settings, logs, _NO_ROUTE)) if settings.listener_log else ()


def _made(
    settings: MeshSettings, logs: Logs, wanted: accesslog_pb2.AccessLogFilter | None
) -> Iterator[accesslog_pb2.AccessLog]:
    if logs is None:
        logs = _of_file(settings.access_log_file)
    for log in logs:
        made = _logger(log.to, _look(settings))
        yield accesslog_pb2.AccessLog(
            name=made.name, filter=_both(wanted, log.expression), typed_config=made.typed_config
        )


def _of_file(path: str) -> tuple[Log, ...]:
    return (Log(to=Logger(name=BUILT_IN, path=path, format=Format(of_mesh=True))),) if path else ()


def _both(wanted: accesslog_pb2.AccessLogFilter | None, expression: str) -> accesslog_pb2.AccessLogFilter | None:
    if not expression:
        return wanted
    said = accesslog_pb2.AccessLogFilter(
        extension_filter=accesslog_pb2.ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=wellknown.packed(cel_pb2.ExpressionFilter(expression=expression)),
        )
    )
    if wanted is None:
        return said
    return accesslog_pb2.AccessLogFilter(and_filter=accesslog_pb2.AndFilter(filters=[wanted, said]))


@dataclass(frozen=True, slots=True)
class _Look:
    """How lines of the mesh's file look. ``ruled``: the default formats say the rule."""

    text: str
    encoding: AccessLogEncoding
    ruled: bool


def _look(settings: MeshSettings) -> _Look:
    return _Look(settings.access_log_format, settings.access_log_encoding, settings.features.log_rules)


@lru_cache(maxsize=64)
def _logger(to: Logger, look: _Look) -> accesslog_pb2.AccessLog:
    if to.kind is Kind.OTLP:
        body = to.format.text or (RULED_TEXT if look.ruled else TEXT)
        labels = json.loads(to.format.fields) if to.format.fields else {}
        return log_services.otlp(to, body, labels, _formatters(body + to.format.fields))
    if to.kind is not Kind.FILE:
        return log_services.envoys(to)
    said = to.format
    if said.of_mesh:
        said = replace(said, text=look.text, json=look.encoding is AccessLogEncoding.JSON, fields="")
        said = replace(said, fields=look.text) if said.json else said
    form = _json(said.fields, ruled=look.ruled) if said.json else _text(said.text, ruled=look.ruled)
    form.omit_empty_values = said.omit_empty
    log = file_pb2.FileAccessLog(path=to.path, log_format=form)
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.file", typed_config=wellknown.packed(log))


def _text(text: str, *, ruled: bool) -> substitution_format_string_pb2.SubstitutionFormatString:
    line = text or (RULED_TEXT if ruled else TEXT)
    if not line.endswith("\n"):
        line += "\n"
    return substitution_format_string_pb2.SubstitutionFormatString(
        text_format_source=base_pb2.DataSource(inline_string=line), formatters=_formatters(line)
    )


def _json(text: str, *, ruled: bool) -> substitution_format_string_pb2.SubstitutionFormatString:
    fields = _object(text) if text else None
    if fields is None:
        fields = json_format.ParseDict(RULED_JSON if ruled else JSON, struct_pb2.Struct())
    return substitution_format_string_pb2.SubstitutionFormatString(
        json_format=fields, formatters=_formatters(text or RULE)
    )


def _object(text: str) -> struct_pb2.Struct | None:
    """The user's JSON format; None where it is no JSON object that a Struct can hold: Istio's default stands then."""
    try:
        return json_format.ParseDict(json.loads(text), struct_pb2.Struct())
    except (ValueError, OverflowError, RecursionError, json_format.ParseError):
        return None


def _formatters(text: str) -> list[extension_pb2.TypedExtensionConfig]:
    return [
        extension_pb2.TypedExtensionConfig(name=name, typed_config=wellknown.packed(config()))
        for command, name, config in _FORMATTERS
        if command in text
    ]
