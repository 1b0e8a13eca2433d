"""Each row: a spec in YAML, and the fields that are found fault with; "?" marks a warning, "~" one for the webhook."""

# Tables of YAML read better with one case to a line, however long.
# ruff: noqa: E501, ISC004

import pytest

from crds.parse import Parsed, parse
from tests.crds import tables

POLICIES = [
    ("loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}", ["loadBalancer.warmup.minimumPercent"]),
    (f"tls: {{mode: SIMPLE, sni: {'a' * 256}}}", ["tls.sni"]),
    ("loadBalancer: {warmup: {duration: 4000000000s}}", ["loadBalancer.warmup.duration"]),
    (
        "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388609}}}",
        ["loadBalancer.consistentHash.ringHash.minimumRingSize"],
    ),
    (
        'loadBalancer: {consistentHash: {httpCookie: {name: "a\\nb", attributes: [{name: a, value: "a\\nb"}]}}}',
        ["loadBalancer.consistentHash.httpCookie.name", "loadBalancer.consistentHash.httpCookie.attributes[0]"],
    ),
    ("loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}", ["loadBalancer.consistentHash"]),
    ("loadBalancer: {consistentHash: {httpCookie: {attributes: [{name: a}, {}]}, minimumRingSize: 3, maglev: {tableSize: 9}}}", [
        "loadBalancer.consistentHash.httpCookie.name", "loadBalancer.consistentHash.httpCookie.attributes[1].name",
        "?loadBalancer.consistentHash.minimumRingSize", "loadBalancer.consistentHash.minimumRingSize",
        "loadBalancer.consistentHash.maglev.tableSize"]),
    ("loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a, ringHash: {}, maglev: {tableSize: 1}}}", [
        "loadBalancer.consistentHash", "loadBalancer.consistentHash.maglev"]),
    ("loadBalancer: {warmup: {duration: 1s, aggression: -1}}", ["loadBalancer.warmup.aggression"]),
    ("loadBalancer: {consistentHash: {httpCookie: {name: a}, maglev: {tableSize: 65537}}}", []),
    ("loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 0s}}}", []),
    ("loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: -1s}}}", ["loadBalancer.consistentHash.httpCookie.ttl"]),
    ("loadBalancer: {simple: RANDOM, warmupDurationSecs: -1s}", ["loadBalancer.warmupDurationSecs"]),
    ("loadBalancer: {consistentHash: {maglev: {}}, warmup: {duration: 1s}}", ["loadBalancer.consistentHash.maglev.tableSize"]),
    ("connectionPool: {tcp: {tcpKeepalive: {time: 0s, interval: 1us}}}", [
        "~connectionPool.tcp.tcpKeepalive.time", "connectionPool.tcp.tcpKeepalive.interval"]),
    ("loadBalancer: {consistentHash: {maglev: {tableSize: 5000081}}}", ["loadBalancer.consistentHash.maglev.tableSize"]),
    ("loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}, warmup: {}}", [
        "loadBalancer.zoneAwareLbSetting", "loadBalancer.warmup.duration"]),
    ("loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 99}}, {from: b, to: {b: 100}}], failover: [{from: a}]}}", [
        "loadBalancer.localityLbSetting", "loadBalancer.localityLbSetting.distribute[0].to"]),
    ("loadBalancer: {zoneAwareLbSetting: {failoverPriority: [tier, topology.kubernetes.io/zone=a]}}", [
        "loadBalancer.zoneAwareLbSetting.failoverPriority[1]"]),
    *(
        ("loadBalancer: {localityLbSetting: {" + said + "}}", ["~" * late + f"loadBalancer.localityLbSetting.{field}" for field in fields])
        for late, said, fields in (
            (True, "distribute: [{from: a/*, to: {a/b/*: 70, a/c/*: 30}}, {from: b, to: {'*': 100}}]", []),
            (False, "distribute: [{from: a, to: {b: 0, c: 100}}]", ["distribute[0].to"]),
            (True, "distribute: [{from: a, to: {b: 50, b/c: 50}}]", ["distribute[0].to"]),
            (True, "distribute: [{from: a, to: {b/*: 50, b/c: 50}}]", ["distribute[0].to"]),
            (True, "distribute: [{from: a, to: {b/c/d: 50, b/c: 50}}]", ["distribute[0].to"]),
            (True, "distribute: [{from: a, to: {'*': 50, c: 50}}]", ["distribute[0].to"]),
            (True, "distribute: [{from: a, to: {'*/b': 100}}, {from: a, to: {b: 100}}]", ["distribute[0].to", "distribute"]),
            (True, "distribute: [{to: {b//c: 100}}]", ["distribute[0].to", "distribute"]),
            (True, "failover: [{from: a, to: b}], failoverPriority: [x=y]", []),
            (True, "failover: [{from: a, to: a}, {from: a/b, to: c}, {from: a, to: '*'}]", [f"failover[{n}]" for n in range(3)]),
            (True, "failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/zone]", ["failoverPriority"]),
        )
    ),
    ("connectionPool: {}", ["connectionPool"]),
    ("connectionPool: {tcp: {maxConnections: -1, connectTimeout: 0s, maxConnectionDuration: 1us, idleTimeout: 0s}}", [
        "connectionPool.tcp.maxConnections", "connectionPool.tcp.connectTimeout", "connectionPool.tcp.maxConnectionDuration"]),
    ("connectionPool: {http: {http2MaxRequests: -1, idleTimeout: -1s, h2UpgradePolicy: UPGRADE, useClientProtocol: true, "
     "http2KeepAlive: {interval: 1s}}}", [
        "connectionPool.http.http2MaxRequests", "connectionPool.http.idleTimeout", "connectionPool.http.useClientProtocol",
        "connectionPool.http.http2KeepAlive.timeout"]),
    ("connectionPool: {http: {maxRetries: 3}}, outlierDetection: {consecutive5xxErrors: 1, interval: 1s}", []),
    ("outlierDetection: {interval: 0s, maxEjectionPercent: 101, minHealthPercent: -1, consecutiveLocalOriginFailures: 1}", [
        "outlierDetection.interval", "outlierDetection.maxEjectionPercent", "outlierDetection.minHealthPercent",
        "outlierDetection.consecutiveLocalOriginFailures"]),
    ("outlierDetection: {outlierDetectionHttpErrorCodes: [100, 599]}", []),
    ("outlierDetection: {outlierDetectionHttpErrorCodes: [404, 99, 600]}", [
        "outlierDetection.outlierDetectionHttpErrorCodes[1]", "outlierDetection.outlierDetectionHttpErrorCodes[2]"]),
    ("tls: {mode: ISTIO_MUTUAL}", []),
    ("tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: a, credentialName: b, subjectAltNames: [c]}", [
        "tls.caCertificates", "tls.credentialName", "tls.subjectAltNames"]),
    ("tls: {mode: MUTUAL, insecureSkipVerify: true, credentialName: b}", []),
    ("tls: {mode: MUTUAL, credentialName: b, clientCertificate: a, privateKey: c}", ["tls.clientCertificate", "tls.privateKey"]),
    ("tls: {mode: MUTUAL, privateKey: c}", ["tls.clientCertificate"]),
    ("tls: {mode: SIMPLE, credentialName: b, caCertificates: a, caCrl: c}", ["tls.caCertificates", "~tls.caCrl"]),
]  # fmt: skip
SERVER_TLS = [
    (
        "HTTPS",
        "mode: ISTIO_MUTUAL, verifyCertificateSpki: [x], verifyCertificateHash: [y]",
        ["tls.verifyCertificateSpki[0]", "tls.verifyCertificateHash[0]"],
    ),
    ("HTTPS", None, ["tls"]),
    ("HTTP", "httpsRedirect: true", []),
    ("HTTPS", "mode: SIMPLE, credentialName: a, httpsRedirect: true", ["?tls.httpsRedirect"]),
    ("HTTP", "mode: SIMPLE, credentialName: a", ["tls"]),
    ("TLS", "mode: PASSTHROUGH, credentialName: a", ["?tls"]),
    ("TLS", "mode: ISTIO_MUTUAL", []),
    ("TLS", "mode: ISTIO_MUTUAL, credentialNames: [a]", ["tls.credentialNames"]),
    ("TLS", "mode: SIMPLE", ["tls.serverCertificate", "tls.privateKey"]),
    ("TLS", "mode: SIMPLE, serverCertificate: a, privateKey: b, caCrl: c", ["tls.caCrl"]),
    ("TLS", "mode: MUTUAL, serverCertificate: a, privateKey: b, credentialName: c", ["tls.serverCertificate"]),
    ("TLS", "mode: MUTUAL, serverCertificate: a, privateKey: b", ["tls.caCertificates"]),
    ("TLS", "mode: MUTUAL, serverCertificate: a, privateKey: b, caCertCredentialName: c", []),
    ("TLS", "mode: OPTIONAL_MUTUAL, caCertificates: c, tlsCertificates: [{serverCertificate: a}, {}, {}]", [
        "tls.tlsCertificates", "tls.tlsCertificates[0].privateKey", "tls.tlsCertificates[1].serverCertificate",
        "tls.tlsCertificates[1].privateKey", "tls.tlsCertificates[2].serverCertificate",
        "tls.tlsCertificates[2].privateKey"]),
    ("TLS", "minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2, cipherSuites: [a, a]", [
        "tls.minProtocolVersion", "?tls.cipherSuites[1]"]),
    ("TLS", "minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3", []),
    ("TCP", "minProtocolVersion: TLSV1_2", ["~tls"]),
    ("HTTP", "mode: AUTO_PASSTHROUGH", []),
    ("HTTP", "httpsRedirect: true, privateKey: a", ["?tls", "tls"]),
]  # fmt: skip


def _expect(parsed: Parsed, prefix: str, fields: list[str]) -> None:
    expected = [(f[:1] if f[:1] in tables.MARKS else "") + f"{prefix}.{f.lstrip('?~')}".rstrip(".") for f in fields]
    assert sorted(tables.fields(parsed)) == sorted(expected)
    assert (parsed.object is None) == any(field[:1] not in tables.MARKS for field in fields)


@pytest.mark.parametrize(("policy", "fields"), POLICIES)
def test_traffic_policies(policy: str, fields: list[str]) -> None:
    parsed = tables.parsed("DestinationRule", f"{{host: b, trafficPolicy: {{{policy}}}}}")
    _expect(parsed, "spec.trafficPolicy", fields)
    at_port = tables.parsed(
        "DestinationRule", f"{{host: b, trafficPolicy: {{portLevelSettings: [{{port: {{number: 1}}, {policy}}}]}}}}"
    )
    _expect(at_port, "spec.trafficPolicy.portLevelSettings[0]", fields)


@pytest.mark.parametrize(("protocol", "tls", "fields"), SERVER_TLS)
def test_tls_of_servers(protocol: str, tls: str | None, fields: list[str]) -> None:
    given = "" if tls is None else f", tls: {{{tls}}}"
    server = f"{{port: {{number: 1, name: a, protocol: {protocol}}}, hosts: [a.b]{given}}}"
    _expect(tables.parsed("Gateway", f"{{servers: [{server}]}}"), "spec.servers[0]", fields)


@pytest.mark.parametrize(
    ("interval", "wrong"), [("-1s", ["spec.trafficPolicy.retryBudget.budgetInterval"]), ("0s", [])]
)
def test_a_budget_of_retries_has_no_time_below_zero(interval: str, wrong: list[str]) -> None:
    found = parse(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": "a", "namespace": "b"},
            "spec": {
                "host": "c",
                "trafficPolicy": {"retryBudget": {"budgetInterval": interval, "percent": 1}},
            },
        }
    )
    assert [each.field for each in found.diagnostics] == wrong
