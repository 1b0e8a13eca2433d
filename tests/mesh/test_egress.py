from __future__ import annotations

import pytest

from istiod.mesh.families import Families
from istiod.mesh.recall import Recall
from istiod.mesh.scope import OutboundScope
from tests.mesh import world
from tests.mesh.test_outbound import chains, domains, to

SHOP = (
    world.service("web", "http:80", "http-alt:8080", ip="10.0.0.1"),
    world.service("db", "tcp:5432", ip="10.0.0.2"),
    world.service("far", "http:80", ip="10.0.0.3", namespace="other"),
    world.service("near", "http:80", ip="10.0.0.4", namespace="other"),
)


def hosts(scope: OutboundScope) -> set[str]:
    return {name.rpartition("|")[2].removesuffix(".svc.cluster.local") for name in scope.clusters} - {
        "PassthroughCluster",
        "BlackHoleCluster",
    }


def egress(*names: str) -> str:
    return world.sidecar(f"{{egress: [{{hosts: {list(names)}}}]}}")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("*/*",), {"web.default", "db.default", "far.other", "near.other"}),
        (("./*",), {"web.default", "db.default"}),
        (("./web.default.svc.cluster.local", "other/*"), {"web.default", "far.other", "near.other"}),
        (("*/far.other.svc.cluster.local",), {"far.other"}),
        (("*/*.other.svc.cluster.local",), {"far.other", "near.other"}),
        (("other/*.default.svc.cluster.local",), set()),
        (("*/*", "~other/far.other.svc.cluster.local"), {"web.default", "db.default", "near.other"}),
        (("./*", "~/*"), set()),
    ],
)
def test_hosts_say_what_a_sidecar_sees(names: tuple[str, ...], expected: set[str]) -> None:
    assert hosts(world.build(*SHOP, egress(*names)).sidecar()) == expected


def test_listeners_and_domains_follow() -> None:
    scope = world.build(*SHOP, egress("./db.default.svc.cluster.local", "other/near.other.svc.cluster.local")).sidecar()
    assert sorted(scope.listeners) == ["0.0.0.0_80", "10.0.0.2_5432", "virtualOutbound"]
    assert [one.name for one in scope.routes["80"].virtual_hosts] == ["near.other.svc.cluster.local:80", "allow_any"]


def test_what_is_not_exported_is_not_seen_either() -> None:
    hidden = world.entry(
        "a", "{hosts: [a.com], exportTo: ['.'], ports: [{number: 80, name: http, protocol: HTTP}]}", namespace="other"
    )
    assert hosts(world.build(hidden, egress("other/*", "*/a.com")).sidecar()) == set()


def test_of_two_services_of_a_host_the_one_named_counts() -> None:
    spec = "{{hosts: [a.com], ports: [{{number: {}, name: http, protocol: HTTP}}]}}"
    mesh = (
        world.entry("a", spec.format(80)),
        world.entry("a", spec.format(81), namespace="one"),
        world.entry("a", spec.format(82), namespace="two", created="2020-01-01T00:00:00Z"),
    )
    assert set(world.build(*mesh, egress("two/a.com")).sidecar().routes) == {"82"}
    assert set(world.build(*mesh, egress("*/a.com")).sidecar().routes) == {"80"}


RULES = world.rules(
    "web", "{hosts: [web], http: [{route: [{destination: {host: far.other.svc.cluster.local, port: {number: 80}}}]}]}"
)


def test_where_a_rule_leads_has_a_cluster_and_no_listener() -> None:
    scope = world.build(*SHOP, RULES, egress("./web.default.svc.cluster.local")).sidecar()
    assert hosts(scope) == {"web.default", "far.other"}
    route = world.route(scope, "80", "web")
    assert world.clusters(route) == ["outbound|80||far.other.svc.cluster.local"]
    assert route.destinations[0].destination.known


@pytest.mark.parametrize("port", [0, 80, 81])
def test_a_rules_ports_are_enough(port: int) -> None:
    rules = world.rules(
        "far", f"{{hosts: [far.com], http: [{{route: [{{destination: {{host: web, port: {{number: {port}}}}}}}]}}]}}"
    )
    scope = world.build(*SHOP, rules, egress("./far.com")).sidecar()
    names = {name for name in scope.clusters if "web" in name}
    assert sorted(int(name.split("|")[1]) for name in names) == {0: [80, 8080], 80: [80], 81: []}[port]


def test_behind_a_listener_with_a_port_a_rules_ports_do_not_count() -> None:
    rules = world.rules(
        "far", "{hosts: [far.com], http: [{route: [{destination: {host: web, port: {number: 8080}}}]}]}"
    )
    listener = world.sidecar("{egress: [{port: {number: 80, protocol: HTTP, name: h}, hosts: [./far.com]}]}")
    names = {name for name in world.build(*SHOP, rules, listener).sidecar().clusters if "web" in name}
    assert names == {"outbound|80||web.default.svc.cluster.local"}


def test_a_rule_that_leads_nowhere_adds_nothing() -> None:
    rules = world.rules("far", "{hosts: [far.com], http: [{route: [{destination: {host: nobody.com}}]}]}")
    assert hosts(world.build(rules, egress("./far.com")).sidecar()) == set()


@pytest.mark.parametrize(
    ("names", "ruled"),
    [
        (("./*",), True),
        (("./web.default.svc.cluster.local",), True),
        (("*/web.default.svc.cluster.local",), True),
        (("./*.default.svc.cluster.local",), True),
        (("*/*", "~./web.default.svc.cluster.local"), False),
        (("other/*",), False),
    ],
)
def test_rules_are_seen_by_their_namespace_and_a_host_in_common(names: tuple[str, ...], *, ruled: bool) -> None:
    scope = world.build(*SHOP, RULES, egress(*names)).sidecar()
    found = [
        one.name
        for table in scope.routes.values()
        for one in table.virtual_hosts
        for route in one.routes
        if route.origin
    ]
    assert bool(found) is ruled


PORTS = world.sidecar(
    """
    egress:
    - {port: {number: 9999, protocol: HTTP, name: none-has-it}, hosts: ["./*"]}
    - {port: {number: 5432, protocol: TCP, name: db}, bind: 127.0.0.1, captureMode: NONE, hosts: ["./*"]}
    - {port: {number: 80, protocol: HTTP, name: http}, hosts: ["./*"]}
    - {port: {number: 3128, protocol: HTTP_PROXY}, bind: 127.0.0.1, captureMode: NONE, hosts: ["./*", "other/*"]}
    - {hosts: ["other/*"]}
    """
)


def test_listeners_with_a_port_have_its_services_and_come_first() -> None:
    scope = world.build(*SHOP, PORTS).sidecar()
    assert sorted(scope.listeners) == ["0.0.0.0_80", "127.0.0.1_3128", "127.0.0.1_5432", "virtualOutbound"]
    assert [one.name for one in scope.routes["80"].virtual_hosts] == ["web.default.svc.cluster.local:80", "allow_any"]
    assert not scope.listeners["0.0.0.0_80"].bind


def test_a_listener_that_captures_nothing_binds() -> None:
    found = world.build(*SHOP, PORTS).sidecar().listeners["127.0.0.1_5432"]
    assert (found.address, found.bind, found.inspect_http, found.default_chain) == ("127.0.0.1", True, False, None)
    assert chains(found) == [((), (), ["outbound|5432||db.default.svc.cluster.local"])]


def test_an_http_proxy_has_every_http_service_told_apart_by_port() -> None:
    scope = world.build(*SHOP, PORTS).sidecar()
    found = scope.listeners["127.0.0.1_3128"]
    assert [(one.match.application_protocols, to(one)) for one in found.chains] == [((), ["rds:3128"])]
    assert found.inspect_http is False
    web, alt = (world.host(scope.routes["3128"], name) for name in ("web:80", "web:8080"))
    assert {"web", "web:80", "10.0.0.1", "10.0.0.1:80"} <= set(web.domains)
    assert set(alt.domains) == {f"{name}:8080" for name in (*domains(scope, "80")[0][:5], "10.0.0.1")}
    assert scope.routes["3128"].virtual_hosts[-1].name == "allow_any"


def test_without_an_address_of_its_own_such_a_listener_is_local() -> None:
    scope = world.build(*SHOP, world.sidecar("{egress: [{captureMode: NONE, hosts: ['./*']}]}")).sidecar()
    assert sorted(scope.listeners) == ["127.0.0.1_5432", "127.0.0.1_80", "127.0.0.1_8080", "virtualOutbound"]
    assert all(one.bind for one in scope.listeners.values())


def test_a_captured_listener_may_have_an_address() -> None:
    scope = world.build(*SHOP, world.sidecar("{egress: [{bind: 10.9.9.9, hosts: ['./*']}]}")).sidecar()
    assert sorted(scope.listeners) == ["10.9.9.9_5432", "10.9.9.9_80", "10.9.9.9_8080", "virtualOutbound"]
    assert not scope.listeners["10.9.9.9_80"].bind


def test_ports_of_several_listeners_add_up() -> None:
    text = """
        egress:
        - {port: {number: 80, protocol: HTTP, name: a}, hosts: ["./*"]}
        - {port: {number: 8080, protocol: HTTP, name: b}, hosts: ["./*"]}
        - {port: {number: 81, protocol: HTTP, name: c}, hosts: ["other/*"]}
        - {port: {number: 8080, protocol: HTTP, name: d}, bind: 10.9.9.9, hosts: ["./*"]}
        """
    scope = world.build(*SHOP, world.sidecar(text)).sidecar()
    assert {name for name in scope.clusters if "|" in name} == {
        "outbound|80||web.default.svc.cluster.local",
        "outbound|8080||web.default.svc.cluster.local",
    }


def test_of_a_host_in_two_namespaces_the_first_listeners_has_the_clusters() -> None:
    spec = "{{hosts: [a.com], ports: [{{number: {}, name: http, protocol: HTTP}}]}}"
    text = "{egress: [{port: {number: 81, protocol: HTTP}, hosts: [one/a.com]}, {hosts: [two/a.com]}]}"
    mesh = (world.entry("a", spec.format(81), namespace="one"), world.entry("a", spec.format(82), namespace="two"))
    scope = world.build(*mesh, world.sidecar(text)).sidecar()
    assert [name for name in scope.clusters if "a.com" in name] == ["outbound|81||a.com"]


@pytest.mark.parametrize(
    ("mode", "last", "rest"),
    [("REGISTRY_ONLY", "block_all", "BlackHoleCluster"), ("ALLOW_ANY", "allow_any", "PassthroughCluster")],
)
def test_a_sidecar_says_what_happens_to_unknown_hosts(mode: str, last: str, rest: str) -> None:
    scope = world.build(*SHOP, world.sidecar(f"{{outboundTrafficPolicy: {{mode: {mode}}}}}")).sidecar()
    assert scope.routes["80"].virtual_hosts[-1].name == last
    assert to(scope.listeners["virtualOutbound"].chains[-1]) == [rest]


def test_sidecars_with_equal_answers_share_leaves() -> None:
    recall = Recall()
    mesh = world.build(
        *SHOP,
        world.sidecar("{workloadSelector: {labels: {app: a}}, egress: [{hosts: [./*]}]}", name="a"),
        world.sidecar("{workloadSelector: {labels: {app: b}}, egress: [{hosts: ['./*', 'other/*']}]}", name="b"),
    )
    a, b = (mesh.sidecar(labels={"app": name}, recall=recall) for name in "ab")
    assert a.key != b.key
    assert a.listeners["10.0.0.2_5432"] is b.listeners["10.0.0.2_5432"]
    assert a.routes["8080"] is b.routes["8080"]
    assert a.routes["80"] is not b.routes["80"]
    name = "outbound|80||web.default.svc.cluster.local"
    assert a.clusters[name] is b.clusters[name]


def test_what_a_sidecar_trims_is_the_same_object_again() -> None:
    recall, mesh = Recall(), world.build(*SHOP, PORTS, egress_all())
    first, again = mesh.sidecar(recall=recall), mesh.sidecar(recall=recall)
    assert all(first.listeners[name] is again.listeners[name] for name in first.listeners if name != "virtualOutbound")
    assert all(first.clusters[name] is again.clusters[name] for name in first.clusters)


def egress_all() -> str:
    return world.sidecar("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}", name="other", namespace="other")


MESH = (
    *SHOP,
    world.entry(
        "dns", "{hosts: [a.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}", namespace="other"
    ),
)


def test_without_capture_every_listener_binds_locally() -> None:
    scope = world.build(*MESH).sidecar(captured=False)
    assert sorted(scope.listeners) == ["127.0.0.1_443", "127.0.0.1_5432", "127.0.0.1_80", "127.0.0.1_8080"]
    assert all(one.bind for one in scope.listeners.values())
    assert to(scope.listeners["127.0.0.1_80"].chains[0]) == ["rds:80"]


@pytest.mark.parametrize("mode", ["DEFAULT", "IPTABLES", "NONE"])
def test_without_capture_the_mode_of_a_listener_does_not_matter(mode: str) -> None:
    said = world.sidecar(f"{{egress: [{{captureMode: {mode}, hosts: ['other/far.*', 'other/*.svc.cluster.local']}}]}}")
    scope = world.build(*MESH, said).sidecar(captured=False)
    assert sorted(scope.listeners) == ["127.0.0.1_80"]


def test_a_workload_without_ipv4_listens_on_ipv6() -> None:
    scope = world.build(*MESH).sidecar(families=Families.IPV6)
    assert sorted(scope.listeners) == ["10.0.0.2_5432", "::_443", "::_80", "::_8080", "virtualOutbound"]
    assert {scope.listeners[name].address for name in ("::_443", "::_80", "virtualOutbound")} == {"::"}
    assert chains(scope.listeners["::_443"]) == [((), ("a.com",), ["outbound|443||a.com"])]
    assert (scope.routes["80"].name, scope.listeners["::_80"].inspect_http) == ("80", True)
    assert [name for name, one in scope.clusters.items() if one.families is Families.IPV6] == ["outbound|443||a.com"]
    assert min(world.build(*MESH).sidecar(families=Families.IPV6, captured=False).listeners) == "::1_443"
