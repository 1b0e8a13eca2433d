"""The port that apps name as their HTTP proxy, and workloads that take HTTP/1.0 (features row R1)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from istiod.mesh.scope import Scope
from tests.mesh import fleet

WEB = fleet.kube_service("web", ports=[{"name": "http", "port": 80}, {"name": "http-alt", "port": 8080}])
DB = fleet.kube_service("db", ports=[{"name": "tcp", "port": 5432}])
ON = fleet.mesh_config("proxyHttpPort: 15007")


def scope(*texts: str, **metadata: object) -> Scope:
    return fleet.Mesh(*texts).scope(fleet.proxy(**metadata))


def domains(found: Scope) -> dict[str, tuple[str, ...]]:
    return {host.name: host.domains for host in found.outbound.routes["http_proxy"].virtual_hosts}


@pytest.mark.parametrize(("texts", "metadata"), [((ON,), {}), ((), {"HTTP_PROXY_PORT": "15007"})])
def test_every_http_service_is_behind_the_proxy_port(texts: tuple[str, ...], metadata: dict[str, str]) -> None:
    found = scope(WEB, DB, *texts, **metadata)
    listener = found.outbound.listeners["127.0.0.1_15007"]
    assert (listener.address, listener.port, listener.bind) == ("127.0.0.1", 15007, True)
    (chain,) = listener.chains
    assert chain.http is not None
    assert (chain.http.rds, chain.http.stat_prefix) == ("http_proxy", "outbound_127.0.0.1_15007;")
    names = domains(found)
    assert list(names) == ["web.default.svc.cluster.local:80", "web.default.svc.cluster.local:8080", "allow_any"]
    assert {"web", "web:80"} < set(names["web.default.svc.cluster.local:80"])
    assert "web:8080" in names["web.default.svc.cluster.local:8080"]
    assert not found.outbound.routes["http_proxy"].ignore_port


@pytest.mark.parametrize("said", ["", "0", "70000", "-1", "x", 15007.0])
def test_without_a_port_there_is_no_such_listener(said: object) -> None:
    found = scope(WEB, HTTP_PROXY_PORT=said).outbound
    assert "http_proxy" not in found.routes
    assert [one for one in found.listeners if one.startswith("127.")] == []


def test_the_mesh_may_have_no_services_at_all() -> None:
    assert list(domains(scope(ON))) == ["allow_any"]


@pytest.mark.parametrize(
    ("egress", "expected"),
    [
        ({"hosts": ["*/web.default.svc.cluster.local"]}, ["web.default.svc.cluster.local:80", "allow_any"]),
        ({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*/*"]}, ["allow_any"]),
        ({"port": {"number": 80, "protocol": "HTTP"}, "bind": "unix:///a", "hosts": ["*/*"]}, ["allow_any"]),
    ],
)
def test_behind_it_is_what_the_workload_sees_on_all_ports(egress: object, expected: list[str]) -> None:
    own = fleet.istio("Sidecar", "own", {"egress": [egress]})
    found = scope(fleet.kube_service("web"), fleet.kube_service("other"), ON, own)
    assert list(domains(found)) == expected


def test_a_listener_that_a_sidecar_asks_for_there_stands() -> None:
    port = {"number": 15007, "name": "proxy", "protocol": "HTTP_PROXY"}
    own = fleet.istio("Sidecar", "own", {"egress": [{"port": port, "bind": "127.0.0.1", "hosts": ["*/*"]}]})
    found = scope(WEB, ON, own).outbound
    assert "http_proxy" not in found.routes
    assert "127.0.0.1_15007" in found.listeners


def test_second_names_are_known_behind_it() -> None:
    alias = fleet.dump(
        "v1", "Service", "alias", spec={"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}
    )
    assert "alias:80" in domains(scope(WEB, alias, ON))["web.default.svc.cluster.local:80"]


@pytest.mark.parametrize(("said", "expected"), [("1", {True}), ("true", {True}), ("0", {False}), (None, {False})])
def test_a_workload_may_take_http_1_0(said: str | None, expected: set[bool]) -> None:
    found = scope(WEB, ON, **({"HTTP10": said} if said else {}))
    assert found.inbound is not None
    every = (*found.outbound.listeners.values(), *found.inbound.listeners.values())
    assert {one.own.http10 for one in every if any(chain.http for chain in one.chains)} == expected


def test_a_gateway_may_take_http_1_0() -> None:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    mesh = fleet.Mesh(fleet.istio("Gateway", "gw", {"servers": [server]}))
    (listener,) = mesh.scope(fleet.proxy(kind="router", HTTP10="1")).outbound.listeners.values()
    assert listener.own.http10


@pytest.mark.parametrize(("said", "expected"), [("90s", 90), ("30 s", None), ("-1s", None), (30, None), (None, None)])
def test_a_workload_may_say_when_idle_connections_end(said: object, expected: int | None) -> None:
    found = scope(WEB, DB, ON, **({"IDLE_TIMEOUT": said} if said else {}))
    assert found.inbound is not None
    every = (*found.outbound.listeners.values(), *found.inbound.listeners.values())
    assert {one.own.idle_timeout for one in every} == {timedelta(seconds=expected) if expected else None}


def test_mongodb_is_known_on_both_sides() -> None:
    db = fleet.kube_service("client", ports=[{"name": "mongo", "port": 27017}, {"name": "tcp", "port": 27018}])
    mesh = fleet.Mesh(
        db, fleet.pod("client-1", "10.1.9.9"), fleet.slice_of("client", fleet.backend("10.1.9.9", "client-1"))
    )
    found = mesh.scope(fleet.proxy())
    assert found.inbound is not None
    out = found.outbound.listeners
    told = {
        name: [chain.tcp.mongo for chain in out[name].chains if chain.tcp] for name in out if name.startswith("10.")
    }
    assert told == {"10.0.0.1_27017": [True], "10.0.0.1_27018": [False]}
    (inbound,) = found.inbound.listeners.values()
    assert {chain.match.destination_port for chain in inbound.chains if chain.tcp and chain.tcp.mongo} == {27017}
