"""The HTTP connection manager of each direction, as the real istiod sends it (features rows S49-S52, E13, N14).

Its filters stand in filters/, its routes in route.py. Differences from Istio are the substitutes for private filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from envoy.config.core.v3 import config_source_pb2, protocol_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2

from istiod.envoy import (
    access_log,
    client_limits,
    dynamic_dns,
    metrics,
    never_sent,
    proxy_headers,
    route,
    tracing,
    wellknown,
)
from istiod.envoy.filters import (
    alpn,
    authorization,
    cors,
    fault,
    grpc_stats,
    grpc_web,
    jwt_authn,
    local_rate_limit,
    peer,
    router,
)
from istiod.mesh import node_settings
from istiod.mesh import proxy_headers as headers
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.scope import Direction, Http
from istiod.mesh.settings import MeshSettings
from wire.labels import Reporter

_Manager = hcm_pb2.HttpConnectionManager
_SERVER = "istio-envoy"
_MERGING = ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")

ADS = config_source_pb2.ConfigSource(
    ads=config_source_pb2.AggregatedConfigSource(),
    initial_fetch_timeout=wellknown.duration(timedelta(0)),
    resource_api_version=config_source_pb2.V3,
)
"""Resources that come over the one stream; Envoy waits for them as long as it takes."""

_COMMON = _Manager(
    proxy_100_continue=True,
    stream_idle_timeout=wellknown.duration(timedelta(0)),
    upgrade_configs=[_Manager.UpgradeConfig(upgrade_type="websocket")],
    request_id_extension=hcm_pb2.RequestIDExtension(
        typed_config=wellknown.packed(
            uuid_pb2.UuidRequestIdConfig(use_request_id_for_trace_sampling=wellknown.boolean(value=True))
        )
    ),
)
_OUTBOUND = _Manager(
    http_filters=[grpc_stats.FILTER, alpn.FILTER, fault.FILTER, cors.FILTER, router.FILTER],
    use_remote_address=wellknown.boolean(value=False),
)
_INBOUND = _Manager(
    http_filters=[grpc_stats.FILTER, fault.FILTER, cors.FILTER, router.FILTER],
    use_remote_address=wellknown.boolean(value=False),
    server_name=_SERVER,
    forward_client_cert_details=_Manager.APPEND_FORWARD,
    set_current_client_cert_details=_Manager.SetCurrentClientCertDetails(
        subject=wellknown.boolean(value=True), dns=True, uri=True
    ),
)
_GATEWAY = _Manager(
    http_filters=[grpc_stats.FILTER, alpn.OF_GATEWAYS, fault.FILTER, cors.FILTER, router.FILTER],
    http_protocol_options=protocol_pb2.Http1ProtocolOptions(),
    use_remote_address=wellknown.boolean(value=True),
    server_name=_SERVER,
    forward_client_cert_details=_Manager.SANITIZE_SET,
    set_current_client_cert_details=_Manager.SetCurrentClientCertDetails(
        subject=wellknown.boolean(value=True), cert=True, dns=True, uri=True
    ),
)
_DIRECTIONS = {Direction.OUTBOUND: _OUTBOUND, Direction.INBOUND: _INBOUND, Direction.GATEWAY: _GATEWAY}


def network_filter(
    http: Http, direction: Direction, settings: MeshSettings, own: NodeSettings = node_settings.NOTHING
) -> listener_components_pb2.Filter:
    """The connection manager of one chain."""
    found = _Manager(stat_prefix=http.stat_prefix.rstrip(";") + ";")  # Istio's stats tags end a name at ";"
    found.MergeFrom(_COMMON)
    found.MergeFrom(_DIRECTIONS[direction])
    *first, last = found.http_filters
    found.ClearField("http_filters")
    found.http_filters.extend(_filters(http, direction, first, last))
    if own.idle_timeout is not None:
        found.common_http_protocol_options.idle_timeout.CopyFrom(wellknown.duration(own.idle_timeout))
    if own.http10 or settings.features.http10:
        found.http_protocol_options.accept_http_10 = True
    _normalize(found, settings.path_normalization)
    limits = settings.gateway_connections if direction is Direction.GATEWAY else settings.sidecar_connections
    if limits is not None:
        client_limits.apply(found, limits)
    found.access_log.extend(access_log.requests(settings, access_log.side(own, direction)))
    reporter = _reporter(http, direction)
    found.access_log.extend(metrics.http(reporter, own.metrics))
    if direction is not Direction.OUTBOUND and reporter is not Reporter.DESTINATION:
        found.early_header_mutation_extensions.append(peer.STRIPPED)
    tracing.apply(found, direction, settings, own)
    if direction is Direction.INBOUND:
        never_sent.apply(found, http.inline)
    said = headers.joined(settings.headers, own.headers)
    proxy_headers.apply(found, replace(said, preserve_case=settings.headers.preserve_case), direction)
    if http.inline is not None:
        found.route_config.CopyFrom(route.inline(http.inline))
    else:
        found.rds.route_config_name = http.rds
        found.rds.config_source.CopyFrom(ADS)
    return listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=wellknown.packed(found)
    )


def _filters(
    http: Http, direction: Direction, first: Iterable[hcm_pb2.HttpFilter], last: hcm_pb2.HttpFilter
) -> Iterator[hcm_pb2.HttpFilter]:
    """All filters of a chain, in Istio's order: who calls is noted, and who may come in asked, before anything else."""
    yield from _OF_REPORTER[_reporter(http, direction)]
    yield from authorization.asking(http.authorization)
    yield from jwt_authn.http_filters(http.tokens, clear_route_cache=direction is Direction.GATEWAY)
    yield from authorization.deciding(http.authorization)
    yield from local_rate_limit.filters(http.limits)
    if http.grpc_web:
        yield grpc_web.FILTER
    yield from first
    yield from map(dynamic_dns.http_filter, http.caches)
    yield last


_OF_REPORTER = {
    Reporter.SOURCE: (peer.TELLING, peer.PROTOCOL),
    Reporter.DESTINATION: (peer.HEARING,),
    Reporter.STRANGERS: (peer.PROTOCOL,),
}


def _reporter(http: Http, direction: Direction) -> Reporter:
    if direction is not Direction.INBOUND:
        return Reporter.SOURCE
    return Reporter.DESTINATION if http.mesh_tls else Reporter.STRANGERS


def _normalize(found: hcm_pb2.HttpConnectionManager, option: str) -> None:
    """Path normalization (features row N14); policies on paths rely on it."""
    found.normalize_path.value = option != "NONE"
    found.merge_slashes = option in _MERGING
    found.path_with_escaped_slashes_action = (
        _Manager.UNESCAPE_AND_FORWARD if option == "DECODE_AND_MERGE_SLASHES" else _Manager.KEEP_UNCHANGED
    )
