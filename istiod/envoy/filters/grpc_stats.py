"""gRPC message counts, for metrics of streams."""

from __future__ import annotations

from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from istiod.envoy import wellknown

FILTER = hcm_pb2.HttpFilter(
    name="envoy.filters.http.grpc_stats",
    typed_config=wellknown.packed(
        config_pb2.FilterConfig(emit_filter_state=True, stats_for_all_methods=wellknown.boolean(value=False))
    ),
)
