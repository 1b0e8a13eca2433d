"""Each row: a spec in YAML, and the fields that are found fault with; "?" marks a warning, "~" one for the webhook."""

# Tables of YAML read better with one case to a line, however long.
# ruff: noqa: E501, ISC004

import pytest

from crds.checks import values
from crds.checks.patterns import Patterns
from crds.diagnostic import Code
from crds.parse import Parsed, parse
from tests.crds import tables

INTERNAL = "internal.istio.io/gateway-semantics"
TO = "route: [{destination: {host: b}}]"
ROUTES = f"http: [{{{TO}}}]"
SNI = "tls: [{match: [{sniHosts: [b]}], " + TO + "}]"
SPECS: dict[str, list[tuple[str, list[str]]]] = {
    "VirtualService": [
        (f"hosts: [b, '*.c.d', 10.0.0.1], {ROUTES}, exportTo: [., other]", []),
        (f"hosts: ['*'], gateways: [gw, ns/gw], {ROUTES}", []),
        (f"hosts: ['*'], {ROUTES}", ["hosts[0]"]),
        (
            f"hosts: ['b!', 'a.*.b', '', 'a.5', 'b.', '{'a.' * 200}b'], {ROUTES}",
            [f"hosts[{i}]" for i in (0, 1, 2, 3, 5)],
        ),
        (f"hosts: ['*.foo.bar', '*.bar', x.bar, X.bar, y], {ROUTES}", ["hosts[1]", "hosts[2]", "hosts[3]"]),
        (
            f"hosts: [b], gateways: [gw.ns, 'a/*', 'A B', '~/gw', ./gw], {ROUTES}",
            ["?gateways[0]", "gateways[1]", "gateways[2]", "gateways[3]", "~gateways[4]"],
        ),
        ("hosts: [b]", [""]),
        (
            f"{ROUTES}, gateways: [g], tcp: [{{{TO}}}], {SNI}",
            ["gateways", "tcp", "tls", "~tls[0].match[0].sniHosts[0]"],
        ),
        ("http: [{delegate: {name: x}}]", ["http[0].delegate"]),
        (f"hosts: [b], {SNI}", []),
        (
            "hosts: ['*.b'], tls: [{match: [{sniHosts: [a.b, '*.c', '*.*.b'], port: 99999}]}]",
            ["tls[0].match[0].port", "~tls[0].match[0].sniHosts[1]", "tls[0].match[0].sniHosts[2]", "tls[0].route"],
        ),
        (
            f"hosts: [outbound_.80_._.b, 10.0.0.1], gateways: [g], tls: [{{match: [{{sniHosts: [outbound_.80_._.b, 10.0.0.1]}}], {TO}}}]",
            ["?tls[0].match[0].sniHosts[1]"],
        ),
        (
            f"hosts: [b], tls: [{{match: [{{sniHosts: [b.ns.svc.cluster.local, b.other.svc]}}], {TO}}}]",
            ["?tls[0].match[0].sniHosts[0]", "~tls[0].match[0].sniHosts[1]"],
        ),
        (
            f"hosts: [outbound_.80_._.b], tls: [{{match: [{{sniHosts: [c]}}], {TO}}}], gateways: [mesh]",
            ["hosts[0]", "~tls[0].match[0].sniHosts[0]"],
        ),
        (
            f"hosts: [b], tcp: [{{match: [{{gateways: [a/b/c], sourceLabels: {{a: '*'}}}}], {TO}}}]",
            ["tcp[0].match[0].gateways[0]", "tcp[0].match[0].sourceLabels.a"],
        ),
        (f"hosts: [b], tls: [{{{TO}}}, {{match: [{{port: 1}}], {TO}}}]", ["tls[0].match", "tls[1].match[0].sniHosts"]),
        (
            f"hosts: [b], tcp: [{{match: [{{destinationSubnets: [10.0.0.0/8, x], port: 80}}], {TO}}}, {{}}]",
            ["tcp[0].match[0].destinationSubnets[1]", "tcp[1].route"],
        ),
        (
            f"hosts: [b], {ROUTES}, exportTo: [., ns, '*', '~', 'A B']",
            ["exportTo[1]", "exportTo[3]", "exportTo[4]", "exportTo", "exportTo"],
        ),
    ],
    "DestinationRule": [
        (
            "host: b, subsets: [{name: v1, labels: {a: b}}, {name: v2, trafficPolicy: {}, labels: {'a b': c}}]",
            ["~subsets[1].trafficPolicy", 'subsets[1].labels["a b"]'],
        ),
        ("host: 10.0.0.1", ["host"]),
        ("host: '123', workloadSelector: {matchLabels: {a: 'b*'}}", ["workloadSelector.matchLabels.a"]),
        (
            "subsets: [{}, {name: 'a b'}, {name: v1}, {name: v1}]",
            ["host", "subsets[0].name", "subsets[1].name", "subsets[3].name"],
        ),
        ("host: b, workloadSelector: {}, exportTo: [other]", ["exportTo", "?workloadSelector"]),
        ("host: b, workloadSelector: {matchLabels: {a: b}}, exportTo: [.]", []),
        (
            "host: b, trafficPolicy: {portLevelSettings: [{}, {port: {number: 0}}]}",
            [
                "trafficPolicy.portLevelSettings[0].port",
                "~trafficPolicy.portLevelSettings[0]",
                "trafficPolicy.portLevelSettings[1].port.number",
                "~trafficPolicy.portLevelSettings[1]",
            ],
        ),
        (
            "host: b, trafficPolicy: {tunnel: {protocol: X, targetHost: '%A%', targetPort: 0}, retryBudget: {percent: 120}}",
            [
                "trafficPolicy.tunnel.targetPort",
                "trafficPolicy.tunnel.targetHost",
                "trafficPolicy.tunnel.protocol",
                "trafficPolicy.retryBudget.percent",
            ],
        ),
        ("host: b, trafficPolicy: {tunnel: {targetPort: 1}, retryBudget: {}}", ["trafficPolicy.tunnel.targetHost"]),
        (
            "host: b, trafficPolicy: {tunnel: {targetHost: '::1', targetPort: 1}, proxyProtocol: {}}",
            ["trafficPolicy.proxyProtocol"],
        ),
    ],
    "ServiceEntry": [
        (
            "hosts: [a.b], addresses: [10.0.0.0/8], ports: [{number: 80, name: http, targetPort: 8080}], exportTo: ['~']",
            [],
        ),
        ("hosts: ['*', 'b!'], addresses: [x]", ["hosts[0]", "hosts[1]", "addresses[0]"]),
        (
            "ports: [{number: 0, targetPort: 70000}, {number: 80, name: a}, {number: 80, name: a}]",
            ["hosts", "ports[0].number", "ports[0].targetPort", "ports[0].name", "ports[2].name", "ports[2].number"],
        ),
        ("hosts: [a.b], exportTo: ['~', ns]", ["exportTo"]),
        (
            "hosts: ['*-a.b', '*.b'], ports: [{number: 1, name: a, protocol: TLS}]",
            ["hosts[0]"],
        ),
        (
            "hosts: [a.b], resolution: NONE, workloadSelector: {labels: {a: '*'}}, endpoints: [{address: 1.1.1.1}]",
            ["endpoints", "?workloadSelector", "workloadSelector.labels.a", "endpoints"],
        ),
        ("hosts: [a.b], resolution: STATIC, workloadSelector: {labels: {a: b}}", []),
        (
            "hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: "
            "[{address: a.b}, {address: 1.1.1.1, ports: {http: 0, x: 1}}, {address: '', network: n}]",
            ["endpoints[0].address", "endpoints[1].ports.http", "endpoints[1].ports.x"],
        ),
        (
            "hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 'unix:///a'}]",
            [],
        ),
        ("hosts: [a.b], resolution: STATIC, endpoints: [{address: 'unix://a'}]", ["endpoints[0].address", "ports"]),
        (
            "hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 'unix:///a/', "
            "ports: {http: 1}, labels: {a: '!'}}]",
            ["endpoints[0].address", "endpoints[0].ports", "endpoints[0].labels.a"],
        ),
        (
            "hosts: [a.b], resolution: STATIC, endpoints: [{address: x.y, network: n}, {network: n}]",
            ["~endpoints[0].address"],
        ),
        ("hosts: [a.b], resolution: DNS, endpoints: [{network: n}]", ["~endpoints[0].address"]),
        ("hosts: [a.b], resolution: DNS, addresses: [10.0.0.1, 10.0.0.0/8]", ["~addresses[1]"]),
        ("hosts: [a.b], addresses: [10.0.0.0/255.0.0.0]", ["addresses[0]"]),
        (
            "hosts: [a.b, c.d], resolution: DNS, ports: [{number: 1, name: a, protocol: TLS}, {number: 2, name: 'b c'}]",
            ["~ports[1].name", "~ports[1].protocol"],
        ),
        ("hosts: [a.b, c.d], ports: [{number: 2, name: b, protocol: NOPE}]", ["~ports[0].protocol"]),
        ("hosts: ['*.b'], resolution: DNS", ["hosts[0]"]),
        (
            "hosts: ['*.b'], resolution: DNS, endpoints: [{address: 'unix:///a'}, {address: c.d}, {address: 1.1.1.1}]",
            ["endpoints[0].address"],
        ),
        ("hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: c.d}, {address: e.f}]", ["endpoints"]),
        (
            "hosts: [a.b, '*.c'], resolution: DYNAMIC_DNS, ports: [{number: 1, name: a, protocol: tcp}, "
            "{number: 2, name: b, protocol: HTTP}]",
            ["hosts[0]", "ports[0].protocol", "~ports[0].protocol"],
        ),
    ],
    "Gateway": [
        (
            "servers: [{name: a, port: {number: 80, name: http, protocol: HTTP}, hosts: ['*', ns/a.b, '*/*.c', 10.0.0.1]}]",
            [],
        ),
        (
            "servers: [{port: {number: 80, name: a, protocol: udp}, hosts: ['*']}, "
            "{port: {number: 81, name: a, protocol: HTTP_PROXY}, hosts: ['*']}]",
            ["~servers[1].port.name"],
        ),
        ("servers: [{bind: 'unix:///a', port: {number: 0, name: a, protocol: HTTP}, hosts: ['*']}]", []),
        (
            "servers: [{bind: 'unix://a', port: {number: 0, name: a, protocol: HTTP}, hosts: ['*']}]",
            ["servers[0].bind"],
        ),
        ("selector: {a: b}", ["servers"]),
        ("servers: [{}]", ["servers[0].hosts", "servers[0].port"]),
        ("servers: [{}, {}]", [f"servers[{n}].{field}" for n in (0, 1) for field in ("hosts", "port")]),
        (
            "servers: [{name: a, bind: x, hosts: ['~/a.b', short, 'x.*.y'], port: {protocol: kafka, targetPort: 70000}}, "
            "{name: a, bind: 'unix:///a', hosts: [a.b], port: {number: 1, name: b, protocol: tcp}}]",
            [
                "servers[0].hosts[0]",
                "servers[0].hosts[1]",
                "servers[0].hosts[2]",
                "servers[0].bind",
                "servers[0].port.number",
                "~servers[0].port.targetPort",
                "servers[0].port.name",
                "servers[0].port.protocol",
                "?servers[1].name",
                "servers[1].port.number",
            ],
        ),
    ],
    "Sidecar": [
        ("egress: [{port: {number: 80}, hosts: [./*]}, {hosts: [./*, '~/*', '~other/a.b', ns/*.c]}]", []),
        ("{}", [""]),
        (
            "egress: [{bind: 'unix:///x', captureMode: IPTABLES, port: {number: 0}, hosts: [./*]}, "
            "{bind: 'unix:///x', port: {number: 0}, hosts: [./*]}, {bind: 'unix://x', port: {number: 0}, hosts: [./*]}, "
            "{bind: 'unix:///x', port: {number: 1, name: 'a b', protocol: NOPE, targetPort: 2}, hosts: [./*]}]",
            [
                "~egress[0].captureMode",
                "~egress[1].port.number",
                "~egress[2].bind",
                "~egress[3].bind",
                "~egress[3].port.name",
                "~egress[3].port.protocol",
                "~egress[3].port.targetPort",
            ],
        ),
        (
            "ingress: [{port: {number: 80}, defaultEndpoint: ':80'}, {port: {number: 81}, defaultEndpoint: 'unix://x'}]",
            ["ingress[1].defaultEndpoint"],
        ),
        ("workloadSelector: {labels: {a: '*'}}, egress: [{hosts: [./*]}]", ["workloadSelector.labels.a"]),
        ("workloadSelector: {}, outboundTrafficPolicy: {mode: ALLOW_ANY}", ["?workloadSelector"]),
        (
            "inboundConnectionPool: {}, outboundTrafficPolicy: {egressProxy: {host: 'a*b'}}",
            [
                "inboundConnectionPool",
                "outboundTrafficPolicy.egressProxy",
                "outboundTrafficPolicy.egressProxy.host",
                "outboundTrafficPolicy.egressProxy.port",
            ],
        ),
        ("outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, port: {number: 80}}}", []),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, port: {number: 0}}}",
            ["outboundTrafficPolicy.egressProxy.port.number"],
        ),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, subset: 'a b', port: {number: 80}}}",
            ["outboundTrafficPolicy.egressProxy.subset"],
        ),
        (
            "egress: [{hosts: [x, '~A B/*', './a*.b']}, {bind: x, port: {number: 0}}, {bind: 'unix:///x', port: {}, hosts: [./*, ./*]}]",
            [
                "egress[0]",
                "egress[0].hosts[0]",
                "egress[0].hosts[1]",
                "egress[0].hosts[2]",
                "egress[1].port.number",
                "egress[1].hosts",
                "?egress[2].hosts[1]",
            ],
        ),
        (
            "ingress: [{}, {port: {number: 0}, bind: x, defaultEndpoint: x}, {port: {number: 80}, defaultEndpoint: '127.0.0.1:x'}, "
            "{port: {number: 80}, defaultEndpoint: 'unix:///a', connectionPool: {tcp: {}}}, "
            "{port: {number: 80}, bind: 1.1.1.1, defaultEndpoint: '[::1]:99999'}]",
            [
                "ingress[0].port",
                "ingress[1].port.number",
                "ingress[1].bind",
                "ingress[1].defaultEndpoint",
                "ingress[2].defaultEndpoint",
                "ingress[4].defaultEndpoint",
                "~ingress[3].port.number",
                "~ingress[4].port.number",
            ],
        ),
        (
            "ingress: [{port: {number: 80, protocol: HTTP}, tls: {mode: AUTO_PASSTHROUGH, httpsRedirect: true}}]",
            ["ingress[0].tls.mode", "ingress[0].tls", "ingress[0].tls.httpsRedirect"],
        ),
        (
            "ingress: [{port: {number: 80, protocol: HTTPS}, tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}]",
            [],
        ),
        ("ingress: [{tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}]", ["ingress[0].port"]),
        *(
            (
                f"ingress: [{{port: {{number: 80, protocol: HTTPS}}, tls: {{mode: SIMPLE, {name}: {value}}}}}]",
                [f"ingress[0].tls.{name}"],
            )
            for name, value in (
                ("credentialName", "a"),
                ("credentialNames", "[a]"),
                ("tlsCertificates", "[{serverCertificate: a, privateKey: b}]"),
            )
        ),
    ],
}
PEERS = [
    ("mtls: {mode: STRICT}", []),
    ("portLevelMtls: {80: {mode: DISABLE}}", ["portLevelMtls"]),
    ("selector: {matchLabels: {a: b}}, portLevelMtls: {0: {}}", ['portLevelMtls["0"]']),
    ("selector: {matchLabels: {a: b}}, portLevelMtls: {}", ["~portLevelMtls"]),
    ("selector: {matchLabels: {a: '*', '': b}}", ["selector.matchLabels.a", 'selector.matchLabels[""]']),
]


def _expect(parsed: Parsed, prefix: str, fields: list[str]) -> None:
    expected = [(f[:1] if f[:1] in tables.MARKS else "") + f"{prefix}.{f.lstrip('?~')}".rstrip(".") for f in fields]
    assert sorted(tables.fields(parsed)) == sorted(expected)
    assert (parsed.object is None) == any(field[:1] not in tables.MARKS for field in fields)


@pytest.mark.parametrize(("kind", "spec", "fields"), [(k, *row) for k, rows in SPECS.items() for row in rows])
def test_specs(kind: str, spec: str, fields: list[str]) -> None:
    _expect(tables.parsed(kind, spec if spec == "{}" else f"{{{spec}}}"), "spec", fields)


@pytest.mark.parametrize(("spec", "fields"), PEERS)
def test_peer_authentication(spec: str, fields: list[str]) -> None:
    _expect(tables.parsed("PeerAuthentication", f"{{{spec}}}", "security.istio.io"), "spec", fields)


@pytest.mark.parametrize(
    ("kind", "spec", "code"),
    [
        ("VirtualService", "{hosts: [b], http: [{route: [{destination: {host: b}, weight: -1}]}]}", Code.WEIGHT_SUM),
        ("VirtualService", "{hosts: [b, b], http: [{redirect: {uri: /a}}]}", Code.DUPLICATE_HOST),
        ("VirtualService", "{hosts: [b], http: [{match: [{uri: {regex: '('}}], redirect: {uri: /a}}]}", Code.BAD_REGEX),
        ("VirtualService", "{hosts: [b], http: [{}]}", Code.MISSING_FIELD),
        ("DestinationRule", "{host: b, subsets: [{name: a}, {name: a}]}", Code.DUPLICATE_SUBSET),
    ],
)
def test_findings_have_codes_of_their_own(kind: str, spec: str, code: Code) -> None:
    assert [finding.code for finding in tables.parsed(kind, spec).diagnostics] == [code]


@pytest.mark.parametrize(
    ("pattern", "name", "covered", "overlapping"),
    [
        ("a.b", "A.b", True, True),
        ("*.b", "a.b", True, True),
        ("*.b", "*.a.b", True, True),
        ("*.a.b", "*.b", False, True),
        ("a.b", "*.b", False, True),
        ("*", "x", True, True),
        ("*.c", "a.b", False, False),
    ],
)
def test_patterns_cover_and_overlap(pattern: str, name: str, *, covered: bool, overlapping: bool) -> None:
    assert Patterns([pattern]).covers(name) == covered
    for pair in ([pattern, name], [name, pattern]):
        assert [*Patterns(pair).overlaps()] == ([(1, 0)] if overlapping else [])


def test_a_costly_pattern_is_refused_quickly_and_in_words() -> None:
    assert "RE2" in (values.regex("(") or "")
    assert values.regex("(a+)+$") is None


@pytest.mark.parametrize(("location", "expected"), [("MESH_INTERNAL", ["spec.resolution"]), ("MESH_EXTERNAL", [])])
def test_hosts_with_a_waypoint_are_not_resolved_on_demand(location: str, expected: list[str]) -> None:
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "a", "namespace": "b", "labels": {"istio.io/use-waypoint": "w"}},
        "spec": {
            "hosts": ["*.a.com"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "location": location,
            "resolution": "DYNAMIC_DNS",
        },
    }
    assert [found.field for found in parse(document).diagnostics] == expected


@pytest.mark.parametrize(("annotations", "expected"), [({}, ["~metadata.name"]), ({INTERNAL: "gateway"}, [])])
def test_names_of_gateways_have_no_dots_but_in_what_is_made_of_the_gateway_api(
    annotations: dict[str, str], expected: list[str]
) -> None:
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "a.b", "namespace": "b", "annotations": annotations},
        "spec": {"servers": [{"hosts": ["*"], "port": {"number": 80, "name": "http", "protocol": "HTTP"}}]},
    }
    assert tables.fields(parse(document)) == expected
