"""Which protocol a port speaks, from what its object says (features row D13; Istio: kube.ConvertProtocol)."""

from __future__ import annotations

from typing import Final

from istiod.mesh.service import Protocol

_NAMES: Final = {
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.GRPC_WEB,
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "http_proxy": Protocol.HTTP_PROXY,
    "https": Protocol.HTTPS,
    "mongo": Protocol.MONGO,
    "mysql": Protocol.MYSQL,
    "redis": Protocol.REDIS,
    "tcp": Protocol.TCP,
    "tls": Protocol.TLS,
    "udp": Protocol.UDP,
}
_KUBERNETES: Final = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
_GRPC_WEB: Final = "grpc-web"
_SERVER_FIRST: Final = frozenset({25, 53, 3306, 27017})
"""Ports whose server speaks first (and DNS): nobody would send the bytes that sniffing waits for."""


def parse(name: str) -> Protocol:
    """The protocol of that name, in any case; UNSUPPORTED when there is none."""
    return _NAMES.get(name.lower(), Protocol.UNSUPPORTED)


def of_service_port(number: int, name: str, transport: str, app_protocol: str) -> Protocol:
    """The protocol of a Kubernetes Service port.

    UDP stays UDP; else appProtocol decides, else the port's name up to its first hyphen, else the well-known number.
    """
    if transport == "UDP":
        return Protocol.UDP
    if app_protocol in _KUBERNETES:
        return _KUBERNETES[app_protocol]
    said = (app_protocol or name).lower()
    if said.startswith(_GRPC_WEB):
        return Protocol.GRPC_WEB
    found = parse(said.partition("-")[0])
    if found is Protocol.UNSUPPORTED and number in _SERVER_FIRST:
        return Protocol.TCP
    return found
