"""Gateway: servers with their ports and hosts (features rows E1-E6)."""

from __future__ import annotations

from typing import Final

from crds.checks import server_tls, values
from crds.checks.findings import Findings
from crds.gateway import Gateway, Port, Server

PROTOCOLS: Final = frozenset({"HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB", "MONGO", "REDIS", "MYSQL", "TCP", "TLS"})
_SECURE: Final = frozenset({"HTTPS", "TLS"})
_PLAIN_HTTP: Final = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})
_UNIX: Final = "unix:"


def check(item: Gateway, found: Findings) -> None:
    """Everything that one Gateway can be wrong about."""
    if not item.spec.servers:
        found.missing("spec.servers")
    names: set[str] = set()
    for index, server in enumerate(item.spec.servers):
        field = f"spec.servers[{index}]"
        _server(found, field, server)
        if server.name and server.name in names:
            found.error(f"{field}.name", f"name {server.name} stands twice")
        names.add(server.name)


def _server(found: Findings, field: str, server: Server) -> None:
    if not server.hosts:
        found.missing(f"{field}.hosts")
    for index, host in enumerate(server.hosts):
        namespaced_host(found, f"{field}.hosts[{index}]", host)
    if server.bind and not server.bind.startswith(_UNIX) and not values.is_address(server.bind):
        found.error(f"{field}.bind", f"{server.bind!r} is no IP address")
    if server.port is None:
        found.missing(f"{field}.port")
        return
    _port(found, f"{field}.port", server.port)
    _security(found, field, server, server.port.protocol.upper())


def namespaced_host(found: Findings, field: str, host: str) -> None:
    """``[namespace/]host``: "." is the own namespace, "*" any; the host is fully qualified."""
    namespace, slash, name = host.rpartition("/")
    if slash and namespace not in {"*", "."} and not values.is_label(namespace):
        found.error(field, f"{namespace!r} is no namespace")
    if name == "*" or values.is_address(name):
        return
    problem = values.dotted_wildcard(name)
    if problem is None and "." not in name:
        problem = f"{name!r} is a short name; a fully qualified one is needed"
    found.check(field, problem)


def _port(found: Findings, field: str, port: Port) -> None:
    found.check(f"{field}.number", values.port(port.number))
    if port.target_port:
        found.check(f"{field}.targetPort", values.port(port.target_port))
    if not port.name:
        found.missing(f"{field}.name")
    if port.protocol.upper() not in PROTOCOLS:
        found.error(f"{field}.protocol", f"{port.protocol!r} is none of {', '.join(sorted(PROTOCOLS))}")


def _security(found: Findings, field: str, server: Server, protocol: str) -> None:
    tls = server.tls
    if tls is None:
        if protocol in _SECURE:
            found.missing(f"{field}.tls")
        return
    if protocol in _SECURE and tls.https_redirect:
        found.warning(f"{field}.tls.httpsRedirect", "is for plain HTTP servers")
    if protocol in _PLAIN_HTTP and tls.mode != "PASSTHROUGH":
        found.error(f"{field}.tls", "a plain HTTP port has no TLS")
    server_tls.check(found, f"{field}.tls", tls, secrets=True)
