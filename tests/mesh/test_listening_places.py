"""Where proxies listen: what Services, Sidecars, features and the proxy itself have to say in it."""

from __future__ import annotations

import pytest

from istiod.features import Features
from istiod.mesh.scope import InboundScope, Scope
from istiod.mesh.service import Protocol
from tests.mesh import fleet


def inbound_of(scope: Scope) -> InboundScope:
    assert scope.inbound is not None
    return scope.inbound


def test_of_several_services_the_oldest_says_where_a_gateway_listens() -> None:
    def sends(name: str, target: int, created: str) -> str:
        ports = [{"name": "http", "port": 80, "targetPort": target}]
        return fleet.kube_service(name, ports=ports, creationTimestamp=created, spec={"selector": {"app": "gw"}})

    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    texts = (sends("a", 8080, "2024-01-02T00:00:00Z"), sends("b", 8081, "2024-01-01T00:00:00Z"))
    mesh = fleet.Mesh(*texts, fleet.istio("Gateway", "gw", {"servers": [server]}))
    assert list(mesh.scope(fleet.proxy(kind="router", LABELS={"app": "gw"})).outbound.listeners) == ["0.0.0.0_8081"]


def test_a_gateway_that_names_its_services_stands_where_these_send_its_ports() -> None:
    def sends(name: str, port: int, target: int) -> str:
        ports = [{"name": "http", "port": port, "targetPort": target}]
        return fleet.kube_service(name, ports=ports, spec={"selector": {"app": "gw"}})

    def gateway(services: str, namespace: str = "default") -> str:
        servers = [{"port": {"number": n, "name": f"h{n}", "protocol": "HTTP"}, "hosts": ["*"]} for n in (80, 81)]
        named = {"internal.istio.io/gateway-service": services}
        return fleet.istio("Gateway", "gw", {"servers": servers}, namespace, annotations=named)

    def listeners(*texts: str) -> list[str]:
        proxy = fleet.proxy(kind="router", LABELS={"app": "gw"})
        return sorted(fleet.Mesh(sends("a", 80, 8080), sends("b", 80, 9080), *texts).scope(proxy).outbound.listeners)

    a, b = "a.default.svc.cluster.local", "b.default.svc.cluster.local"
    assert listeners(gateway(a)) == ["0.0.0.0_8080"]
    assert listeners(gateway(f"{a},{b}")) == ["0.0.0.0_8080", "0.0.0.0_9080"]
    assert listeners(gateway(a, "other")) == listeners(gateway("c.default.svc.cluster.local")) == []
    assert listeners(gateway(a), sends("c", 81, 9080)) == ["0.0.0.0_8080"]


@pytest.mark.parametrize(("merged", "ports"), [(False, {"8080", "9080"}), (True, {"8080", "8081", "9080"})])
def test_ports_of_a_sidecar_may_come_on_top_of_those_of_services(*, merged: bool, ports: set[str]) -> None:
    numbers = [{"name": f"http-{n}", "port": n} for n in (8080, 8081)]
    ingress = [{"port": {"number": n, "name": "x", "protocol": "TCP"}} for n in (8080, 9080)]
    features = Features(merge_ingress=merged)
    sidecar = fleet.istio("Sidecar", "own", {"ingress": ingress})
    mesh = fleet.Mesh(fleet.kube_service("web", ports=numbers), sidecar, features=features)
    found = inbound_of(mesh.scope(fleet.proxy("web-1", LABELS={"app": "web"}))).clusters
    assert {name.split("|")[1] for name in found if "|" in name} == ports
    assert found["inbound|8080||"].protocol is Protocol.TCP


def test_a_proxy_without_privileges_listens_on_no_port_below_1024() -> None:
    servers = [{"port": {"number": n, "name": f"h{n}", "protocol": "HTTP"}, "hosts": ["*"]} for n in (80, 1024)]
    mesh = fleet.Mesh(fleet.istio("Gateway", "gw", {"servers": servers}))
    for said, listeners in (("true", ["0.0.0.0_1024"]), ("false", ["0.0.0.0_80", "0.0.0.0_1024"])):
        proxy = fleet.proxy(kind="router", LABELS={"app": "gw"}, UNPRIVILEGED_POD=said)
        assert list(mesh.scope(proxy).outbound.listeners) == listeners
    ports = [{"port": {"number": n, "name": f"h{n}", "protocol": "HTTP"}} for n in (81, 1025)]
    spec = {
        "ingress": [{**port, "defaultEndpoint": "127.0.0.1:9000"} for port in ports],
        "egress": [{**port, "hosts": ["*/*"]} for port in ports],
    }
    service = fleet.kube_service("far", ports=[{"name": f"http-{n}", "port": n} for n in (81, 1025)])
    mesh = fleet.Mesh(service, fleet.istio("Sidecar", "all", spec))
    scope = mesh.scope(fleet.proxy(UNPRIVILEGED_POD="true", INTERCEPTION_MODE="NONE"))
    assert [one for one in scope.outbound.listeners if one.startswith("127")] == ["127.0.0.1_1025"]
    assert [one.rpartition("_")[2] for one in inbound_of(scope).listeners] == ["1025"]
    captured = mesh.scope(fleet.proxy(UNPRIVILEGED_POD="true"))
    assert {"0.0.0.0_81", "0.0.0.0_1025"} <= set(captured.outbound.listeners)
