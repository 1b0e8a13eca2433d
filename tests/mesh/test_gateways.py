from __future__ import annotations

from istiod.mesh import gateway_servers
from istiod.mesh.scope import Chain, ChainMatch, Direction, OutboundScope
from tests.mesh import world

INGRESS = "selector: {istio: ingressgateway}"
WEB = world.service("web", "http:80", namespace="default")
PLAIN = "{port: {number: 80, name: http, protocol: HTTP}, hosts: [%s]}"


def gateway(hosts: str, more: str = "", name: str = "gw", **at: str) -> str:
    return world.gateway(name, f"{{{INGRESS}, servers: [{PLAIN % hosts}{', ' + more if more else ''}]}}", **at)


def rules(name: str, hosts: str, route: str = "", gateways: str = "gw", **at: str) -> str:
    to = route or "{route: [{destination: {host: web.default.svc.cluster.local}}]}"
    return world.rules(name, f"{{hosts: [{hosts}], gateways: [{gateways}], http: [{to}]}}", **at)


def test_a_server_listens_on_the_target_port_of_the_service() -> None:
    scope = world.build(WEB, gateway("'*'"), rules("a", "'*'")).router()
    (found,) = scope.listeners.values()
    assert (found.name, found.address, found.port, found.bind) == ("0.0.0.0_8080", "0.0.0.0", 8080, True)
    assert found.direction is Direction.GATEWAY
    assert found.detection_timeout is None
    (chain,) = found.chains
    assert chain.http is not None
    assert chain.http.rds == "http.8080"
    (host,) = scope.routes["http.8080"].virtual_hosts
    assert (host.name, host.domains) == ("*:80", ("*",))
    assert world.clusters(host.routes[0]) == ["outbound|80||web.default.svc.cluster.local"]


def test_a_port_that_no_service_speaks_of_is_listened_on_as_it_is() -> None:
    scope = world.build(gateway("'*'")).router(ports=())
    assert sorted(scope.listeners) == ["0.0.0.0_80"]
    assert sorted(scope.routes) == ["http.80"]


def test_where_nothing_is_bound_every_request_gets_404() -> None:
    (host,) = world.build(gateway("'*'")).router().routes["http.8080"].virtual_hosts
    assert (host.name, host.domains, host.routes) == ("blackhole:80", ("*",), ())


def test_a_gateway_serves_pods_with_its_labels_in_any_namespace() -> None:
    mesh = world.build(gateway("'*'"), world.gateway("all", f"{{servers: [{PLAIN % 'a'}]}}"))
    assert mesh.gateways.matched({"istio": "ingressgateway", "more": "x"}) == (
        "gateway:default/all",
        "gateway:default/gw",
    )
    assert mesh.gateways.matched({}) == ("gateway:default/all",)
    assert world.build(gateway("'*'")).router(labels={"istio": "other"}).listeners == {}


def test_hosts_are_those_that_server_and_rules_share() -> None:
    mesh = world.build(
        WEB,
        gateway("'*.example', other/x.other, ./y.own, '*/z.any'"),
        rules("a", "a.example, '*.own', x.other, z.any, none"),
        rules("b", "'*'"),
    )
    domains = [one.domains for one in mesh.router().routes["http.8080"].virtual_hosts]
    assert sorted(domains) == [("*.example",), ("a.example",), ("y.own", "z.any")]


def test_rules_for_one_host_are_merged_oldest_first_and_catch_all_routes_go_last() -> None:
    young = rules("a", "x.example", "{name: young, match: [{uri: {prefix: /y}}], route: [{destination: {host: web}}]}")
    old = world.rules(
        "b",
        """
        hosts: [x.example]
        gateways: [gw]
        http: [{name: old, match: [{uri: {prefix: /o}}], route: [{destination: {host: web}}]},
               {name: rest, route: [{destination: {host: web}}]}]
        """,
        created="2024-01-01T00:00:00Z",
    )
    later = young.replace("name: a\n", "name: a\n  creationTimestamp: '2024-01-02T00:00:00Z'\n", 1)
    for texts in ((old, later), (later, old)):
        table = world.build(WEB, gateway("x.example"), *texts).router().routes["http.8080"]
        assert [one.name for one in world.host(table, "x.example").routes] == ["old", "young", "rest"]


def test_hosts_with_the_same_routes_are_one_virtual_host() -> None:
    both = rules("a", "'*.example', a.example, long.example, b.example")
    one = rules("b", "b.example", "{match: [{uri: {prefix: /b}}], route: [{destination: {host: web}}]}")
    mesh = world.build(WEB, gateway("a.example, long.example, b.example, '*.example'"), both, one)
    hosts = mesh.router().routes["http.8080"].virtual_hosts
    assert [(host.name, host.domains) for host in hosts] == [
        ("b.example:80", ("b.example",)),
        ("long.example:80", ("long.example", "a.example", "*.example")),
    ]


def test_rules_see_the_gateway_as_their_client() -> None:
    spec = """
        hosts: [x.example]
        gateways: [gw, mesh]
        http: [{name: mesh, match: [{gateways: [mesh]}], route: [{destination: {host: web}}]},
               {name: gw, match: [{gateways: [gw]}], route: [{destination: {host: web}}]}]
        """
    mesh = world.build(WEB, gateway("x.example"), world.rules("a", spec))
    assert [one.name for one in world.host(mesh.router().routes["http.8080"], "x.example").routes] == ["gw"]


def test_rules_without_a_route_for_the_gateway_have_no_virtual_host() -> None:
    only_mesh = rules("a", "x.example", "{match: [{port: 81}], route: [{destination: {host: web}}]}")
    (host,) = world.build(WEB, gateway("x.example"), only_mesh).router().routes["http.8080"].virtual_hosts
    assert host.name == "blackhole:80"


def test_rules_not_exported_to_the_router_are_not_served() -> None:
    own = world.rules(
        "a", "{hosts: [x.example], gateways: [gw], exportTo: ['.'], http: [{route: [{destination: {host: web}}]}]}"
    )
    mesh = world.build(WEB, gateway("x.example"), own)
    assert mesh.router().routes["http.8080"].virtual_hosts[0].name == "blackhole:80"
    assert mesh.router(namespace="default").routes["http.8080"].virtual_hosts[0].name == "x.example:80"


def test_rules_that_share_no_host_with_the_server_are_not_served() -> None:
    (host,) = world.build(WEB, gateway("x.example"), rules("a", "y.example")).router().routes["http.8080"].virtual_hosts
    assert host.name == "blackhole:80"


REDIRECT = "{port: {number: 80, name: r, protocol: HTTP}, hosts: [s.example, t.example], tls: {httpsRedirect: true}}"


def test_servers_that_redirect_to_https_need_no_rules() -> None:
    mesh = world.build(WEB, gateway("p.example", REDIRECT), rules("a", "s.example, p.example"))
    hosts = mesh.router().routes["http.8080"].virtual_hosts
    assert [(one.domains[0], one.require_tls, len(one.routes)) for one in hosts] == [
        ("p.example", False, 1),
        ("s.example", True, 1),
        ("t.example", True, 0),
    ]


def test_servers_of_several_gateways_share_a_listener() -> None:
    mesh = world.build(
        WEB,
        gateway("a.example"),
        gateway("b.example", name="other"),
        rules("r", "a.example, b.example", gateways="gw, other"),
    )
    names = [one.name for one in mesh.router().routes["http.8080"].virtual_hosts]
    assert names == ["a.example:80", "b.example:80"]


TCP = "{port: {number: 31400, name: tcp, protocol: TCP}, hosts: ['*']}"


def test_tcp_servers_follow_tcp_rules() -> None:
    rule = world.rules(
        "db",
        """
        hosts: ['*']
        gateways: [gw]
        tcp: [{match: [{port: 31400}], route: [{destination: {host: web, port: {number: 80}}}]}]
        """,
    )
    scope = world.build(WEB, world.gateway("gw", f"{{{INGRESS}, servers: [{TCP}]}}"), rule).router()
    (chain,) = scope.listeners["0.0.0.0_31400"].chains
    assert chain.tcp is not None
    assert [one.cluster for one in chain.tcp.clusters] == ["outbound|80||web.default.svc.cluster.local"]
    assert scope.routes == {}


def test_commands_of_mongodb_are_counted_where_the_server_declares_it() -> None:
    rule = world.rules("db", "{hosts: ['*'], gateways: [gw], tcp: [{route: [{destination: {host: web}}]}]}")
    for protocol in ("TCP", "MONGO"):
        server = TCP.replace("protocol: TCP", f"protocol: {protocol}")
        scope = world.build(WEB, world.gateway("gw", f"{{{INGRESS}, servers: [{server}]}}"), rule).router()
        (chain,) = scope.listeners["0.0.0.0_31400"].chains
        assert chain.tcp is not None
        assert chain.tcp.mongo == (protocol == "MONGO")


def test_grpc_web_is_bridged_where_a_server_of_the_listener_declares_it() -> None:
    """Plain servers of one port share their chain."""
    other = PLAIN.replace("name: http", "name: other") % "b"
    for text in (other, other.replace("protocol: HTTP", "protocol: GRPC-WEB")):
        (found,) = world.build(gateway("a", text)).router().listeners.values()
        (chain,) = found.chains
        assert chain.http is not None
        assert chain.http.grpc_web == ("GRPC-WEB" in text)


def test_a_tcp_server_without_rules_does_not_listen() -> None:
    assert world.build(world.gateway("gw", f"{{{INGRESS}, servers: [{TCP}]}}")).router().listeners == {}


def test_a_server_may_bind_an_address_of_its_own() -> None:
    bound = world.gateway("gw", f"{{{INGRESS}, servers: [{PLAIN.replace('hosts:', 'bind: 10.0.0.1, hosts:') % 'a'}]}}")
    scope = world.build(bound).router()
    assert sorted(scope.listeners) == ["10.0.0.1_8080"]
    assert sorted(scope.routes) == ["http.8080.10.0.0.1"]


def test_servers_that_cannot_share_a_port_are_left_out_and_reported() -> None:
    tcp = "{port: {number: 80, name: tcp, protocol: TCP}, hosts: ['*']}"
    other = world.gateway("young", f"{{{INGRESS}, servers: [{tcp}]}}", created="2024-01-01T00:00:00Z")
    for texts in ((gateway("'*'"), other), (other, gateway("'*'"))):
        mesh = world.build(*texts)
        (chain,) = mesh.router().listeners["0.0.0.0_8080"].chains
        assert chain.http is not None
        assert ("PORT_CONFLICT", "young", "spec.servers") in mesh.told()


def test_servers_that_we_do_not_support_are_left_out_and_reported() -> None:
    more = """
        {port: {number: 443, name: tls, protocol: TLS}, hosts: [a], tls: {mode: MUTUAL, cipherSuites: [x, AES128-SHA]}},
        {port: {number: 444, name: tls, protocol: TLS}, hosts: [a]},
        {port: {number: 445, name: x, protocol: UDP}, hosts: [a]},
        {port: {number: 446, name: y, protocol: ''}, hosts: [a]},
        {hosts: [a]},
        {port: {name: z, protocol: HTTP}, hosts: [a]},
        {port: {number: 81, name: d, protocol: HTTP}, hosts: [a], defaultEndpoint: '127.0.0.1:1'}
        """
    mesh = world.build(gateway("'*'", more))
    assert sorted(mesh.router().listeners) == ["0.0.0.0_8080", "0.0.0.0_81"]
    assert sorted(((code, field) for code, _, field in mesh.told()), key=lambda told: told[1]) == [
        ("NOT_SUPPORTED", "spec.servers[1].tls.cipherSuites[0]"),
        ("MISSING_FIELD", "spec.servers[2].tls"),
        ("NOT_SUPPORTED", "spec.servers[3].port.protocol"),
        ("NOT_SUPPORTED", "spec.servers[4].port.protocol"),
        ("MISSING_FIELD", "spec.servers[5].port.number"),
        ("MISSING_FIELD", "spec.servers[6].port.number"),
        ("NOT_SUPPORTED", "spec.servers[7].defaultEndpoint"),
    ]


def server(hosts: str, tls: str, port: str = "number: 443, name: https, protocol: HTTPS") -> str:
    return f"{{port: {{{port}}}, hosts: [{hosts}], tls: {{{tls}}}}}"


def test_a_list_of_revoked_certificates_is_a_file_where_certificates_are() -> None:
    files = "mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, caCrl: /crl"
    (found,) = gateway_servers.build(
        world.snapshot(world.gateway("gw", f"{{servers: [{server('a', files)}]}}"))
    ).gateways
    assert found.servers[0].context is not None
    assert found.servers[0].context.crl_file == "/crl"


TLS = "number: 443, name: tls, protocol: TLS"
FILES = "serverCertificate: /c.pem, privateKey: /k.pem"


def at_443(*texts: str) -> tuple[tuple[Chain, ...], OutboundScope]:
    scope = world.build(WEB, *texts).router(ports=())
    found = scope.listeners["0.0.0.0_443"]
    assert found.inspect_tls
    return found.chains, scope


def test_https_that_ends_here_has_a_chain_and_a_table_for_each_server() -> None:
    one = server("a.example", f"mode: SIMPLE, {FILES}, minProtocolVersion: TLSV1_2, httpsRedirect: true")
    two = server("'*.example', b.other", f"mode: MUTUAL, {FILES}, caCertificates: /ca.pem", TLS.replace("TLS", "HTTPS"))
    rule = rules("r", "a.example", "{redirect: {authority: x, derivePort: FROM_REQUEST_PORT}}")
    chains, scope = at_443(gateway("'*'", f"{one}, {two}"), rule)
    assert [chain.match.server_names for chain in chains] == [("a.example",), ("*.example", "b.other")]
    assert [chain.http.rds for chain in chains if chain.http] == [
        "https.443.https.gw.default",
        "https.443.tls.gw.default",
    ]
    assert [(c.tls.certificate_file, c.tls.mutual, c.tls.ca_file) for c in chains if c.tls] == [
        ("/c.pem", False, ""),
        ("/c.pem", True, "/ca.pem"),
    ]
    assert chains[0].tls is not None
    assert (chains[0].tls.min_version, chains[0].tls.max_version) == ("TLSV1_2", "")
    (host,) = scope.routes["https.443.https.gw.default"].virtual_hosts
    assert (host.name, host.require_tls) == ("a.example:443", False)
    assert host.routes[0].redirect is not None


def test_every_host_means_every_server_name() -> None:
    chains, _ = at_443(gateway("'*'", server("'*', a.example", "mode: ISTIO_MUTUAL")))
    assert [chain.match for chain in chains] == [ChainMatch()]
    assert chains[0].tls is not None
    assert (chains[0].tls.workload, chains[0].tls.mutual, chains[0].tls.gateway) == (True, True, True)


def test_tls_that_ends_here_follows_tcp_rules() -> None:
    more = ", ".join(
        (
            server("a.example", "mode: ISTIO_MUTUAL", TLS),
            server(
                "b.example",
                f"mode: OPTIONAL_MUTUAL, {FILES}, caCertificates: /ca.pem",
                TLS.replace("name: tls", "name: o"),
            ),
        )
    )
    rule = world.rules(
        "r", "{hosts: ['*'], gateways: [gw], tcp: [{route: [{destination: {host: web, port: {number: 80}}}]}]}"
    )
    chains, _ = at_443(gateway("'*'", more), rule)
    assert [chain.match.server_names for chain in chains] == [("a.example",), ("b.example",)]
    assert [c.cluster for chain in chains if chain.tcp for c in chain.tcp.clusters] == [
        "outbound|80||web.default.svc.cluster.local"
    ] * 2
    assert [(c.tls.alpn[0], c.tls.optional) for c in chains if c.tls] == [("istio-peer-exchange", False), ("h2", True)]


def test_tls_that_goes_through_follows_the_server_names_of_tls_rules() -> None:
    spec = """
        hosts: ['*.example']
        gateways: [gw]
        tls: [{match: [{sniHosts: [A.example], port: 443}], route: [{destination: {host: web, port: {number: 80}}}]},
              {match: [{sniHosts: [a.example, c.example]}], route: [{destination: {host: gone}}]},
              {match: [{sniHosts: [d.example], gateways: [mesh]}], route: [{destination: {host: web}}]},
              {match: [{sniHosts: ['*']}], route: [{destination: {host: web, port: {number: 80}}}]}]
        """
    chains, scope = at_443(gateway("'*'", server("'*.example'", "mode: PASSTHROUGH", TLS)), world.rules("r", spec))
    assert [chain.match.server_names for chain in chains] == [("a.example",), ("c.example",), ()]
    assert all(chain.tls is None for chain in chains)
    assert [one.known for chain in chains if chain.tcp for one in chain.tcp.clusters] == [True, False, True]
    assert sorted(scope.clusters) == ["BlackHoleCluster", "outbound|80||web.default.svc.cluster.local"]


def test_mesh_tls_goes_through_by_the_names_of_clusters() -> None:
    through = server("'*.local'", "mode: AUTO_PASSTHROUGH", TLS)
    foreign = world.entry(
        "x",
        "{hosts: [x.local], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: 80, name: h, protocol: HTTP}]}",
    )
    other = world.service("other", "http:80", namespace="default")
    elsewhere = world.entry(
        "y",
        "{hosts: [y.example], location: MESH_INTERNAL, resolution: STATIC,"
        " ports: [{number: 80, name: h, protocol: HTTP}]}",
    )
    wild = world.entry(
        "z",
        "{hosts: ['*.z.local'], location: MESH_INTERNAL, resolution: STATIC,"
        " ports: [{number: 80, name: h, protocol: HTTP}]}",
    )
    chains, scope = at_443(gateway("'*'", through), world.subsets("web", "v1"), foreign, elsewhere, other, wild)
    web = "web.default.svc.cluster.local"
    names = [f"outbound_.80_._.{web}", f"outbound_.80_.v1_.{web}", "outbound_.80_._.other.default.svc.cluster.local"]
    assert sorted(chain.match.server_names[0] for chain in chains) == sorted(names)
    assert {chain.match.application_protocols[0] for chain in chains} == {"istio"}
    assert [one for one in sorted(scope.clusters) if one.startswith("outbound_")] == sorted(names)
    cluster = scope.clusters[names[1]]
    assert (cluster.tls, cluster.subset) == (None, "v1")
    assert cluster.query is not None
    assert (cluster.query.mesh_tls, cluster.query.name) == (True, names[1])


def test_several_certificates_of_a_server_are_all_offered() -> None:
    first = "{serverCertificate: a, privateKey: b, caCertificates: not-read}"
    pairs = f"tlsCertificates: [{first}, {{serverCertificate: c, privateKey: d}}]"
    chains, _ = at_443(gateway("'*'", server("a", f"mode: MUTUAL, caCertificates: ca, {pairs}")))
    assert chains[0].tls is not None
    assert (chains[0].tls.certificate_file, chains[0].tls.key_file) == ("a", "b")
    assert (chains[0].tls.more_files, chains[0].tls.ca_file) == ((("c", "d"),), "ca")


def test_a_host_is_named_after_the_first_port_that_has_it() -> None:
    second = "{port: {number: 81, name: q, protocol: HTTP}, hosts: [b.example]}"
    mesh = world.build(WEB, gateway("a.example", second), rules("r", "a.example, b.example"))
    table = mesh.router(ports=((80, 8080), (81, 8080))).routes["http.8080"]
    assert [host.name for host in table.virtual_hosts] == ["a.example:80", "b.example:81"]


def test_routers_have_only_the_clusters_that_their_routes_need() -> None:
    mesh = world.build(WEB, world.service("other"), gateway("'*'"), rules("a", "'*'"))
    assert sorted(mesh.router().clusters) == ["BlackHoleCluster", "outbound|80||web.default.svc.cluster.local"]


def test_a_gateway_is_read_again_only_when_it_changed() -> None:
    before = world.build(gateway("'*'"))
    same = gateway_servers.build(before.snapshot, before.gateways)
    assert same.gateways[0] is before.gateways.gateways[0]
    other = gateway_servers.build(world.snapshot(gateway("'*'")), before.gateways)
    assert other.gateways[0] is not before.gateways.gateways[0]
    assert other.gateways == before.gateways.gateways
