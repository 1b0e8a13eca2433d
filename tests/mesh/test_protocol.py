from __future__ import annotations

import pytest

from istiod.mesh import protocol
from istiod.mesh.service import Protocol


@pytest.mark.parametrize(
    ("number", "name", "transport", "app", "expected"),
    [
        (80, "http", "TCP", "", Protocol.HTTP),
        (80, "HTTP-web", "TCP", "", Protocol.HTTP),
        (80, "http2-foo", "TCP", "", Protocol.HTTP2),
        (80, "grpc-web-x", "TCP", "", Protocol.GRPC_WEB),
        (80, "grpc", "TCP", "", Protocol.GRPC),
        (80, "tcp", "TCP", "http", Protocol.HTTP),
        (80, "tcp", "TCP", "kubernetes.io/h2c", Protocol.HTTP2),
        (80, "tcp", "TCP", "kubernetes.io/ws", Protocol.HTTP),
        (80, "tcp", "TCP", "kubernetes.io/wss", Protocol.HTTPS),
        (80, "", "TCP", "", Protocol.UNSUPPORTED),
        (80, "web", "TCP", "", Protocol.UNSUPPORTED),
        (3306, "db", "TCP", "", Protocol.TCP),
        (3306, "http", "TCP", "", Protocol.HTTP),
        (53, "http", "UDP", "http", Protocol.UDP),
    ],
)
def test_a_port_speaks_what_its_object_says(
    number: int, name: str, transport: str, app: str, expected: Protocol
) -> None:
    assert protocol.of_service_port(number, name, transport, app) is expected


def test_service_entries_name_protocols_in_any_case() -> None:
    assert protocol.parse("MONGO") is Protocol.MONGO
    assert protocol.parse("") is Protocol.UNSUPPORTED


@pytest.mark.parametrize(
    ("protocol_", "http", "http2", "tls", "tcp"),
    [
        (Protocol.HTTP, True, False, False, False),
        (Protocol.GRPC, True, True, False, False),
        (Protocol.HTTPS, False, False, True, True),
        (Protocol.TCP, False, False, False, True),
        (Protocol.UDP, False, False, False, False),
        (Protocol.UNSUPPORTED, False, False, False, False),
    ],
)
def test_protocols_fall_into_families(protocol_: Protocol, *, http: bool, http2: bool, tls: bool, tcp: bool) -> None:
    assert (protocol_.is_http, protocol_.is_http2, protocol_.is_tls, protocol_.is_tcp) == (http, http2, tls, tcp)
