"""Finer points of routes and listeners of sidecars, where Istio's choices are not the only ones to think of."""

from __future__ import annotations

from datetime import timedelta

import pytest

from istiod.mesh.settings import MeshSettings
from tests.mesh import world
from tests.mesh.test_outbound import ALIAS, EXTERNAL, to


def test_on_other_ports_a_rule_may_name_a_host_beside_one_of_a_service_there() -> None:
    spec = "{hosts: %s, http: [{name: r, route: [{destination: {host: a}}]}]}"
    services = (world.service("a", "http:8080", "tcp:9000", "http:81"), world.service("b", "http:82"))
    exact, pattern = world.rules("e", spec % "[a, x.example]"), world.rules("p", spec % "['*.local', y.example]")
    routes = world.build(*services, exact, pattern, world.rules("n", spec % "[z.example]")).sidecar().routes

    def named(port: str) -> set[str]:
        return {one.name for one in routes[port].virtual_hosts if ".example" in one.name}

    assert named("8080") == {"x.example:8080"}
    assert named("81") == {"x.example:81"}
    assert named("82") == {"y.example:82"}
    assert world.clusters(world.host(routes["8080"], "x.example").routes[0])[0].startswith("outbound|8080||a.")


def test_who_comes_first_among_rules_has_the_choice_of_names() -> None:
    def given(first: str, then: str) -> tuple[str, ...]:
        spec = "{hosts: [%s], http: [{route: [{destination: {host: a}}]}]}"
        old = world.rules("z", spec % first, created="2024-01-01T00:00:00Z")
        young = world.rules("a", spec % then, created="2024-01-02T00:00:00Z")
        table = world.build(world.service("a"), old, young).sidecar().routes["80"]
        return world.host(table, "a.default.svc.cluster.local").domains

    assert "a.default" in given("a", "a.default")
    assert "a.default" not in given("a.default", "a")


def test_tls_may_be_asked_for_by_second_names() -> None:
    alias = ALIAS.replace("web.default.svc.cluster.local", "a.example")
    mesh = world.build(
        world.entry("a", EXTERNAL % ("a.example", 443, "TLS", "")),
        world.entry("b", EXTERNAL % ("a.example", 444, "TCP", "")),
        alias,
    )

    def asked(namespace: str) -> tuple[str, ...]:
        return mesh.sidecar(namespace).listeners["0.0.0.0_443"].chains[0].match.server_names

    names = ("alias.default", "alias.default.svc")
    assert asked("other") == ("a.example", "alias.default.svc.cluster.local", *names)
    assert asked("default") == ("a.example", "alias.default.svc.cluster.local", "alias", *names)


def test_only_two_labels_are_a_name_and_a_namespace() -> None:
    entry = "{hosts: [a.b.default.svc.cluster.local], ports: [{number: 80, name: h, protocol: HTTP}], resolution: DNS}"
    (host, _) = world.build(world.entry("a", entry)).sidecar().routes["80"].virtual_hosts
    full = "a.b.default.svc.cluster.local"
    assert host.domains == (full, f"{full}.", "a.b.default", "a.b.default.svc")


def test_bytes_go_to_the_first_undeclared_service_at_an_address_also_behind_http() -> None:
    spec = "{hosts: [x.example], ports: [{number: 80, name: x}], resolution: DNS}"
    for created in ("2024-01-01", "2024-01-03"):
        entry = world.entry("x", spec, created=f"{created}T00:00:00Z")
        scope = world.build(world.service("web", created="2024-01-02T00:00:00Z"), entry).sidecar()
        assert to(scope.listeners["0.0.0.0_80"].default_chain) == ["outbound|80||x.example"]
        assert world.clusters(world.route(scope, "80", "x.example")) == ["outbound|80||x.example"]


@pytest.mark.parametrize(
    ("old", "young", "shared"), [("HTTP", "MySQL", False), ("Mongo", "TLS", False), ("MySQL", "MySQL", True)]
)
def test_protocols_whose_servers_speak_first_share_an_address_with_no_other(
    old: str, young: str, *, shared: bool
) -> None:
    mesh = world.build(
        world.entry("a", EXTERNAL % ("a.example", 3306, old, ""), created="2024-01-01T00:00:00Z"),
        world.entry("b", EXTERNAL % ("b.example", 3306, young, ""), created="2024-01-02T00:00:00Z"),
    )
    listener = mesh.sidecar().listeners["0.0.0.0_3306"]
    assert [to(chain) for chain in listener.chains] == [["rds:3306"] if old == "HTTP" else ["outbound|3306||a.example"]]
    rest = ["PassthroughCluster"] if old == "HTTP" else None
    assert (to(listener.default_chain) if listener.default_chain else None) == rest
    assert mesh.told() == [("PORT_CONFLICT", "b", "spec.ports")]
    assert ("is left out" in mesh.findings()[0].message) is not shared


def test_only_who_guesses_at_http_waits_no_longer_than_the_mesh_says() -> None:
    texts = (world.service("web"), world.entry("a", EXTERNAL % ("a.example", 443, "TLS", "")))
    found = world.build(*texts, settings=MeshSettings(protocol_detection_timeout=timedelta(seconds=5))).sidecar()
    waits = {name: one.detection_timeout for name, one in found.listeners.items() if name.startswith("0")}
    assert waits == {"0.0.0.0_80": timedelta(seconds=5), "0.0.0.0_443": timedelta(0)}
