"""Gateway: servers with their ports and hosts (features rows E1-E6)."""

from __future__ import annotations

from typing import Final

from crds.checks import server_tls, values
from crds.checks.findings import Findings
from crds.checks.patterns import repeated
from crds.gateway import Gateway, Port, Server, ServerTLSSettings

_UNIX: Final = "unix://"
_PASSES_THROUGH: Final = frozenset({"PASSTHROUGH", "AUTO_PASSTHROUGH"})
_OF_GATEWAY_API: Final = "internal.istio.io/gateway-semantics"
"""The annotation of what Istio makes of Gateways of the Gateway API, whose names have dots in them."""


def check(item: Gateway, found: Findings) -> None:
    """Everything that one Gateway can be wrong about."""
    if not values.is_label(item.metadata.name) and _OF_GATEWAY_API not in item.metadata.annotations:
        found.refuse("metadata.name", "a Gateway's name has letters, digits and dashes only")
    if not item.spec.servers:
        found.missing("spec.servers")
    for index, server in enumerate(item.spec.servers):
        _server(found, f"spec.servers[{index}]", server)
    for index, name in repeated(server.port.name if server.port else "" for server in item.spec.servers):
        if name:
            found.refuse(f"spec.servers[{index}].port.name", f"{name} stands twice; each port has a name of its own")
    for index, name in repeated(server.name for server in item.spec.servers):
        if name:
            found.warning(f"spec.servers[{index}].name", f"name {name} stands twice")


def _server(found: Findings, field: str, server: Server) -> None:
    if not server.hosts:
        found.missing(f"{field}.hosts")
    for index, host in enumerate(server.hosts):
        namespaced_host(found, f"{field}.hosts[{index}]", host)
    of_socket = server.bind.startswith(_UNIX)
    if of_socket:
        found.check(f"{field}.bind", values.socket(server.bind.removeprefix(_UNIX)))
    elif server.bind and not values.is_address(server.bind):
        found.error(f"{field}.bind", f"{server.bind!r} is no IP address")
    if server.port is None:
        found.missing(f"{field}.port")
        return
    _port(found, f"{field}.port", server.port, of_socket=of_socket)
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


def _port(found: Findings, field: str, port: Port, *, of_socket: bool) -> None:
    if "number" not in port.model_fields_set:
        found.missing(f"{field}.number")
    elif of_socket and port.number:
        found.error(f"{field}.number", "must be 0 where a server binds to a unix socket")
    elif not of_socket:
        found.check(f"{field}.number", values.port(port.number))
    if port.target_port:
        found.refuse(f"{field}.targetPort", "has no effect on Gateways")
    if not port.name:
        found.missing(f"{field}.name")
    found.check(f"{field}.protocol", values.protocol(port.protocol) if port.protocol else "must be given")


def _security(found: Findings, field: str, server: Server, protocol: str) -> None:
    tls = server.tls
    if tls is None:
        if protocol in values.TLS:
            found.missing(f"{field}.tls")
        return
    if protocol not in values.HTTP and tls.https_redirect:
        found.warning(f"{field}.tls.httpsRedirect", "is for plain HTTP servers")
    if protocol in values.HTTP and not _only_redirects(tls):
        found.error(f"{field}.tls", "a plain HTTP port has no TLS")
    if protocol in values.PROTOCOLS - values.HTTP - values.TLS:
        found.refuse(f"{field}.tls", "only ports of protocol HTTPS or TLS have TLS")
    server_tls.check(found, f"{field}.tls", tls, secrets=True)


def _only_redirects(tls: ServerTLSSettings) -> bool:
    """Whether the settings of a plain port ask for no TLS: what is left is a redirect to HTTPS."""
    return tls.mode in _PASSES_THROUGH and not (tls.server_certificate or tls.private_key or tls.ca_certificates)
