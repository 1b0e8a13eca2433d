"""What is said in vain, and told: fields that another one makes moot, or that a protocol has no use for."""

from __future__ import annotations

import pytest

from tests.mesh import fleet, world


@pytest.mark.parametrize(
    ("port", "tls", "fields"),
    [
        ("protocol: HTTP", "httpsRedirect: true", []),
        ("protocol: HTTP", "mode: SIMPLE, credentialName: a", ["mode", "credentialName"]),
        ("protocol: TLS", "mode: PASSTHROUGH, minProtocolVersion: TLSV1_2", ["minProtocolVersion"]),
        (
            "protocol: TLS",
            "mode: AUTO_PASSTHROUGH, cipherSuites: [a], httpsRedirect: true",
            ["cipherSuites", "httpsRedirect"],
        ),
        ("protocol: HTTPS", "mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_2", []),
        (
            "protocol: HTTPS",
            "mode: SIMPLE, credentialName: a, subjectAltNames: [b], verifyCertificateHash: [c]",
            ["subjectAltNames", "verifyCertificateHash"],
        ),
        (
            "protocol: HTTPS",
            "mode: MUTUAL, credentialName: a, caCrl: c, caCertificates: d",
            ["caCertificates", "caCrl"],
        ),
        ("protocol: HTTPS", "mode: MUTUAL, credentialName: a, caCertCredentialName: c, subjectAltNames: [b]", []),
        ("protocol: HTTPS", "mode: MUTUAL, serverCertificate: a, privateKey: b, caCertificates: c, caCrl: d", []),
        (
            "protocol: HTTPS",
            "mode: MUTUAL, serverCertificate: a, privateKey: b, caCertCredentialName: c, caCertificates: d, caCrl: e",
            ["caCertificates"],
        ),
        ("protocol: HTTPS", "mode: MUTUAL, serverCertificate: a, privateKey: b, caCertCredentialName: c", []),
        (
            "protocol: HTTPS",
            "mode: SIMPLE, serverCertificate: a, privateKey: b, caCertCredentialName: c",
            ["caCertCredentialName"],
        ),
        ("protocol: HTTPS", "mode: MUTUAL, credentialName: a, insecureSkipVerify: true", []),
        ("protocol: HTTPS", "mode: SIMPLE, credentialName: a, insecureSkipVerify: true", ["insecureSkipVerify"]),
        ("protocol: HTTPS", "mode: ISTIO_MUTUAL, insecureSkipVerify: true", ["insecureSkipVerify"]),
        ("protocol: HTTPS", "mode: ISTIO_MUTUAL, caCrl: a, maxProtocolVersion: TLSV1_3", ["caCrl"]),
    ],
)
def test_what_a_servers_mode_has_no_use_for_is_told(port: str, tls: str, fields: list[str]) -> None:
    server = f"{{port: {{number: 9443, name: a, {port}}}, hosts: [a], tls: {{{tls}}}}}"
    told = world.build(world.gateway("gw", f"{{selector: {{}}, servers: [{server}]}}")).told()
    assert [field for code, _, field in told if code == "NOT_SUPPORTED"] == [
        f"spec.servers[0].tls.{name}" for name in fields
    ]


@pytest.mark.parametrize(("by", "hashes"), [("useSourceIp: true", True), ("httpHeaderName: x", False)])
def test_tcp_connections_are_spread_by_the_clients_address_where_the_policy_says_so(by: str, *, hashes: bool) -> None:
    policy = world.subsets("web", policy=f"{{loadBalancer: {{consistentHash: {{{by}}}}}}}")
    found = world.build(world.service("web", "tcp:9000"), policy).sidecar().listeners["10.0.0.1_9000"].chains[0]
    assert found.tcp is not None
    assert found.tcp.hash_source is hashes


def test_a_hash_of_what_tcp_connections_do_not_have_is_told() -> None:
    header = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}
    address = {"loadBalancer": {"consistentHash": {"useSourceIp": True}}}
    ports = [{"name": "http", "port": 80}, {"name": "tcp", "port": 9000}]
    of_http = {"portLevelSettings": [{"port": {"number": 80}, **header}, {"port": {"number": 9000}, **header}]}
    subsets = [{"name": "v1"}, {"name": "v2", "trafficPolicy": header}, {"name": "v3", "trafficPolicy": address}]
    found = fleet.Mesh(
        fleet.kube_service("db", ports=ports),
        fleet.kube_service("plain"),
        fleet.istio("DestinationRule", "db", {"host": "db", "trafficPolicy": of_http, "subsets": subsets}),
        fleet.istio("DestinationRule", "plain", {"host": "plain", "trafficPolicy": header}),
    )
    assert [told for told in found.told() if told[0] == "NOT_SUPPORTED"] == [
        ("NOT_SUPPORTED", "db", "spec.subsets[1].trafficPolicy.loadBalancer.consistentHash"),
        ("NOT_SUPPORTED", "db", "spec.trafficPolicy.portLevelSettings[1].loadBalancer.consistentHash"),
    ]
