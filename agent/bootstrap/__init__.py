"""Envoy's bootstrap as data: a pure function of ``Inputs``, written as JSON (never through a text template).

The five root keys that the documents name are here (node, stats_config, admin, dynamic_resources, static_resources;
features row S66), and beside them the ones that Istio's own bootstrap has (row C3), each for the reason given below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from agent.bootstrap import clusters, listeners, metadata, stats, telemetry
from agent.bootstrap.inputs import InputError, Inputs
from wire import names

_NO_LIMIT: Final = 2_147_483_647
_LIMIT_FLAG: Final = "overload.global_downstream_max_connections"
_LOG_FORMAT: Final = "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"
_RUNTIME: Final[Mapping[str, object]] = {
    "envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst": True,
    "envoy.reloadable_features.coalesce_lb_rebuilds_on_batch_update": False,
    "envoy.reloadable_features.fixed_heap_use_allocated": True,
    "envoy.reloadable_features.http_reject_path_with_fragment": False,
    names.RUNTIME_LONGEST_PATTERN: names.LONGEST_PATTERN,
}
_FIPS: Final = "fips-140-2"


def build(inputs: Inputs) -> dict[str, Any]:
    """The bootstrap.

    Raises:
        InputError: ProxyConfig, an annotation or a metadata variable is not what it must be; the message names it.
    """
    facts = metadata.metadata(inputs)
    service = metadata.cluster(inputs.config, facts)
    settings: dict[str, Any] = {
        "node": {
            "id": metadata.node_id(inputs),
            "cluster": service,
            "locality": metadata.locality(facts),
            "metadata": facts,
        },
        "stats_config": stats.config(inputs, facts),
        "admin": _admin(int(inputs.config["proxyAdminPort"])),
        "dynamic_resources": _dynamic_resources(inputs),
        "static_resources": {
            "clusters": [*clusters.base(inputs), *telemetry.collectors(inputs.config)],
            "listeners": listeners.static(inputs),
        },
        # What a person reads in the pod's log.
        "application_log_config": {"log_format": {"text_format": _LOG_FORMAT}},
        # ProxyConfig.runtimeValues, and regular expressions longer than Envoy's own limit.
        "layered_runtime": _runtime(inputs),
        # ProxyConfig.connectionSettings; without any monitor Envoy warns at each start.
        "overload_manager": _overload(inputs, facts),
        # Ejections in the log; clusters and statistics that nobody uses cost no memory.
        "cluster_manager": _cluster_manager(inputs, facts),
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        # EnvoyFilters may define internal listeners only where this is loaded.
        "bootstrap_extensions": [_internal_listener()],
    }
    settings |= telemetry.tracing(inputs.config, service) | telemetry.sinks(inputs.config)
    interval = metadata.annotation(facts, "sidecar.istio.io/statsFlushInterval")
    return settings | ({"stats_flush_interval": interval} if interval else {})


def _admin(port: int) -> dict[str, Any]:
    null_log = {
        "@type": names.TYPE_PREFIX + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": "/dev/null",
    }
    return {
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": null_log}],
        "profile_path": "/var/lib/istio/data/envoy.prof",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
    }


def _dynamic_resources(inputs: Inputs) -> dict[str, Any]:
    delta = inputs.environment.get("ISTIO_DELTA_XDS", "true") != "false"
    source = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    # Envoy's own back-off grows to 30 s, longer than an istiod needs to restart (DESIGN.md section 7).
    back_off = {"base_interval": "0.5s", "max_interval": "5s"}
    service = {"cluster_name": names.CLUSTER_XDS, "retry_policy": {"retry_back_off": back_off}}
    return {
        "lds_config": source,
        "cds_config": source,
        "ads_config": {
            "api_type": "DELTA_GRPC" if delta else "GRPC",
            "set_node_on_first_message_only": True,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": service}],
        },
    }


def _runtime(inputs: Inputs) -> dict[str, Any]:
    flags = dict(_RUNTIME)
    if inputs.environment.get("COMPLIANCE_POLICY") == _FIPS:
        flags["envoy.reloadable_features.google_grpc_disable_tls_13"] = True
    for name, value in (inputs.config.get("runtimeValues") or {}).items():
        if value == "":  # Istio's way to say: without this default
            flags.pop(name, None)
        else:
            flags[name] = {"true": True, "false": False}.get(value, value)
    return {"layers": [{"name": "global config", "static_layer": flags}, {"name": "admin", "admin_layer": {}}]}


def _overload(inputs: Inputs, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The limit of connections: ProxyConfig's, else the metadata's, else the runtime flag's, else none."""
    limit = (
        (inputs.config.get("connectionSettings") or {}).get("globalDownstreamConnectionLimit")
        or facts.get("GLOBAL_DOWNSTREAM_MAX_CONNECTIONS")
        or (inputs.config.get("runtimeValues") or {}).get(_LIMIT_FLAG)
        or _NO_LIMIT
    )
    kind = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    monitor = {"@type": names.TYPE_PREFIX + kind, "max_active_downstream_connections": int(limit)}
    name = "envoy.resource_monitors.global_downstream_max_connections"
    return {"resource_monitors": [{"name": name, "typed_config": monitor}]}


def _cluster_manager(inputs: Inputs, facts: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {"enable_deferred_cluster_creation": True}
    if inputs.outlier_log_path:
        settings["outlier_detection"] = {"event_log_path": inputs.outlier_log_path}
    load_stats = facts.get("LOAD_STATS_CONFIG_JSON")
    if load_stats:
        try:
            settings["load_stats_config"] = json.loads(str(load_stats))
        except (ValueError, RecursionError) as error:
            raise InputError(f"ISTIO_META_LOAD_STATS_CONFIG_JSON is no JSON: {error}") from error
    return settings


def _internal_listener() -> dict[str, Any]:
    kind = "envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
    return {
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {
            "@type": names.TYPE_PREFIX + "udpa.type.v1.TypedStruct",
            "type_url": names.TYPE_PREFIX + kind,
            "value": {"buffer_size_kb": 64},
        },
    }
