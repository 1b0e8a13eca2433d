from __future__ import annotations

import pytest

from istiod.mesh.model import Summary
from istiod.mesh.route import DirectResponse
from istiod.mesh.scope import Chain, ChainMatch, Direction, Listener, OutboundScope
from istiod.mesh.settings import MeshSettings, OutboundMode
from tests.mesh import world

HTTP_MATCH = ChainMatch(transport_protocol="raw_buffer", application_protocols=("http/1.1", "h2c"))
REGISTRY_ONLY = MeshSettings(outbound=OutboundMode.REGISTRY_ONLY)


def to(chain: Chain | None) -> list[str]:
    assert chain is not None
    if chain.http is not None:
        return [f"rds:{chain.http.rds}"]
    assert chain.tcp is not None
    return [one.cluster for one in chain.tcp.clusters]


def chains(listener: Listener) -> list[tuple[tuple[str, ...], tuple[str, ...], list[str]]]:
    return [(one.match.prefixes, one.match.server_names, to(one)) for one in listener.chains]


def domains(scope: OutboundScope, table: str) -> list[tuple[str, ...]]:
    return [one.domains for one in scope.routes[table].virtual_hosts]


@pytest.mark.parametrize(
    ("settings", "cluster"), [(MeshSettings(), "PassthroughCluster"), (REGISTRY_ONLY, "BlackHoleCluster")]
)
def test_everything_comes_to_one_listener_first(settings: MeshSettings, cluster: str) -> None:
    """Row SEC71 of the hostile inputs."""
    found = world.build(settings=settings).sidecar().listeners["virtualOutbound"]
    assert (found.address, found.port, found.use_original_dst, found.bind) == ("0.0.0.0", 15001, True, True)
    assert [(one.match.destination_port, to(one)) for one in found.chains] == [
        (15001, ["BlackHoleCluster"]),
        (0, [cluster]),
    ]


def test_http_services_share_one_listener_and_table_per_port() -> None:
    scope = world.build(world.service("a", ip="10.0.0.1"), world.service("b", ip="10.0.0.2")).sidecar()
    assert sorted(scope.listeners) == ["0.0.0.0_80", "virtualOutbound"]
    found = scope.listeners["0.0.0.0_80"]
    assert [(one.match, to(one)) for one in found.chains] == [(HTTP_MATCH, ["rds:80"])]
    assert found.default_chain is not None
    assert (found.default_chain.name, to(found.default_chain)) == ("PassthroughFilterChain", ["PassthroughCluster"])
    assert (found.direction, found.bind, found.inspect_http, found.inspect_tls) == (
        Direction.OUTBOUND,
        False,
        True,
        False,
    )
    assert [one.name for one in scope.routes["80"].virtual_hosts] == [
        "a.default.svc.cluster.local:80",
        "b.default.svc.cluster.local:80",
        "allow_any",
    ]


def test_names_are_short_for_the_own_namespace_only() -> None:
    mesh = world.build(world.service("a", ip="10.0.0.1"))
    assert domains(mesh.sidecar("default"), "80")[0] == (
        "a.default.svc.cluster.local",
        "a.default.svc.cluster.local.",
        "a",
        "a.default",
        "a.default.svc",
        "10.0.0.1",
    )
    assert "a" not in domains(mesh.sidecar("other"), "80")[0]


def test_a_domain_is_given_out_once() -> None:
    scope = world.build(
        world.service("a", ip="10.0.0.1", created="2024-01-01T00:00:00Z"),
        world.service("b", ip="10.0.0.1", created="2024-01-02T00:00:00Z"),
    ).sidecar()
    assert "10.0.0.1" in domains(scope, "80")[0]
    assert "10.0.0.1" not in domains(scope, "80")[1]


def test_a_short_name_never_takes_the_full_name_of_another_host() -> None:
    outside = world.entry(
        "e", "{hosts: [a.default], ports: [{name: http, number: 80, protocol: HTTP}], resolution: DNS}"
    )
    scope = world.build(world.service("a", ip="10.0.0.1"), outside).sidecar()
    assert [names for names in domains(scope, "80") if "a.default" in names] == [("a.default", "a.default.")]


@pytest.mark.parametrize("taken", ["reviews", "reviews.default.svc.cluster.local"])
def test_a_short_name_is_given_out_once_whatever_its_case(taken: str) -> None:
    """Envoy refuses a table where two domains differ in case alone."""
    port = "ports: [{number: 9080, name: http, protocol: HTTP}], resolution: NONE"
    mesh = world.build(
        world.entry("a", f"{{hosts: [Reviews.default.svc.cluster.local], {port}}}", namespace="other"),
        world.entry("b", f"{{hosts: [{taken}], addresses: [10.9.0.1], {port}}}", namespace="other"),
    )
    domains = [one.lower() for host in mesh.sidecar().routes["9080"].virtual_hosts for one in host.domains]
    assert sorted(domains) == sorted(set(domains))
    assert "reviews" in domains


def test_a_rule_for_a_host_without_a_name_left_makes_no_virtual_host() -> None:
    both = "{hosts: [x.example], http: [{route: [{destination: {host: a}}]}]}"
    scope = world.build(world.service("a"), world.rules("one", both), world.rules("two", both)).sidecar()
    assert [one.name for one in scope.routes["80"].virtual_hosts] == [
        "x.example:80",
        "a.default.svc.cluster.local:80",
        "allow_any",
    ]


def test_in_registry_only_mode_unknown_hosts_get_502() -> None:
    scope = world.build(world.service("a"), settings=REGISTRY_ONLY).sidecar()
    rest = world.host(scope.routes["80"], "*")
    assert rest.name == "block_all"
    assert rest.routes[0].direct_response == DirectResponse(status=502)
    assert to(scope.listeners["0.0.0.0_80"].default_chain) == ["BlackHoleCluster"]


def test_a_service_for_every_host_leaves_nothing_to_the_rest() -> None:
    every = world.entry("e", "{hosts: ['*'], ports: [{name: http, number: 80, protocol: HTTP}], resolution: NONE}")
    assert [one.name for one in world.build(every).sidecar().routes["80"].virtual_hosts] == ["*:80"]


def test_on_port_80_a_rule_may_name_a_host_that_no_service_has() -> None:
    spec = "{hosts: [%s], http: [{route: [{destination: {host: a}}]}]}"
    service = world.service("a", "http:80", "http-x:81")
    every = "shop.example, a, '*.svc.cluster.local', '*.none'"
    scope = world.build(service, world.rules("r", spec % every)).sidecar()
    assert domains(scope, "80")[:2] == [("shop.example",), ("*.none",)]
    scope = world.build(service, world.rules("r", spec % "shop.example, '*.none'")).sidecar()
    assert [one.name for one in scope.routes["81"].virtual_hosts] == ["a.default.svc.cluster.local:81", "allow_any"]


def test_a_rule_for_gateways_names_no_host_of_sidecars() -> None:
    spec = "{hosts: [shop.example], gateways: [gw], http: [{route: [{destination: {host: a}}]}]}"
    scope = world.build(world.service("a"), world.rules("r", spec)).sidecar()
    assert len(scope.routes["80"].virtual_hosts) == 2


def test_a_rule_without_routes_for_the_client_names_no_host() -> None:
    spec = "{hosts: [x.example], http: [{match: [{sourceNamespace: other}], route: [{destination: {host: a}}]}]}"
    scope = world.build(world.service("a"), world.rules("r", spec)).sidecar()
    assert len(scope.routes["80"].virtual_hosts) == 2


def test_opaque_services_listen_on_their_address() -> None:
    scope = world.build(world.service("db", "tcp:5432", ip="10.0.0.5")).sidecar()
    found = scope.listeners["10.0.0.5_5432"]
    assert chains(found) == [((), (), ["outbound|5432||db.default.svc.cluster.local"])]
    assert found.default_chain is None
    assert (found.inspect_http, found.inspect_tls) == (False, False)
    assert scope.routes == {}


def test_undeclared_services_are_sniffed_on_their_address() -> None:
    scope = world.build(world.service("x", "undeclared:7000", ip="10.0.0.5")).sidecar()
    found = scope.listeners["10.0.0.5_7000"]
    assert [(one.match, to(one)) for one in found.chains] == [(HTTP_MATCH, ["rds:x.default.svc.cluster.local:7000"])]
    assert to(found.default_chain) == ["outbound|7000||x.default.svc.cluster.local"]
    assert domains(scope, "x.default.svc.cluster.local:7000") == [("*",)]


def test_undeclared_services_are_in_the_table_of_their_port_where_there_is_one() -> None:
    scope = world.build(
        world.service("x", "undeclared:7000", ip="10.0.0.5"), world.service("web", "http:7000", ip="10.0.0.6")
    ).sidecar()
    assert {one.name for one in scope.routes["7000"].virtual_hosts} == {
        "x.default.svc.cluster.local:7000",
        "web.default.svc.cluster.local:7000",
        "allow_any",
    }


def test_udp_has_no_listener() -> None:
    text = world.service("dns", "udp:53").replace("port: 53", "port: 53\n    protocol: UDP")
    assert sorted(world.build(text).sidecar().listeners) == ["virtualOutbound"]


EXTERNAL = "{hosts: [%s], ports: [{name: p, number: %d, protocol: %s}], resolution: DNS%s}"


def test_tls_without_an_address_is_told_by_its_server_name() -> None:
    scope = world.build(
        world.entry("a", EXTERNAL % ("a.example", 443, "TLS", "")),
        world.entry("b", EXTERNAL % ("b.example", 443, "HTTPS", "")),
    ).sidecar()
    found = scope.listeners["0.0.0.0_443"]
    assert chains(found) == [
        ((), ("a.example",), ["outbound|443||a.example"]),
        ((), ("b.example",), ["outbound|443||b.example"]),
    ]
    assert found.inspect_tls
    assert to(found.default_chain) == ["PassthroughCluster"]


def test_a_subnet_is_told_by_the_address_of_the_connection() -> None:
    spec = "{hosts: [n.example], addresses: [10.9.0.0/16, 10.8.0.1/32, 10.7.0.1], ports: [%s], resolution: NONE}"
    tcp = world.entry("tcp", spec % "{name: p, number: 1883, protocol: TCP}")
    tls = world.entry("tls", spec.replace("n.ex", "s.ex") % "{name: p, number: 443, protocol: TLS}")
    scope = world.build(tcp, tls).sidecar()
    assert sorted(scope.listeners) == [
        "0.0.0.0_1883",
        "0.0.0.0_443",
        "10.7.0.1_1883",
        "10.7.0.1_443",
        "10.8.0.1_1883",
        "10.8.0.1_443",
        "virtualOutbound",
    ]
    assert chains(scope.listeners["0.0.0.0_1883"]) == [(("10.9.0.0/16",), (), ["outbound|1883||n.example"])]
    assert chains(scope.listeners["0.0.0.0_443"]) == [(("10.9.0.0/16",), ("s.example",), ["outbound|443||s.example"])]
    assert chains(scope.listeners["10.7.0.1_443"]) == [((), (), ["outbound|443||s.example"])]


HEADLESS = world.service("db", "tcp:5432", "x:6000", "http:80", "tls-x:443", ip="None")


def test_a_headless_service_is_told_by_its_pods() -> None:
    pods = tuple((port, ("10.1.0.1", "fd00::1")) for port in (443, 5432, 6000))
    summaries = {("db.default.svc.cluster.local", "default"): Summary(addresses=pods)}
    scope = world.build(HEADLESS, summaries=summaries).sidecar()
    prefixes = ("10.1.0.1/32", "fd00::1/128")
    cluster = "outbound|%d||db.default.svc.cluster.local"
    assert chains(scope.listeners["0.0.0.0_5432"]) == [(prefixes, (), [cluster % 5432])]
    assert chains(scope.listeners["0.0.0.0_443"]) == [(prefixes, (), [cluster % 443])]
    assert chains(scope.listeners["0.0.0.0_6000"]) == [
        (prefixes, (), ["rds:db.default.svc.cluster.local:6000"]),
        (prefixes, (), [cluster % 6000]),
    ]
    assert "*.db.default.svc.cluster.local" in domains(scope, "80")[0]


def test_pods_of_a_headless_service_have_short_names_too() -> None:
    mesh = world.build(HEADLESS)
    names = ("db.default.svc.cluster.local", "db.default.svc.cluster.local.", "db", "db.default", "db.default.svc")
    assert domains(mesh.sidecar("default"), "80")[0] == (*names, *(f"*.{name}" for name in names))
    others = [name for name in names if name != "db"]
    assert domains(mesh.sidecar("other"), "80")[0] == (*others, *(f"*.{name}" for name in others))


def test_a_host_may_have_what_pods_names_end_with() -> None:
    taken = world.entry("e", "{hosts: ['*.db'], ports: [{name: http, number: 80, protocol: HTTP}], resolution: NONE}")
    found = domains(world.build(HEADLESS, taken).sidecar("default"), "80")
    assert ("*.db", "*.db.") in found
    assert sum("*.db" in names for names in found) == 1


def test_a_headless_service_without_pods_has_http_listeners_only() -> None:
    assert sorted(world.build(HEADLESS).sidecar().listeners) == ["0.0.0.0_80", "virtualOutbound"]


def test_http_and_opaque_services_share_a_port() -> None:
    scope = world.build(
        world.service("web", "http:9000"),
        world.entry("tcp", EXTERNAL % ("t.example", 9000, "TCP", "")),
        world.entry("tls", EXTERNAL % ("s.example", 9000, "TLS", "")),
    ).sidecar()
    found = scope.listeners["0.0.0.0_9000"]
    assert [(one.match.application_protocols != (), one.match.server_names, to(one)) for one in found.chains] == [
        (True, (), ["rds:9000"]),
        (False, ("s.example",), ["outbound|9000||s.example"]),
    ]
    assert to(found.default_chain) == ["outbound|9000||t.example"]


def test_an_undeclared_service_without_an_address_is_in_the_table_of_its_port() -> None:
    scope = world.build(world.entry("x", EXTERNAL % ("x.example", 7000, '""', ""))).sidecar()
    found = scope.listeners["0.0.0.0_7000"]
    assert [to(one) for one in found.chains] == [["rds:7000"]]
    assert to(found.default_chain) == ["outbound|7000||x.example"]


def test_grpc_web_is_bridged_where_the_port_says_so() -> None:
    scope = world.build(world.service("a", "grpc-web:80"), world.service("b", "http:81")).sidecar()
    assert [scope.listeners[f"0.0.0.0_{port}"].chains[0].http.grpc_web for port in (80, 81)] == [True, False]


WEB = world.service("web", "http:80", "tcp:9000", "https:443", ip="10.0.0.7")
ALIAS = """
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: default}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local, ports: [{name: http, port: 80}]}
"""


def test_a_second_name_is_a_domain_of_the_service_it_stands_for() -> None:
    scope = world.build(WEB, world.service("other"), ALIAS).sidecar()
    assert "alias" not in world.host(scope.routes["80"], "other").domains
    assert "alias" in world.host(scope.routes["80"], "web").domains
    assert sorted(scope.listeners) == ["0.0.0.0_80", "10.0.0.7_443", "10.0.0.7_9000", "virtualOutbound"]


def test_a_rule_for_a_second_name_is_its_own() -> None:
    rule = world.rules("alias", "{hosts: [alias], http: [{name: own, route: [{destination: {host: alias}}]}]}")
    found = world.host(world.build(WEB, ALIAS, rule).sidecar().routes["80"], "alias")
    assert found.routes[0].name == "own"
    assert world.clusters(found.routes[0]) == ["outbound|80||web.default.svc.cluster.local"]
    assert "web" not in found.domains


def test_a_rule_for_an_alias_without_ports_leaves_its_short_names_to_the_service() -> None:
    rule = world.rules("alias", "{hosts: [alias], http: [{name: own, route: [{destination: {host: web}}]}]}")
    portless = ALIAS.replace(", ports: [{name: http, port: 80}]", "")
    table = world.build(WEB, portless, rule).sidecar().routes["80"]
    assert world.host(table, "alias.default.svc.cluster.local").domains == ("alias.default.svc.cluster.local",)
    assert "alias" in world.host(table, "web").domains


def test_tcp_rules_split_by_weight_and_by_destination() -> None:
    rule = world.rules(
        "db",
        """
        hosts: [web]
        tcp:
        - {match: [{port: 1}], route: [{destination: {host: web}}]}
        - {match: [{destinationSubnets: [10.250.0.0/16], port: 9000}],
           route: [{destination: {host: nobody}}]}
        - {match: [{sourceLabels: {app: client}}],
           route: [{destination: {host: web, port: {number: 9000}}, weight: 90},
                   {destination: {host: web, port: {number: 443}}, weight: 10},
                   {destination: {host: web, port: {number: 80}}, weight: 0}]}
        """,
    )
    mesh = world.build(WEB, rule)
    plain = mesh.sidecar().listeners["10.0.0.7_9000"]
    assert chains(plain) == [(("10.250.0.0/16",), (), ["outbound|9000||nobody.default.svc.cluster.local"])]
    assert not plain.chains[0].tcp.clusters[0].known
    assert to(plain.default_chain) == ["outbound|9000||web.default.svc.cluster.local"]
    ruled = mesh.sidecar(labels={"app": "client"}).listeners["10.0.0.7_9000"].default_chain
    assert ruled is not None
    assert ruled.tcp is not None
    assert [(one.cluster.split("|")[1], one.weight) for one in ruled.tcp.clusters] == [("9000", 90), ("443", 10)]
    assert ruled.tcp.stat_prefix == "db.default"
    assert str(ruled.origin) == "VirtualService/default/db"


def test_tls_rules_send_server_names_elsewhere() -> None:
    rule = world.rules(
        "ext",
        """
        hosts: [a.example, web]
        tls:
        - {match: [{sniHosts: [a.example, b.example], port: 443}, {sniHosts: [b.example, c.example]}],
           route: [{destination: {host: web, port: {number: 443}}}]}
        - {match: [{sniHosts: [a.example]}], route: [{destination: {host: a.example}}]}
        """,
    )
    scope = world.build(WEB, world.entry("a", EXTERNAL % ("a.example", 443, "TLS", "")), rule).sidecar()
    web = ["outbound|443||web.default.svc.cluster.local"]
    expected = [((), ("a.example", "b.example"), web), ((), ("c.example",), web)]
    assert chains(scope.listeners["0.0.0.0_443"]) == expected
    assert chains(scope.listeners["10.0.0.7_443"]) == expected
    assert to(scope.listeners["10.0.0.7_443"].default_chain) == ["PassthroughCluster"]


def test_idle_tcp_connections_end_as_the_policy_says() -> None:
    policy = world.subsets("web", policy="{connectionPool: {tcp: {idleTimeout: 10s}}}")
    found = world.build(WEB, policy).sidecar().listeners["10.0.0.7_9000"].chains[0]
    assert found.tcp is not None
    assert found.tcp.idle_timeout is not None
    assert found.tcp.idle_timeout.total_seconds() == 10


def test_what_did_not_change_is_the_same_object() -> None:
    details = world.service("details", "http:81")
    before = world.build(WEB, details).sidecar()
    rule = world.rules("web", "{hosts: [web], http: [{timeout: 1s, route: [{destination: {host: web}}]}]}")
    after = world.build(WEB, details, world.service("new", "http:80", "http-x:82"), rule).sidecar(before=before)
    assert after.routes["81"] is before.routes["81"]
    assert after.routes["80"] != before.routes["80"]
    assert world.host(after.routes["80"], "*") is world.host(before.routes["80"], "*")
    assert all(after.listeners[name] is one for name, one in before.listeners.items())
    assert all(after.clusters[name] is one for name, one in before.clusters.items())
