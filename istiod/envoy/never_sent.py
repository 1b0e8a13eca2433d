"""What a sidecar answers for an app that did not get the request (features row Z5; decision 46, fault FT24).

A pod's app may have ended while callers do not know of it yet. Its sidecar then answers 503, which Istio's default
retries leave to the caller, since an app that got the request may have acted on it. Envoy's flag UF says that this one
did not: there was no connection to send it on. ``grpc-status: 14`` (unavailable) tells that to the calling proxy,
which by Istio's defaults tries elsewhere: Envoy looks for that header in any answer, of gRPC or not.
"""

from __future__ import annotations

from typing import Final

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import any_pb2

from istiod.envoy import wellknown
from istiod.mesh.route import RouteTable

_NO_CONNECTION: Final = "UF"
"""The only such flag: what a limit turned away (UO) got to no app either, but to try that again makes more of it."""
_UNAVAILABLE: Final = "14"
_MAPPER: Final = hcm_pb2.ResponseMapper(
    filter=accesslog_pb2.AccessLogFilter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=[_NO_CONNECTION])),
    headers_to_add=[
        base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key="grpc-status", value=_UNAVAILABLE),
            append_action=base_pb2.HeaderValueOption.ADD_IF_ABSENT,
        )
    ],
)
_REPLIES: Final = hcm_pb2.LocalReplyConfig(mappers=[_MAPPER])
_BEFORE_THE_APP: Final = frozenset({"connect-failure", "refused-stream", "reset-before-request"})
"""What a sidecar may try again at its app, and know still that the app got nothing."""


def apply(found: hcm_pb2.HttpConnectionManager, table: RouteTable | None) -> None:
    """Have a connection manager of inbound requests answer so.

    Not where the mesh has more tried again at the app than Istio does: then an earlier try may have got there.
    """
    said = (route.retry for host in (table.virtual_hosts if table else ()) for route in host.routes)
    if all(_BEFORE_THE_APP.issuperset(one.retry_on.split(",")) for one in said if one is not None and one.attempts):
        found.local_reply_config.CopyFrom(_REPLIES)


def yield_to_others(packed: any_pb2.Any) -> None:
    """Put the mapper behind those that EnvoyFilters brought into a connection manager: Envoy takes the first match."""
    found = hcm_pb2.HttpConnectionManager.FromString(packed.value)
    mappers = found.local_reply_config.mappers
    if len(mappers) > 1 and mappers[0] == _MAPPER:
        del mappers[0]
        mappers.append(_MAPPER)
        packed.CopyFrom(wellknown.packed(found))
