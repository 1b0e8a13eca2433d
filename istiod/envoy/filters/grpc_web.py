"""Bridge from gRPC-Web to gRPC, on ports that declare it (features row D13)."""

from __future__ import annotations

from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from istiod.envoy import wellknown

FILTER = hcm_pb2.HttpFilter(name="envoy.filters.http.grpc_web", typed_config=wellknown.packed(grpc_web_pb2.GrpcWeb()))
