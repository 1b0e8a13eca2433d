"""Where traffic for unknown hosts goes by a Sidecar's word, and listeners at Unix domain sockets (rows J3, J4)."""

from __future__ import annotations

import pytest

from istiod.mesh.scope import OutboundScope
from tests.mesh import world

HOST = "way-out.default.svc.cluster.local"
BASE = (
    world.service("way-out", "http:3128", "tcp:5000"),
    world.service("web", "http:80"),
    world.service("db", "tcp:5432", ip="10.0.0.9"),
)
TO = "outbound|5000||way-out.default.svc.cluster.local"


def proxied(more: str = "port: {number: 5000}", mode: str = "ALLOW_ANY", hosts: str = "['*/*']") -> world.World:
    policy = f"outboundTrafficPolicy: {{mode: {mode}, egressProxy: {{host: {HOST}, {more}}}}}"
    return world.build(
        *BASE, world.subsets("way-out", "v1"), world.sidecar(f"{{egress: [{{hosts: {hosts}}}], {policy}}}")
    )


def ways(scope: OutboundScope) -> tuple[str, list[str], int]:
    """Where bytes and requests for unknown hosts go, and what requests are answered instead."""
    rest = scope.listeners["virtualOutbound"].chains[-1].tcp
    assert rest is not None
    route = world.host(scope.routes["80"], "*").routes[0]
    return rest.clusters[0].cluster, world.clusters(route), route.direct_response.status if route.direct_response else 0


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("port: {number: 5000}", TO),
        ("subset: v1, port: {number: 5000}", "outbound|5000|v1|way-out.default.svc.cluster.local"),
    ],
)
def test_what_is_for_nobody_known_goes_to_the_egress_proxy(more: str, expected: str) -> None:
    mesh = proxied(more)
    assert ways(mesh.sidecar()) == (expected, [expected], 0)
    assert mesh.told() == []


def test_the_proxy_has_a_cluster_also_where_the_sidecar_does_not_import_it() -> None:
    scope = proxied(hosts="['./web.default.svc.cluster.local']").sidecar()
    assert ways(scope) == (TO, [TO], 0)
    assert TO in scope.clusters
    assert not any("5000" in name for name in scope.listeners)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("port: {number: 1}", ("UNKNOWN_HOST", "default", "port.number")),
        ("subset: v9, port: {number: 5000}", ("UNKNOWN_SUBSET", "default", "subset")),
    ],
)
def test_a_proxy_that_is_not_there_lets_nothing_out(more: str, told: tuple[str, str, str]) -> None:
    mesh = proxied(more)
    assert ways(mesh.sidecar()) == ("BlackHoleCluster", [], 502)
    assert mesh.told() == [(told[0], told[1], f"spec.outboundTrafficPolicy.egressProxy.{told[2]}")]


def test_a_host_that_is_nobodys_lets_nothing_out() -> None:
    policy = "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: none.example, port: {number: 1}}}"
    mesh = world.build(*BASE, world.sidecar(f"{{egress: [{{hosts: ['*/*']}}], {policy}}}"))
    assert ways(mesh.sidecar()) == ("BlackHoleCluster", [], 502)
    assert mesh.told() == [("UNKNOWN_HOST", "default", "spec.outboundTrafficPolicy.egressProxy.host")]


def test_it_means_nothing_where_unknown_hosts_cannot_be_reached() -> None:
    assert ways(proxied(mode="REGISTRY_ONLY").sidecar()) == ("BlackHoleCluster", [], 502)


def at_socket(protocol: str, *more: str, hosts: str = "*/*", number: int = 0) -> OutboundScope:
    port = f"{{number: {number}, protocol: {protocol}, name: x}}"
    listener = f"{{egress: [{{port: {port}, bind: 'unix:///run/out.sock', hosts: ['{hosts}']}}]}}"
    return world.build(*BASE, *more, world.sidecar(listener)).sidecar()


@pytest.mark.parametrize("protocol", ["HTTP", "''"])
def test_all_http_services_are_behind_one_socket_told_apart_by_name_and_port(protocol: str) -> None:
    scope = at_socket(protocol)
    listener = scope.listeners["unix:///run/out.sock_0"]
    assert (listener.address, listener.port, listener.bind) == ("unix:///run/out.sock", 0, True)
    (chain,) = [one for one in listener.chains if one.http]
    assert chain.http is not None
    assert chain.http.rds == "unix:///run/out.sock"
    table = scope.routes["unix:///run/out.sock"]
    assert world.clusters(world.host(table, "web.default.svc.cluster.local").routes[0]) == [
        "outbound|80||web.default.svc.cluster.local"
    ]
    assert world.clusters(world.host(table, f"{HOST}:3128").routes[0]) == [f"outbound|3128||{HOST}"]


def test_a_socket_with_a_port_number_is_for_that_port_of_services() -> None:
    scope = at_socket("HTTP", number=80)
    assert scope.listeners["unix:///run/out.sock_80"].address == "unix:///run/out.sock"
    assert [one.name for one in scope.routes["80"].virtual_hosts] == [
        "web.default.svc.cluster.local:80",
        "allow_any",
    ]


def test_opaque_bytes_go_to_the_first_opaque_port_of_the_oldest_service() -> None:
    udp = world.service("dns", "udp:53").replace("udp", "udp-dns")
    scope = at_socket("TCP", udp, hosts="*/*")
    (chain,) = scope.listeners["unix:///run/out.sock_0"].chains
    assert chain.tcp is not None
    assert [one.cluster for one in chain.tcp.clusters] == ["outbound|5432||db.default.svc.cluster.local"]
    assert "unix:///run/out.sock_0" not in at_socket("TCP", hosts="*/web.default.svc.cluster.local").listeners
