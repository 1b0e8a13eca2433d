"""Since which Envoy there is what we send, and what EnvoyFilters may bring: the table behind older.py.

An older Envoy ignores a field that it does not know, and refuses a whole resource for an extension or a format's
operator that it does not know. Held complete against the descriptors that old Envoys carry (tests/versions).
Fields only that the messages of our library have: of others an EnvoyFilter is refused already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from istiod.mesh.envoy_release import Release
from wire import names

Fields: TypeAlias = Mapping[str, tuple[str, ...]]

_FILTERS: Final = "envoy.extensions.filters"
_MANAGER: Final = f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"

_SINCE_38: Final[Fields] = {
    "envoy.config.cluster.v3.Cluster": ("transport_socket_matcher",),
    "envoy.config.listener.v3.QuicProtocolOptions": ("max_sessions_per_event_loop",),
    "envoy.config.rbac.v3.Policy": ("cel_config",),
    "envoy.config.route.v3.DirectResponseAction": ("body_format",),
    "envoy.config.route.v3.RouteAction": ("path_rewrite", "host_rewrite"),
    "envoy.config.route.v3.RouteConfiguration": ("vhost_header",),
    "envoy.config.route.v3.Tracing": ("operation", "upstream_operation"),
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter": ("cel_config",),
    f"{_FILTERS}.http.aws_request_signing.v3.AwsRequestSigning": ("match_included_headers",),
    f"{_FILTERS}.http.ext_authz.v3.ExtAuthz": ("enforce_response_header_limits",),
    f"{_FILTERS}.http.ext_proc.v3.MetadataOptions": ("cluster_metadata_forwarding_namespaces",),
    f"{_FILTERS}.http.geoip.v3.Geoip": ("custom_header_config",),
    f"{_FILTERS}.http.mcp.v3.Mcp": ("traffic_mode", "clear_route_cache", "max_request_body_size", "parser_config"),
    f"{_FILTERS}.http.mcp.v3.McpOverride": ("traffic_mode", "max_request_body_size"),
    f"{_FILTERS}.http.oauth2.v3.CookieConfig": ("path",),
    f"{_FILTERS}.listener.proxy_protocol.v3.ProxyProtocol": ("tlv_location",),
    f"{_FILTERS}.listener.tls_inspector.v3.TlsInspector": ("max_client_hello_size",),
    f"{_FILTERS}.network.ext_authz.v3.ExtAuthz": ("metadata_context_namespaces", "typed_metadata_context_namespaces"),
    _MANAGER: ("forward_client_cert_matcher",),
    f"{_MANAGER}.Tracing": ("operation", "upstream_operation"),
    f"{_FILTERS}.network.redis_proxy.v3.RedisProtocolOptions": ("credentials",),
    f"{_FILTERS}.network.tcp_proxy.v3.TcpProxy": ("upstream_connect_mode", "max_early_data_bytes"),
    f"{_FILTERS}.udp.dns_filter.v3.DnsFilterConfig": ("access_log",),
    "envoy.extensions.geoip_providers.common.v3.CommonGeoipProviderConfig": ("geo_field_keys",),
    "envoy.extensions.geoip_providers.maxmind.v3.MaxMindConfig": ("country_db_path",),
    "envoy.extensions.http.ext_proc.processing_request_modifiers.mapped_attribute_builder.v3.MappedAttributeBuilder": (
        "mapped_response_attributes",
    ),
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig": ("reinit_channel_on_timeout",),
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": (
        "request_mirror_policies",
        "hash_policy",
        "retry_policy",
    ),
    "envoy.type.tracing.v3.CustomTag": ("value",),
}

POLICY: Final = frozenset(
    {
        ("envoy.config.cluster.v3.Cluster", "transport_socket_matcher"),
        ("envoy.config.rbac.v3.Policy", "cel_config"),
        ("envoy.config.route.v3.RouteConfiguration", "vhost_header"),
        (f"{_FILTERS}.http.ext_authz.v3.ExtAuthz", "enforce_response_header_limits"),
        (f"{_FILTERS}.network.ext_authz.v3.ExtAuthz", "metadata_context_namespaces"),
        (f"{_FILTERS}.network.ext_authz.v3.ExtAuthz", "typed_metadata_context_namespaces"),
        (f"{_FILTERS}.network.redis_proxy.v3.RedisProtocolOptions", "credentials"),
        (_MANAGER, "forward_client_cert_matcher"),
    }
)
"""Fields that decide who is let in, whom we trust or what a server is told of a client: without them nothing passes."""

LOGGERS: Final[Mapping[str, Release]] = {"envoy.extensions.access_loggers.stats.v3.Config": Release.V1_38}
"""Access loggers, each left out where it is not known."""

UNNAMED: Final[Mapping[str, Mapping[int, str]]] = {
    "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget": {3: "budget_interval"}
}
"""Fields that we write by number, since our library's messages have no name for them; all since the current release."""

_NEW_IN_38: Final = """
DOWNSTREAM_DETECTED_CLOSE_TYPE DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID
DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_PEER_ISSUER_SERIAL QUERY_PARAMS SPAN_ID UPSTREAM_CONNECTION_IDS_ATTEMPTED
UPSTREAM_DETECTED_CLOSE_TYPE UPSTREAM_HOSTS_ATTEMPTED UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT
UPSTREAM_HOST_NAMES_ATTEMPTED UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT UPSTREAM_LOCAL_CLOSE_REASON
UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID
"""
_OPERATORS_SINCE_38: Final = frozenset(_NEW_IN_38.split())
_OPERATORS_SINCE_40: Final = frozenset(
    ("DOWNSTREAM_CX_RTT", "DOWNSTREAM_TLS_GROUP", "UPSTREAM_SERVER_NAME", "UPSTREAM_TLS_GROUP")
)

UNKNOWN_FIELDS: Final[Mapping[Release, Fields]] = {Release.V1_36: _SINCE_38, Release.V1_38: {}}
"""What a release does not know."""
UNKNOWN_OPERATORS: Final[Mapping[Release, frozenset[str]]] = {
    Release.V1_36: _OPERATORS_SINCE_38 | _OPERATORS_SINCE_40,
    Release.V1_38: _OPERATORS_SINCE_40,
}
FORMATS: Final = frozenset(
    {
        "envoy.config.core.v3.HeaderValue",
        "envoy.config.core.v3.SubstitutionFormatString",
        "envoy.type.tracing.v3.CustomTag",
        "opentelemetry.proto.common.v1.AnyValue",
    }
)
"""Messages in which texts are formats."""

LINES_APART: Final = Release.V1_38
"""Since when each line of a header is compared by itself in RBAC (late patches of 1.36 have it, too)."""

OURS: Final = frozenset(
    {
        "envoy.access_loggers.stats",
        "lines of a header apart in rules that refuse",
        "TcpProxy.max_early_data_bytes",
        "TcpProxy.upstream_connect_mode",
    }
)
"""Losses of what no object asks for: nobody's object is told of them."""

LOOKED_AT: Final[Mapping[Release, tuple[str, ...]]] = {
    Release.V1_36: (names.CLUSTER, names.LISTENER, names.ROUTE),
    Release.V1_38: (names.CLUSTER,),
}
"""Types of resources that may hold an unknown field; of others only those are looked at that name an operator."""
