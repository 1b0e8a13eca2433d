"""CORS: idle in the chain, its policies stand in the routes (features row F15)."""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import any_pb2

from istiod.envoy import match, wellknown
from istiod.mesh.route import Cors

NAME = "envoy.filters.http.cors"
FILTER = hcm_pb2.HttpFilter(name=NAME, typed_config=wellknown.packed(cors_pb2.Cors()))

_ALWAYS = percent_pb2.FractionalPercent(numerator=100, denominator=percent_pb2.FractionalPercent.HUNDRED)


def per_route(cors: Cors) -> any_pb2.Any:
    """The CORS policy of one route."""
    return wellknown.packed(
        cors_pb2.CorsPolicy(
            filter_enabled=base_pb2.RuntimeFractionalPercent(default_value=_ALWAYS),
            allow_origin_string_match=[match.string(origin) for origin in cors.allow_origins],
            allow_methods=",".join(cors.allow_methods),
            allow_headers=",".join(cors.allow_headers),
            expose_headers=",".join(cors.expose_headers),
            max_age="" if cors.max_age is None else str(int(cors.max_age.total_seconds())),
            allow_credentials=wellknown.boolean(cors.allow_credentials),
            forward_not_matching_preflights=wellknown.boolean(cors.forward_unmatched_preflights),
        )
    )
