"""Limits and times of connections from clients, on the HTTP connection manager."""

from __future__ import annotations

from typing import Any, Final

from envoy.config.core.v3 import protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from istiod.envoy import wellknown
from istiod.mesh.connection_settings import ConnectionSettings

_Common = protocol_pb2.HttpProtocolOptions
_Manager = hcm_pb2.HttpConnectionManager
_TIMES: Final = ("stream_idle_timeout", "request_timeout", "request_headers_timeout", "drain_timeout")
_COMMON_TIMES: Final = ("idle_timeout", "max_connection_duration", "max_stream_duration")
_WINDOWS: Final = {
    "max_concurrent_streams": "max_concurrent_streams",
    "stream_window": "initial_stream_window_size",
    "connection_window": "initial_connection_window_size",
}

_UNDERSCORES: Final = {
    "ALLOW": _Common.ALLOW,
    "REJECT_REQUEST": _Common.REJECT_REQUEST,
    "DROP_HEADER": _Common.DROP_HEADER,
}
_SLASHES: Final = {
    "KEEP_UNCHANGED": _Manager.KEEP_UNCHANGED,
    "REJECT_REQUEST": _Manager.REJECT_REQUEST,
    "UNESCAPE_AND_REDIRECT": _Manager.UNESCAPE_AND_REDIRECT,
    "UNESCAPE_AND_FORWARD": _Manager.UNESCAPE_AND_FORWARD,
}


def apply(found: _Manager, said: ConnectionSettings) -> None:
    """Put the settings in the place of what a connection manager has; they win over the mesh's path normalization."""
    _times(found, said, _TIMES)
    _times(found.common_http_protocol_options, said, _COMMON_TIMES)
    for name, field in _WINDOWS.items():
        if (number := getattr(said, name)) is not None:
            getattr(found.http2_protocol_options, field).value = number
    if said.underscores:
        found.common_http_protocol_options.headers_with_underscores_action = _UNDERSCORES[said.underscores]
    if said.merge_slashes is not None:
        found.merge_slashes = said.merge_slashes
    if said.escaped_slashes:
        found.path_with_escaped_slashes_action = _SLASHES[said.escaped_slashes]


def _times(found: Any, said: ConnectionSettings, fields: tuple[str, ...]) -> None:
    for name in fields:
        if (time := getattr(said, name)) is not None:
            getattr(found, name).CopyFrom(wellknown.duration(time))
