"""The substitute for Istio's ALPN filter: says in mesh mTLS handshakes which HTTP version the client speaks.

Only clusters that follow the downstream's protocol need it; it would break TLS to any other server, so it is off but on
routes with such a destination (design: stock Envoy section 2, proven with real clients). Most routes have none, and say
nothing of it: a table of a thousand services is a seventh smaller than with it on.

At gateways the route may be chosen anew behind other filters, after a token was found good. Envoy switches filters on
and off by the route that a request has first, so there the filter is on, and does nothing but what the last route says.

Only Istio's names are offered, none that the other sidecar would settle on: these choose its chain, and then it looks
at the first bytes. While a port's declared protocol changes, old routes say what the client speaks and the new cluster
speaks what is declared; a server that had settled on ``http/1.1`` broke off when HTTP/2 came (fault FT27).
"""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2, substitution_format_string_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import any_pb2

from istiod.envoy import wellknown

NAME = "istio.alpn"
"""Istio's name, which patches of users look for; what it is made of is the type's business."""
_OFFER = "%CEL(request.protocol == 'HTTP/2' ? 'istio-h2,istio' : 'istio-http/1.1,istio')%"

OFFERING = wellknown.packed(
    set_filter_state_pb2.Config(
        on_request_headers=[
            value_pb2.FilterStateValue(
                object_key="envoy.network.application_protocols",
                shared_with_upstream=value_pb2.FilterStateValue.ONCE,
                format_string=substitution_format_string_pb2.SubstitutionFormatString(
                    text_format_source=base_pb2.DataSource(inline_string=_OFFER)
                ),
            )
        ]
    )
)
"""What the filter does; at gateways per-route configuration of those routes that need it."""
FILTER = hcm_pb2.HttpFilter(name=NAME, disabled=True, typed_config=OFFERING)
OF_GATEWAYS = hcm_pb2.HttpFilter(name=NAME, typed_config=wellknown.packed(set_filter_state_pb2.Config()))
"""Does what the route says that a request has when it comes there."""
ENABLED = wellknown.packed(route_components_pb2.FilterConfig(config=any_pb2.Any()))
"""Per-route configuration that switches a filter on which is off; an empty one is Envoy's word for it."""
DISABLED = wellknown.packed(route_components_pb2.FilterConfig(disabled=True))
"""Per-route configuration that switches a filter off."""
