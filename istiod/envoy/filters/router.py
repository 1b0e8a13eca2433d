"""The router: always last, sends the request on."""

from __future__ import annotations

from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from istiod.envoy import wellknown

FILTER = hcm_pb2.HttpFilter(name="envoy.filters.http.router", typed_config=wellknown.packed(router_pb2.Router()))
