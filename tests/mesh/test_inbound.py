from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from istiod.mesh import inbound
from istiod.mesh.inbound import Place
from istiod.mesh.policy import MutualTls
from istiod.mesh.scope import Chain, Discovery, InboundScope, Listener
from istiod.mesh.service import Protocol
from tests.mesh import fleet

LABELS = frozenset({("app", "web")})


def place(ports: Mapping[str, int] | None = None, address: str = "10.1.0.1") -> Place:
    return Place(namespace="default", labels=LABELS, ports=ports or {}, addresses=(address,))


def shape(*texts: str, at: Place | None = None) -> inbound.Shape:
    return inbound.shape(fleet.Mesh(*texts).context.model, at or place())


def build(*texts: str, at: Place | None = None) -> InboundScope:
    model = fleet.Mesh(*texts).context.model
    return inbound.scope(inbound.shape(model, at or place()), model.settings)


def listener(*texts: str) -> Listener:
    return build(*texts).listeners["virtualInbound"]


def ports(found: inbound.Shape) -> list[tuple[int, int, str]]:
    return [(p.target, p.service_port, p.service.name) for p in found.ports]


def test_services_that_select_the_workload_give_it_ports() -> None:
    found = shape(
        fleet.kube_service(
            "web",
            ports=[
                {"name": "http", "port": 80, "targetPort": 8080},
                {"name": "main", "port": 81, "targetPort": "named"},
                {"name": "lost", "port": 82, "targetPort": "unknown"},
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "quic", "port": 85, "protocol": "UDP", "targetPort": 8080},
                {"name": "plain", "port": 83},
                {"name": "loop", "port": 84, "targetPort": 15006},
            ],
        ),
        fleet.kube_service("other"),
        fleet.kube_service("web", "elsewhere"),
        at=place({"named": 9090}),
    )
    assert ports(found) == [(53, 53, "web"), (83, 83, "web"), (8080, 80, "web"), (9090, 81, "web")]


def test_the_oldest_service_names_a_port_that_several_target() -> None:
    new = fleet.kube_service("a", spec={"selector": {"app": "web"}}, creationTimestamp="2024-01-02T00:00:00Z")
    old = fleet.kube_service("b", spec={"selector": {"app": "web"}}, creationTimestamp="2024-01-01T00:00:00Z")
    assert ports(shape(new, old)) == [(8080, 80, "b")]


def test_a_service_without_selector_finds_its_workload_by_address() -> None:
    texts = (
        fleet.kube_service("manual", spec={"selector": {}}),
        fleet.kube_service("empty", spec={"selector": {}}),
        fleet.slice_of("manual", fleet.backend("10.1.0.1")),
    )
    assert ports(shape(*texts)) == [(8080, 80, "manual")]
    assert ports(shape(*texts, at=place(address="10.1.0.2"))) == []
    assert ports(shape(*texts, fleet.kube_service("web"))) == [(8080, 80, "web")]


def test_a_service_entry_finds_its_workload_by_the_endpoints_that_it_names() -> None:
    ports_of = [{"name": "http", "number": 80}, {"name": "tcp", "number": 90, "targetPort": 9000}]
    endpoints = [{"address": "10.1.0.1", "ports": {"http": 8080}}, {"address": "10.1.0.2"}]
    spec = {"hosts": ["vm.com"], "ports": ports_of, "resolution": "STATIC", "endpoints": endpoints}
    texts = (fleet.istio("ServiceEntry", "vm", spec), fleet.kube_service("web", ports=[{"port": 70, "name": "tcp"}]))
    assert ports(shape(*texts)) == [(70, 70, "web"), (8080, 80, "vm.com"), (9000, 90, "vm.com")]
    assert ports(shape(*texts, at=place(address="10.1.0.3"))) == [(70, 70, "web")]


def test_connection_limits_hold_at_the_receiving_end() -> None:
    limit = {"connectionPool": {"tcp": {"maxConnections": 7}}}
    found = build(
        fleet.kube_service("web"), fleet.istio("DestinationRule", "web", {"host": "web", "trafficPolicy": limit})
    )
    assert found.clusters["inbound|8080||"].policy.connection_pool.max_connections == 7


def test_clusters_go_to_the_original_destination_from_istios_address() -> None:
    found = build(fleet.kube_service("web", ports=[{"port": 80, "targetPort": 8080}])).clusters
    assert sorted(found) == ["InboundPassthroughCluster", "inbound|8080||"]
    own, rest = found["inbound|8080||"], found["InboundPassthroughCluster"]
    assert (own.discovery, own.bind_addresses, own.port) == (Discovery.ORIGINAL_DST, ("127.0.0.6",), 8080)
    assert own.downstream_protocol
    assert (rest.discovery, rest.bind_addresses) == (Discovery.ORIGINAL_DST, ("127.0.0.6",))


def test_the_mesh_may_send_inbound_traffic_to_localhost() -> None:
    found = build(fleet.kube_service("web"), fleet.mesh_config("inboundTrafficPolicy: {mode: LOCALHOST}"))
    own = found.clusters["inbound|8080||"]
    assert (own.discovery, own.bind_addresses, own.protocol) == (Discovery.STATIC, (), Protocol.HTTP)
    assert [(e.address, e.port) for e in own.endpoints] == [("127.0.0.1", 8080)]


def sidecar(*ingress: Mapping[str, object], **more: object) -> str:
    return fleet.istio("Sidecar", "own", {"ingress": list(ingress), **more})


def to(scope: InboundScope, port: int) -> tuple[Discovery, list[tuple[str, int]], int, str]:
    found = scope.clusters[f"inbound|{port}||"]
    return (
        found.discovery,
        [(e.address, e.port) for e in found.endpoints],
        found.port_override,
        "".join(found.bind_addresses),
    )


HTTP = {"port": {"number": 9080, "protocol": "HTTP", "name": "http"}}


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("127.0.0.1:8080", (Discovery.STATIC, [("127.0.0.1", 8080)], 0, "")),
        ("unix:///app.sock", (Discovery.STATIC, [("/app.sock", 9080)], 0, "")),
        ("0.0.0.0:8080", (Discovery.ORIGINAL_DST, [], 8080, "127.0.0.6")),
        ("", (Discovery.ORIGINAL_DST, [], 0, "127.0.0.6")),
    ],
)
def test_a_sidecar_names_the_ports_in_place_of_services(endpoint: str, expected: object) -> None:
    found = build(fleet.kube_service("web"), sidecar({**HTTP, "defaultEndpoint": endpoint}))
    assert sorted(found.clusters) == ["InboundPassthroughCluster", "inbound|9080||"]
    assert to(found, 9080) == expected
    (own,) = [
        one for one in found.listeners["virtualInbound"].chains if one.match.destination_port == 9080 and not one.tls
    ]
    assert own.http is not None
    assert own.origin is not None
    assert own.origin.key.kind == "Sidecar"


def test_a_port_of_a_sidecar_is_known_by_the_service_that_sends_to_it() -> None:
    limit = {"connectionPool": {"tcp": {"maxConnections": 7}}}
    rule = fleet.istio("DestinationRule", "web", {"host": "web", "trafficPolicy": limit})
    both = sidecar({"port": {"number": 8080, "protocol": "HTTP"}}, HTTP)
    found = shape(fleet.kube_service("web"), rule, both)
    assert [(p.target, p.service.host, p.pool.max_connections) for p in found.ports] == [
        (8080, "web.default.svc.cluster.local", 7),
        (9080, "own.default", None),
    ]


def test_a_sidecars_limits_come_before_those_of_the_service() -> None:
    limits = [{"tcp": {"maxConnections": number}} for number in (7, 8)]
    rule = fleet.istio("DestinationRule", "web", {"host": "web", "trafficPolicy": {"connectionPool": limits[0]}})
    found = shape(fleet.kube_service("web"), rule, sidecar(inboundConnectionPool=limits[1]))
    assert [p.pool.max_connections for p in found.ports] == [8]


@pytest.mark.parametrize(
    ("more", "listener", "endpoint"),
    [
        ({}, "10.1.0.1_9080", ("127.0.0.1", 9080)),
        ({"bind": "10.9.9.9"}, "10.9.9.9_9080", ("127.0.0.1", 9080)),
        ({"defaultEndpoint": "127.0.0.1:80"}, "10.1.0.1_9080", ("127.0.0.1", 80)),
        ({"defaultEndpoint": "0.0.0.0:80"}, "10.1.0.1_9080", ("10.1.0.1", 80)),
    ],
)
def test_a_port_that_nothing_captures_has_a_listener_of_its_own(
    more: dict[str, object], listener: str, endpoint: tuple[str, int]
) -> None:
    found = build(sidecar({**HTTP, "captureMode": "NONE", **more}))
    own = found.listeners[listener]
    assert (own.address, own.port, own.bind, own.use_original_dst) == (listener.partition("_")[0], 9080, True, False)
    assert {one.name for one in own.chains} == {listener}
    assert (own.inspect_tls, own.inspect_http) == (True, False)
    assert 9080 not in {one.match.destination_port for one in found.listeners["virtualInbound"].chains}
    assert to(found, 9080) == (Discovery.STATIC, [endpoint], 0, "")


@pytest.mark.parametrize(
    ("mode", "protocol", "expected"),
    [
        ("DISABLE", "HTTPS", [("tls", "http", "/cert.pem")]),
        ("DISABLE", "TLS", [("tls", "tcp", "/cert.pem")]),
        ("STRICT", "TLS", [("tls", "tcp", "")]),
    ],
)
def test_tls_of_a_sidecars_port_ends_at_the_proxy_unless_there_is_mesh_mtls(
    mode: str, protocol: str, expected: list[tuple[str, str, str]]
) -> None:
    tls = {"mode": "SIMPLE", "serverCertificate": "/cert.pem", "privateKey": "/key.pem"}
    port = {"port": {"number": 9080, "protocol": protocol}, "tls": tls}
    found = [one for one in listener(sidecar(port), peer(mode)).chains if one.match.destination_port == 9080]
    assert [
        (one.match.transport_protocol, "http" if one.http else "tcp", one.tls.certificate_file)
        for one in found
        if one.tls
    ] == expected
    assert not any(one.http.mesh_tls for one in found if one.http)


def test_a_workload_without_ipv4_is_reached_by_ipv6() -> None:
    here = place(address="fd00::1")
    found = build(fleet.kube_service("web"), at=here)
    whole = found.listeners["virtualInbound"]
    assert (whole.address, {one.name for one in whole.chains if one.match.destination_port == 8080}) == (
        "::",
        {"::_8080"},
    )
    assert {one.bind_addresses for one in found.clusters.values()} == {("::6",)}
    local = build(fleet.kube_service("web"), fleet.mesh_config("inboundTrafficPolicy: {mode: LOCALHOST}"), at=here)
    assert to(local, 8080) == (Discovery.STATIC, [("::1", 8080)], 0, "")
    bound = build(sidecar({**HTTP, "captureMode": "NONE"}), at=here)
    assert bound.listeners["fd00::1_9080"].address == "fd00::1"
    assert to(bound, 9080) == (Discovery.STATIC, [("::1", 9080)], 0, "")


def test_without_capture_only_a_sidecar_opens_ports() -> None:
    here = replace(place(), captured=False)
    assert build(fleet.kube_service("web"), at=here).listeners == {}
    found = build(fleet.kube_service("web"), sidecar({**HTTP, "defaultEndpoint": "127.0.0.1:80"}), at=here)
    assert list(found.listeners) == ["10.1.0.1_9080"]
    assert to(found, 9080) == (Discovery.STATIC, [("127.0.0.1", 80)], 0, "")


def test_the_mesh_may_switch_off_that_the_app_is_asked_again() -> None:
    off = fleet.mesh_config("defaultInboundHttpRetryPolicy: {}")
    for texts, retries in (((), None), ((off,), 0)):
        found = listener(fleet.kube_service("web"), *texts)
        tables = [chain.http.inline for chain in found.chains if chain.http and chain.http.inline]
        said = {table.virtual_hosts[0].routes[0].retry for table in tables}
        assert {one.attempts if one else None for one in said} == {retries}


def test_grpc_web_is_bridged_where_the_port_says_so() -> None:
    found = listener(fleet.kube_service("web", ports=[{"port": 80, "name": "grpc-web"}, {"port": 81, "name": "http"}]))
    bridged = {one.match.destination_port for one in found.chains if one.http and one.http.grpc_web}
    assert bridged == {80}


def peer(mode: str, **more: object) -> str:
    return fleet.istio("PeerAuthentication", "peer", {"mtls": {"mode": mode}, **more})


Line = tuple[str, int, str, str, str, bool]


def line(chain: Chain) -> Line:
    alpn = chain.match.application_protocols
    return (
        chain.name,
        chain.match.destination_port,
        chain.match.transport_protocol,
        alpn[0] if alpn else "",
        "http" if chain.http else "tcp",
        chain.tls is not None,
    )


def own(port: str, mode: str) -> list[Line]:
    """The chains of port 8080 only."""
    found = listener(fleet.kube_service("web", ports=[{"name": port, "port": 80, "targetPort": 8080}]), peer(mode))
    return [line(chain) for chain in found.chains if chain.match.destination_port == 8080]


NAME = "0.0.0.0_8080"


@pytest.mark.parametrize(
    ("port", "mode", "expected"),
    [
        ("http", "PERMISSIVE", [("tls", "istio", "http", True), ("raw_buffer", "", "http", False)]),
        ("http", "STRICT", [("tls", "", "http", True)]),
        ("http", "DISABLE", [("raw_buffer", "", "http", False)]),
        (
            "tcp",
            "PERMISSIVE",
            [("tls", "istio", "tcp", True), ("tls", "", "tcp", False), ("raw_buffer", "", "tcp", False)],
        ),
        ("tcp", "STRICT", [("tls", "", "tcp", True)]),
        ("https", "DISABLE", [("raw_buffer", "", "tcp", False)]),
        (
            "sniffed",
            "PERMISSIVE",
            [
                ("tls", "istio-http/1.0", "http", True),
                ("raw_buffer", "http/1.1", "http", False),
                ("tls", "istio-peer-exchange", "tcp", True),
                ("raw_buffer", "", "tcp", False),
                ("tls", "", "tcp", False),
            ],
        ),
        ("sniffed", "STRICT", [("tls", "istio-http/1.0", "http", True), ("tls", "", "tcp", True)]),
        (
            "sniffed",
            "DISABLE",
            [("raw_buffer", "http/1.1", "http", False), ("raw_buffer", "", "tcp", False), ("tls", "", "tcp", False)],
        ),
    ],
)
def test_mode_and_protocol_decide_the_chains(port: str, mode: str, expected: list[tuple[str, str, str, bool]]) -> None:
    assert own(port, mode) == [(NAME, 8080, *rest) for rest in expected]


def test_undeclared_ports_have_chains_of_their_own_and_the_listeners_port_none() -> None:
    """Row SEC71 of the hostile inputs."""
    found = listener()
    assert [line(chain)[0] for chain in found.chains] == [
        "virtualInbound-blackhole",
        "virtualInbound-catchall-http",
        "virtualInbound-catchall-http",
        "virtualInbound",
        "virtualInbound",
        "virtualInbound",
    ]
    assert found.chains[0].match.destination_port == found.port == 15006
    http = found.chains[1].http
    assert http is not None
    assert http.mesh_tls
    assert http.inline is not None
    (host,) = http.inline.virtual_hosts
    assert (http.inline.name, host.name, host.routes[0].operation) == (
        "InboundPassthroughCluster",
        "inbound|http|0",
        ":0/*",
    )


def test_an_undeclared_port_may_have_a_mode_of_its_own() -> None:
    own = peer("DISABLE", selector={"matchLabels": {"app": "web"}}, portLevelMtls={9000: {"mode": "STRICT"}})
    found = [line(chain) for chain in listener(fleet.kube_service("web"), own).chains]
    assert [one for one in found if one[1] == 9000] == [
        ("virtualInbound-catchall-http", 9000, "tls", "istio-http/1.0", "http", True),
        ("virtualInbound", 9000, "tls", "", "tcp", True),
    ]


def test_a_port_has_its_routes_inline() -> None:
    chain = listener(fleet.kube_service("web")).chains[-1]
    assert chain.http is not None
    assert not chain.http.mesh_tls
    assert chain.http.stat_prefix == "inbound_0.0.0.0_8080"
    assert chain.http.inline is not None
    (host,) = chain.http.inline.virtual_hosts
    (route,) = host.routes
    assert (chain.http.inline.name, host.name, host.domains) == ("inbound|8080||", "inbound|http|80", ("*",))
    assert (route.name, route.inbound, route.operation) == (
        "default",
        True,
        "web.default.svc.cluster.local:80/*",
    )
    assert route.destinations[0].destination.cluster == "inbound|8080||"


def inspectors(*texts: str) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    found = listener(*texts)
    assert found.use_original_dst
    return (
        found.tls_inspector_off if found.inspect_tls else None,
        found.http_inspector_off if found.inspect_http else None,
    )


def test_inspectors_are_off_where_no_chain_needs_them() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "tcp", "port": 90}, {"name": "any", "port": 91}]
    service = fleet.kube_service("web", ports=ports)
    assert inspectors(service) == ((15006,), (80, 90, 15006))
    assert inspectors(service, peer("STRICT")) == ((15006,), None)
    assert inspectors(service, peer("DISABLE")) == (None, (80, 90, 15006))
    selector = {"matchLabels": {"app": "web"}}
    some = peer("STRICT", selector=selector, portLevelMtls={90: {"mode": "DISABLE"}, 91: {"mode": "PERMISSIVE"}})
    assert inspectors(service, some) == ((90, 15006), (80, 90, 15006))


def test_chains_name_the_rule_that_decided_the_mode() -> None:
    found = shape(fleet.kube_service("web"), peer("STRICT"))
    assert found.mtls is MutualTls.STRICT
    assert found.origin is not None
    assert found.origin.key.name == "peer"
    assert listener(fleet.kube_service("web"), peer("STRICT")).chains[-1].origin == found.origin
