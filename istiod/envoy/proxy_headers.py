"""Headers that a connection manager adds or takes away, by the mesh's word or the proxy's own (rows E13, R8, S99)."""

from __future__ import annotations

from typing import Final

from envoy.config.core.v3 import extension_pb2, protocol_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.http.header_formatters.preserve_case.v3 import preserve_case_pb2

from istiod.envoy import wellknown
from istiod.mesh.proxy_headers import ProxyHeaders
from istiod.mesh.scope import Direction

_Manager = hcm_pb2.HttpConnectionManager

PRESERVE_CASE: Final = protocol_pb2.Http1ProtocolOptions.HeaderKeyFormat(
    stateful_formatter=extension_pb2.TypedExtensionConfig(
        name="preserve_case", typed_config=wellknown.packed(preserve_case_pb2.PreserveCaseFormatterConfig())
    )
)
"""Names of headers of HTTP/1.1 go on as they came, not in lower case."""
PROXY_PROTOCOL: Final = wellknown.packed(proxy_protocol_pb2.ProxyProtocol())
_CLIENT_CERT: Final = {
    "SANITIZE": _Manager.SANITIZE,
    "FORWARD_ONLY": _Manager.FORWARD_ONLY,
    "APPEND_FORWARD": _Manager.APPEND_FORWARD,
    "SANITIZE_SET": _Manager.SANITIZE_SET,
    "ALWAYS_FORWARD_ONLY": _Manager.ALWAYS_FORWARD_ONLY,
}
_QUIET = wellknown.packed(router_pb2.Router(suppress_envoy_headers=True))


def apply(found: _Manager, said: ProxyHeaders, direction: Direction) -> None:
    """Put what is said in the place of what a connection manager has by default."""
    if said.server is not None:
        found.server_name = said.server
        if not said.server:
            found.server_header_transformation = _Manager.PASS_THROUGH
    if said.request_id is False:
        found.generate_request_id.value = False
    if said.debug_headers is False:
        found.http_filters[-1].typed_config.CopyFrom(_QUIET)
    found.append_x_forwarded_port = bool(said.forwarded_port)  # heard where clients' addresses are seen: at gateways
    if said.preserve_case:
        found.http_protocol_options.header_key_format.CopyFrom(PRESERVE_CASE)
    if direction is not Direction.OUTBOUND:
        _certificates(found, said, direction)
    if direction is Direction.GATEWAY:
        found.xff_num_trusted_hops = said.trusted_proxies or 0


def _certificates(found: _Manager, said: ProxyHeaders, direction: Direction) -> None:
    """x-forwarded-client-cert; apps send none, so that there is nothing to do on the way out."""
    mode = said.gateway_client_cert if direction is Direction.GATEWAY else ""
    if mode or said.client_cert:
        found.forward_client_cert_details = _CLIENT_CERT[mode or said.client_cert]
    if said.cert_details is not None:
        details = found.set_current_client_cert_details
        details.Clear()
        details.subject.value = "subject" in said.cert_details
        details.cert, details.chain = "cert" in said.cert_details, "chain" in said.cert_details
        details.dns, details.uri = "dns" in said.cert_details, "uri" in said.cert_details
