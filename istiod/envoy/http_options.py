"""Which HTTP version a cluster speaks, and what its connections are allowed (features rows D13, G9, N3).

ALPN belongs here too: in mesh mTLS it tells the other sidecar which protocol is inside.
"""

from __future__ import annotations

from envoy.config.common.matcher.v3 import matcher_pb2
from envoy.config.core.v3 import protocol_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf import any_pb2

from istiod.envoy import proxy_headers, wellknown
from istiod.mesh.policy import ConnectionPool, TlsMode
from istiod.mesh.scope import Cluster, Direction
from istiod.mesh.service import Protocol
from istiod.mesh.settings import MeshSettings

NAME = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_Options = http_protocol_options_pb2.HttpProtocolOptions
_Predicate = matcher_pb2.MatchPredicate

_MESH_HTTP1 = ("istio-http/1.1", "istio", "http/1.1")
_MESH_HTTP2 = ("istio-h2", "istio", "h2")
_MESH_TCP = ("istio-peer-exchange", "istio")
_SELF_MADE = (TlsMode.SIMPLE, TlsMode.MUTUAL)
_SIDECARS = (Direction.INBOUND, Direction.OUTBOUND)
_OPAQUE = (Protocol.TCP, Protocol.MONGO, Protocol.REDIS, Protocol.MYSQL)


def follows_client(cluster: Cluster) -> bool:
    """Whether the cluster speaks the HTTP version that its client speaks.

    So do the opaque ones of sidecars, though no HTTP is sent to them, as long as nothing changes: when a port that was
    HTTP/2 is declared TCP, the chains that still drain go on to send it HTTP/2, which may be gRPC (fault FT27). Not
    those behind a tunnel: Envoy asks for it over HTTP/2 wherever a cluster can, proxies expect HTTP/1.1 (row G13).
    """
    return cluster.downstream_protocol or cluster.policy.connection_pool.use_client_protocol or _opaque(cluster)


def _opaque(cluster: Cluster) -> bool:
    own = cluster.tls is not None and cluster.tls.mode in _SELF_MADE
    opaque = cluster.protocol in _OPAQUE and cluster.policy.tunnel is None
    return bool(cluster.services) and cluster.direction in _SIDECARS and opaque and not own


def http2(cluster: Cluster, settings: MeshSettings) -> bool:
    """Whether the cluster speaks HTTP/2 without being asked: declared, or upgraded by policy.

    An upgrade is about connections between proxies: the app gets what its port declares (Istio: applyTrafficPolicy).
    """
    if follows_client(cluster):
        return False
    if cluster.direction is Direction.INBOUND:
        return cluster.protocol.is_http2
    upgrade = cluster.policy.connection_pool.h2_upgrade
    upgraded = settings.h2_upgrade if upgrade is None else upgrade
    return cluster.protocol.is_http2 or (cluster.protocol.is_http and upgraded)


def alpn(cluster: Cluster, settings: MeshSettings) -> tuple[str, ...]:
    """What a TLS cluster offers. Where the client decides, the ALPN filter replaces it for HTTP requests."""
    if cluster.tls is not None and cluster.tls.mode in _SELF_MADE:
        return ("h2",) if http2(cluster, settings) else ()
    if http2(cluster, settings):
        return _MESH_HTTP2
    return _MESH_HTTP1 if cluster.protocol.is_http and not follows_client(cluster) else _MESH_TCP


def of(cluster: Cluster, settings: MeshSettings) -> any_pb2.Any | None:
    """HttpProtocolOptions, or None where Envoy's defaults (HTTP/1.1) hold."""
    pool = cluster.policy.connection_pool
    found = _Options(
        common_http_protocol_options=_common(pool),
        upstream_http_protocol_options=_upstream(cluster),
        outlier_detection=_errors(cluster),
    )
    if follows_client(cluster):
        _http1(found.use_downstream_protocol_config.http_protocol_options, settings)
        found.use_downstream_protocol_config.http2_protocol_options.CopyFrom(_http2(pool))
    elif http2(cluster, settings):
        found.explicit_http_config.http2_protocol_options.CopyFrom(_http2(pool))
    elif found == _Options() and not (settings.headers.preserve_case and cluster.protocol.is_http):
        return None
    else:
        _http1(found.explicit_http_config.http_protocol_options, settings)
    return wellknown.packed(found)


def _http1(found: protocol_pb2.Http1ProtocolOptions, settings: MeshSettings) -> None:
    found.SetInParent()
    if settings.headers.preserve_case:
        found.header_key_format.CopyFrom(proxy_headers.PRESERVE_CASE)


def _common(pool: ConnectionPool) -> protocol_pb2.HttpProtocolOptions | None:
    """What holds for every version. A time for idle TCP connections is one for those of HTTP without their own."""
    idle = pool.tcp_idle_timeout if pool.http_idle_timeout is None else pool.http_idle_timeout
    found = protocol_pb2.HttpProtocolOptions(
        idle_timeout=wellknown.optional_duration(idle),
        max_connection_duration=wellknown.optional_duration(pool.max_connection_duration),
        max_requests_per_connection=wellknown.uint32(pool.max_requests_per_connection),
    )
    return found if found.ByteSize() else None


def _errors(cluster: Cluster) -> http_protocol_options_pb2.HttpProtocolOptions.OutlierDetection | None:
    """Which answers outlier detection takes for errors where a rule names them: then other 5xx are none (row G10)."""
    outlier = cluster.policy.outlier_detection
    if outlier is None or not outlier.error_codes:
        return None
    first, *more = (_status(code) for code in outlier.error_codes)
    matcher = _Predicate(or_match=_Predicate.MatchSet(rules=[first, *more])) if more else first
    return _Options.OutlierDetection(error_matcher=matcher)


def _status(code: int) -> matcher_pb2.MatchPredicate:
    exact = string_pb2.StringMatcher(exact=str(code))
    header = route_components_pb2.HeaderMatcher(name=":status", string_match=exact)
    return _Predicate(http_response_headers_match=matcher_pb2.HttpHeadersMatch(headers=[header]))


def checks_hosts(cluster: Cluster) -> bool:
    """Whether servers must show a certificate of the host that a request names."""
    options = _upstream(cluster)
    return options is not None and options.auto_san_validation


def _upstream(cluster: Cluster) -> protocol_pb2.UpstreamHttpProtocolOptions | None:
    """SNI and the name to verify follow the request's host where the user gave none."""
    tls = cluster.tls
    if tls is None or tls.mode not in _SELF_MADE or tls.sni:
        return None
    verify = not tls.subject_alt_names and not tls.insecure_skip_verify
    return protocol_pb2.UpstreamHttpProtocolOptions(auto_sni=True, auto_san_validation=verify)


def _http2(pool: ConnectionPool) -> protocol_pb2.Http2ProtocolOptions:
    found = protocol_pb2.Http2ProtocolOptions(max_concurrent_streams=wellknown.uint32(pool.max_concurrent_streams))
    if pool.http2_keepalive_interval is not None:
        found.connection_keepalive.interval.CopyFrom(wellknown.duration(pool.http2_keepalive_interval))
    if pool.http2_keepalive_timeout is not None:
        found.connection_keepalive.timeout.CopyFrom(wellknown.duration(pool.http2_keepalive_timeout))
    return found
