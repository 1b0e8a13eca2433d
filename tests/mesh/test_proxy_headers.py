"""Headers of proxies and who is believed in front of gateways: the mesh's word and the proxy's own (E13, R8)."""

from __future__ import annotations

import pytest
import yaml

from crds import proxy_config as api
from istiod.mesh import proxy_headers
from istiod.mesh.proxy_headers import NOTHING, ProxyHeaders


def read(text: str) -> ProxyHeaders:
    return proxy_headers.read(api.ProxyConfig.model_validate(yaml.safe_load(text)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", NOTHING),
        ("proxyHeaders: {}", NOTHING),
        ("proxyHeaders: {server: {}}", NOTHING),
        ("proxyHeaders: {server: {value: me}}", ProxyHeaders(server="me")),
        ("proxyHeaders: {server: {disabled: true, value: me}}", ProxyHeaders(server="")),
        ("proxyHeaders: {requestId: {}}", NOTHING),
        ("proxyHeaders: {requestId: {disabled: true}}", ProxyHeaders(request_id=False)),
        ("proxyHeaders: {attemptCount: {disabled: true}}", ProxyHeaders(attempt_count=False)),
        ("proxyHeaders: {envoyDebugHeaders: {disabled: false}}", ProxyHeaders(debug_headers=True)),
        (
            "proxyHeaders: {xForwardedHost: {enabled: true}, xForwardedPort: {enabled: false}}",
            ProxyHeaders(forwarded_host=True, forwarded_port=False),
        ),
        ("proxyHeaders: {preserveHttp1HeaderCase: true}", ProxyHeaders(preserve_case=True)),
        ("proxyHeaders: {forwardedClientCert: UNDEFINED}", NOTHING),
        ("proxyHeaders: {forwardedClientCert: SANITIZE}", ProxyHeaders(client_cert="SANITIZE")),
        (
            "proxyHeaders: {setCurrentClientCertDetails: {uri: true, dns: false}}",
            ProxyHeaders(cert_details=frozenset({"uri"})),
        ),
        ("gatewayTopology: {}", NOTHING),
        ("gatewayTopology: {numTrustedProxies: 0}", ProxyHeaders(trusted_proxies=0)),
        ("gatewayTopology: {forwardClientCertDetails: SANITIZE}", ProxyHeaders(gateway_client_cert="SANITIZE")),
        ("gatewayTopology: {proxyProtocol: {}}", ProxyHeaders(proxy_protocol=True)),
    ],
)
def test_a_configuration_says_what_differs_from_the_defaults(text: str, expected: ProxyHeaders) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, NOTHING),
        ("text", NOTHING),
        ({"concurrency": 2}, NOTHING),
        ({"gatewayTopology": {"numTrustedProxies": -1}}, NOTHING),
        ({"gatewayTopology": {"numTrustedProxies": 3}, "unknown": {}}, ProxyHeaders(trusted_proxies=3)),
    ],
)
def test_metadata_that_cannot_be_read_say_nothing(said: object, expected: ProxyHeaders) -> None:
    assert proxy_headers.of_metadata(said) == expected


def test_what_a_proxy_says_itself_wins() -> None:
    mesh = ProxyHeaders(server="mesh", trusted_proxies=2, request_id=False, client_cert="SANITIZE")
    assert proxy_headers.joined(mesh, NOTHING) is mesh
    assert proxy_headers.joined(mesh, ProxyHeaders(trusted_proxies=0, server="")) == ProxyHeaders(
        server="", trusted_proxies=0, request_id=False, client_cert="SANITIZE"
    )
    assert proxy_headers.joined(mesh, ProxyHeaders(request_id=True)).server == "mesh"
