"""The two static listeners: 15090 for Prometheus, 15021 for readiness probes (features rows S68, C9)."""

from __future__ import annotations

from typing import Any, Final

from agent.bootstrap.inputs import Inputs
from wire import names, telemetry

_HCM: Final = names.TYPE_PREFIX + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER: Final = names.TYPE_PREFIX + "envoy.extensions.filters.http.router.v3.Router"
_COMPRESSOR: Final = names.TYPE_PREFIX + "envoy.extensions.filters.http.compressor.v3.Compressor"
_LIBRARY: Final = names.TYPE_PREFIX + "envoy.extensions.compression.{name}.compressor.v3.{type}"
_TEXT_TYPES: Final = (
    "text/plain",
    "application/vnd.google.protobuf",
    "application/openmetrics-text",
    "application/openmetrics-protobuf",
)


def _route(prefix: str, cluster: str, **more: str) -> dict[str, Any]:
    return {"match": {"prefix": prefix}, "route": {"cluster": cluster} | more}


# By way of the agent, which gives them Istio's names: stock Envoy writes ``envoy_istio_...`` (decision 22).
_STATISTICS: Final = _route("/stats/prometheus", "agent", prefix_rewrite=telemetry.STATS_PATH)


def static(inputs: Inputs) -> list[dict[str, Any]]:
    """Both, on all addresses: Prometheus and the kubelet come from outside the pod."""
    compression = _compression() if inputs.config.get("statsCompression", True) else []
    prometheus = inputs.port("ENVOY_PROMETHEUS_PORT", names.PROMETHEUS_PORT)
    readiness = inputs.port("ENVOY_STATUS_PORT", names.READINESS_PORT)
    return [
        _listener(prometheus, "stats", _STATISTICS, compression),
        _listener(readiness, "agent", _route("/healthz/ready", "agent"), []),
    ]


def _listener(port: int, stat_prefix: str, route: dict[str, Any], http_filters: list[dict[str, Any]]) -> dict[str, Any]:
    """One listener with one route; never refused for overload, else probes would fail first."""
    manager = {
        "@type": _HCM,
        "codec_type": "AUTO",
        "stat_prefix": stat_prefix,
        "route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            *http_filters,
            {"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}},
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "name": f"0.0.0.0_{port}",
        "address": {"socket_address": {"protocol": "TCP", "address": "0.0.0.0", "port_value": port}},  # noqa: S104 (see static)
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [chain],
    }


def _compression() -> list[dict[str, Any]]:
    return [
        {
            "name": f"envoy.filters.http.compressor.{name}",
            "typed_config": {
                "@type": _COMPRESSOR,
                "compressor_library": {
                    "name": f"stats_{name}",
                    "typed_config": {"@type": _LIBRARY.format(name=name, type=name.capitalize())},
                },
                "response_direction_config": {"common_config": {"content_type": list(_TEXT_TYPES)}},
            },
        }
        for name in ("brotli", "zstd", "gzip")
    ]
