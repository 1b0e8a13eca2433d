"""Limits and times of connections from clients, as ``defaultConfig.connectionSettings`` has them for all proxies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from crds import proxy_config as api

_EDGE = "EDGE"
_UNDERSCORES = "HEADERS_WITH_UNDERSCORES_"
_UNSAID = ("UNSPECIFIED", "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """None and "" leave what else holds. ``underscores`` is what becomes of requests with such header names.

    It is ALLOW, REJECT_REQUEST or DROP_HEADER; ``escaped_slashes`` has the names of Envoy's own enumeration.
    """

    buffer_limit: int | None = None
    idle_timeout: timedelta | None = None
    max_connection_duration: timedelta | None = None
    max_stream_duration: timedelta | None = None
    stream_idle_timeout: timedelta | None = None
    request_timeout: timedelta | None = None
    request_headers_timeout: timedelta | None = None
    drain_timeout: timedelta | None = None
    max_concurrent_streams: int | None = None
    stream_window: int | None = None
    connection_window: int | None = None
    underscores: str = ""
    merge_slashes: bool | None = None
    escaped_slashes: str = ""


def read(said: api.ConnectionSettings, *, gateway: bool) -> ConnectionSettings:
    """The settings of sidecars or of gateways; profile EDGE adds Envoy's advice for the edge to the latter's."""
    found = ConnectionSettings(
        buffer_limit=_count(said.listener_per_connection_buffer_limit_bytes),
        idle_timeout=said.http_idle_timeout,
        max_connection_duration=said.http_max_connection_duration,
        max_stream_duration=said.http_max_stream_duration,
        stream_idle_timeout=said.http_stream_idle_timeout,
        request_timeout=said.http_request_timeout,
        request_headers_timeout=said.http_request_headers_timeout,
        drain_timeout=said.http_drain_timeout,
        max_concurrent_streams=_count(said.http_max_concurrent_streams),
        stream_window=_count(said.http2_initial_stream_window_size),
        connection_window=_count(said.http2_initial_connection_window_size),
        underscores=_choice(said.http_headers_with_underscores_action.removeprefix(_UNDERSCORES)),
        merge_slashes=said.http_merge_slashes,
        escaped_slashes=_choice(said.http_path_with_escaped_slashes_action),
    )
    return _at_the_edge(found) if gateway and said.profile == _EDGE else found


def _count(said: int | None) -> int | None:
    """Negative numbers are as good as nothing (as on Istio)."""
    return said if said is not None and said >= 0 else None


def _choice(said: str) -> str:
    return "" if said in _UNSAID else said


def _at_the_edge(found: ConnectionSettings) -> ConnectionSettings:
    five = timedelta(minutes=5)
    defaults = ConnectionSettings(
        buffer_limit=32_768,
        idle_timeout=timedelta(hours=1),
        stream_idle_timeout=five,
        request_timeout=five,
        request_headers_timeout=timedelta(minutes=1),
        max_concurrent_streams=100,
        stream_window=65_536,
        connection_window=1_048_576,
        underscores="REJECT_REQUEST",
        merge_slashes=True,
        escaped_slashes="UNESCAPE_AND_REDIRECT",
    )
    said = {name: getattr(found, name) for name in ConnectionSettings.__slots__}
    return replace(defaults, **{name: value for name, value in said.items() if value not in (None, "")})
