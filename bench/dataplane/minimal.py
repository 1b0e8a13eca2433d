"""What a person would write by hand for the same two Envoys: mutual TLS, one route, the router, nothing else.

The listeners are those of a sidecar: what the pod sends is caught at 15001, what comes in at 15006.
"""

from __future__ import annotations

from typing import Any, Final

from wire import names

PORT: Final = 8080
"""The echo's."""
FOLDER: Final = "/etc/minimal"
"""Where the pod has its configuration, its certificate, key and roots."""
_TYPES: Final = "type.googleapis.com/envoy.extensions"
_OUTBOUND, _INBOUND = 15001, 15006

Json = dict[str, Any]


def client(server: str) -> Json:
    """The client's side: every request goes to the proxy of the pod with this address, over mutual TLS."""
    caught: Json = _listener("caught", _OUTBOUND, [_tcp("nowhere")]) | {"use_original_dst": True}
    http: Json = _listener("http", PORT, [_http("server")]) | {"bind_to_port": False}
    wanted = {"san_type": "URI", "matcher": {"exact": f"spiffe://{names.DEFAULT_TRUST_DOMAIN}/ns/plain/sa/server"}}
    validation = _roots() | {"match_typed_subject_alt_names": [wanted]}
    tls = _socket("UpstreamTlsContext", {"common_tls_context": _context(validation), "sni": "server"})
    clusters: list[Json] = [_cluster("server", server) | {"transport_socket": tls}]
    return _bootstrap([caught, http], [*clusters, {"name": "nowhere", "type": "STATIC", "connect_timeout": "1s"}])


def server() -> Json:
    """The server's side: who shows a certificate of the roots is led to the app."""
    tls = _socket(
        "DownstreamTlsContext", {"common_tls_context": _context(_roots()), "require_client_certificate": True}
    )
    return _bootstrap(
        [_listener("caught", _INBOUND, [_http("app")], {"transport_socket": tls})], [_cluster("app", "127.0.0.1")]
    )


def _bootstrap(listeners: list[Json], clusters: list[Json]) -> Json:
    admin = {"address": _address("127.0.0.1", 15000)}
    static = {"listeners": listeners, "clusters": clusters}
    return {"node": {"id": "minimal", "cluster": "minimal"}, "admin": admin, "static_resources": static}


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _listener(name: str, port: int, filters: list[Json], more: Json | None = None) -> Json:
    everywhere = "0.0.0.0"  # noqa: S104 (of its pod)
    chain = {"filters": filters} | (more or {})
    return {"name": name, "address": _address(everywhere, port), "filter_chains": [chain]}


def _tcp(cluster: str) -> Json:
    config = {"@type": f"{_TYPES}.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": cluster, "cluster": cluster}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def _http(cluster: str) -> Json:
    router = {"@type": f"{_TYPES}.filters.http.router.v3.Router"}
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": cluster,
        "route_config": {"name": "all", "virtual_hosts": [host]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _cluster(name: str, address: str) -> Json:
    place = {"endpoint": {"address": _address(address, PORT)}}
    load = {"cluster_name": name, "endpoints": [{"lb_endpoints": [place]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "10s", "load_assignment": load}


def _socket(kind: str, config: Json) -> Json:
    typed = {"@type": f"{_TYPES}.transport_sockets.tls.v3.{kind}"} | config
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}


def _context(validation: Json) -> Json:
    own = {f"{name}": {"filename": f"{FOLDER}/{file}"} for name, file in _OWN.items()}
    return {"tls_certificates": [own], "validation_context": validation}


_OWN: Final = {"certificate_chain": "certificate.pem", "private_key": "key.pem"}


def _roots() -> Json:
    return {"trusted_ca": {"filename": f"{FOLDER}/roots.pem"}}
