"""Access logs: Istio's line with the rule behind the request at its end (features rows R4, Z3; decision 23).

The rule is the origin in the route's metadata, so a line says which object and field routed its request; it can be
switched off (``Features.log_rules``). Formats that users set are theirs: they name
``%METADATA(ROUTE:istio:config)%`` themselves if they want it.
"""

from __future__ import annotations

import json
from functools import lru_cache

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2, extension_pb2, substitution_format_string_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as entries
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.formatter.req_without_query.v3 import req_without_query_pb2
from google.protobuf import json_format, struct_pb2

from istiod.envoy import wellknown
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


def requests(settings: MeshSettings) -> tuple[accesslog_pb2.AccessLog, ...]:
    """Loggers of an HTTP connection manager; none where the mesh has no log file."""
    said = (settings.access_log_file, settings.access_log_format, settings.access_log_encoding)
    log = _file(*said, ruled=settings.features.log_rules)
    return () if log is None else (log,)


def connections(settings: MeshSettings) -> tuple[accesslog_pb2.AccessLog, ...]:
    """Loggers of a TCP proxy: a line when a connection ends, none when it has only begun (metrics count that)."""
    return tuple(_filtered(log, _ENDED) for log in requests(settings))


def unrouted(settings: MeshSettings) -> tuple[accesslog_pb2.AccessLog, ...]:
    """Loggers of a listener: connections that no filter chain took, which else nobody would see."""
    return tuple(_filtered(log, _NO_ROUTE) for log in requests(settings))


def _filtered(log: accesslog_pb2.AccessLog, wanted: accesslog_pb2.AccessLogFilter) -> accesslog_pb2.AccessLog:
    return accesslog_pb2.AccessLog(name=log.name, filter=wanted, typed_config=log.typed_config)


@lru_cache(maxsize=16)
def _file(path: str, text: str, encoding: AccessLogEncoding, *, ruled: bool) -> accesslog_pb2.AccessLog | None:
    if not path:
        return None
    form = _json(text, ruled=ruled) if encoding is AccessLogEncoding.JSON else _text(text, ruled=ruled)
    log = file_pb2.FileAccessLog(path=path, log_format=form)
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
