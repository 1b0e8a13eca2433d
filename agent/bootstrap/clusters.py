"""The static clusters: istiod, the agent's SDS and status server, Envoy's own admin, and ProxyConfig's sinks.

Unlike Istio's, ``xds-grpc`` goes straight to istiod over mTLS with the workload's own certificate (DESIGN.md sections
4 and 7): no Python in the pod's configuration path.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from agent.bootstrap.inputs import InputError, Inputs
from wire import decimal, names

_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_TLS: Final = names.TYPE_PREFIX + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_MANY: Final = 100_000
_DNS: Final = {"type": "STRICT_DNS", "respect_dns_ttl": True, "dns_lookup_family": "V4_ONLY"}


def base(inputs: Inputs) -> list[dict[str, Any]]:
    """The four that every proxy has, and that of somebody else's SDS for gateways' keys, where there is one."""
    config, keys = inputs.config, inputs.credential_socket
    return [
        _local("prometheus_stats", int(config["proxyAdminPort"])),
        _local("agent", int(config["statusPort"])),
        _cluster(names.CLUSTER_SDS, {"pipe": {"path": inputs.sds_socket}}) | {"type": "STATIC"} | _http2(),
        _istiod(inputs),
        *(
            [_cluster(names.CLUSTER_CREDENTIALS, {"pipe": {"path": keys}}) | {"type": "STATIC"} | _http2()]
            if keys
            else ()
        ),
    ]


def external(name: str, address: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A collector that ProxyConfig names by ``HOST:PORT``, with its ``tlsSettings`` if it has some.

    Raises:
        InputError: the address is none, or the settings name no file.
    """
    found = _cluster(name, socket(address)) | _DNS
    settings = config.get("tlsSettings", {})
    if settings.get("mode", "DISABLE") != "DISABLE":
        found["transport_socket"] = _socket(_collector_tls(settings))
    return found


def grpc(name: str, address: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A collector that speaks gRPC."""
    found = external(name, address, config) | _http2()
    if "transport_socket" in found:
        found["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"] = ["h2"]
    return found


def socket(address: str) -> dict[str, Any]:
    """Envoy's Address of ``HOST:PORT``.

    Raises:
        InputError: the port is missing or no number.
    """
    host, _, port = address.rpartition(":")
    number = decimal.number(port)
    if not host or number is None:
        raise InputError(f"{address!r} is not HOST:PORT")
    return {"socket_address": {"address": host.strip("[]"), "port_value": number}}


def _istiod(inputs: Inputs) -> dict[str, Any]:
    address = str(inputs.config["discoveryAddress"])
    where = socket(address)
    limits = {"max_connections": _MANY, "max_pending_requests": _MANY, "max_requests": _MANY}
    found = _cluster(names.CLUSTER_XDS, where) | {
        "connect_timeout": "5s",  # a TLS handshake over the network, where Istio's goes to a socket in the pod
        "circuit_breakers": {"thresholds": [{"priority": which} | limits for which in ("DEFAULT", "HIGH")]},
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
        # One stream per connection: a new stream then shows the present certificate, never that of an old handshake.
        "max_requests_per_connection": 1,
    }
    # A dead peer or a partition must end the stream within 40 s (faults.md FT48).
    found |= _http2({"connection_keepalive": {"interval": "20s", "timeout": "10s"}})
    found |= {"type": "STATIC"} if _is_ip(where["socket_address"]["address"]) else _DNS
    if not address.endswith(f":{names.XDS_PLAINTEXT_PORT}"):
        found["transport_socket"] = _socket(_istiod_tls(inputs.istiod_san))
    return found


def _istiod_tls(san: str) -> dict[str, Any]:
    return {
        "sni": san,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificate_sds_secret_configs": [_own_secret(names.RESOURCE_WORKLOAD)],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": san}}]
                },
                "validation_context_sds_secret_config": _own_secret(names.RESOURCE_ROOT),
            },
        },
    }


def _own_secret(name: str) -> dict[str, Any]:
    """Waits for ever: the default of 15 s would start connections without a certificate (DESIGN.md section 7)."""
    secret = _secret(name)
    secret["sds_config"]["initial_fetch_timeout"] = "0s"
    return secret


def _collector_tls(settings: Mapping[str, Any]) -> dict[str, Any]:
    common: dict[str, Any] = {
        "combined_validation_context": {
            "default_validation_context": {},
            "validation_context_sds_secret_config": _secret(f"file-root:{_path(settings, 'caCertificates')}"),
        }
    }
    if settings["mode"] == "MUTUAL":
        pair = f"file-cert:{_path(settings, 'clientCertificate')}~{_path(settings, 'privateKey')}"
        common["tls_certificate_sds_secret_configs"] = [_secret(pair)]
    context: dict[str, Any] = {"common_tls_context": common}
    if settings.get("sni"):
        context["sni"] = settings["sni"]
    return context


def _path(settings: Mapping[str, Any], field: str) -> str:
    if not settings.get(field):
        raise InputError(f"ProxyConfig: tlsSettings of mode {settings['mode']} needs {field}")
    return str(settings[field])


def _secret(name: str) -> dict[str, Any]:
    source = {
        "api_type": "GRPC",
        "grpc_services": [{"envoy_grpc": {"cluster_name": names.CLUSTER_SDS}}],
        "set_node_on_first_message_only": True,
        "transport_api_version": "V3",
    }
    return {"name": name, "sds_config": {"api_config_source": source, "resource_api_version": "V3"}}


def _socket(context: dict[str, Any]) -> dict[str, Any]:
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": _TLS} | context}


def _local(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"protocol": "TCP", "address": "127.0.0.1", "port_value": port}}
    return _cluster(name, address) | {"type": "STATIC", "connect_timeout": "0.250s"}


def _cluster(name: str, address: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "alt_stat_name": f"{name};",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _http2(options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    explicit = {"http2_protocol_options": dict(options or {})}
    typed = {"@type": names.TYPE_PREFIX + _HTTP_OPTIONS, "explicit_http_config": explicit}
    return {"typed_extension_protocol_options": {_HTTP_OPTIONS: typed}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
