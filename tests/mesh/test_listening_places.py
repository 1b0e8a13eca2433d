"""Where proxies listen: what Services, Sidecars, features and the proxy itself have to say in it."""

from __future__ import annotations


from tests.mesh import fleet


def test_of_several_services_the_oldest_says_where_a_gateway_listens() -> None:
    def sends(name: str, target: int, created: str) -> str:
        ports = [{"name": "http", "port": 80, "targetPort": target}]
        return fleet.kube_service(name, ports=ports, creationTimestamp=created, spec={"selector": {"app": "gw"}})

    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    texts = (sends("a", 8080, "2024-01-02T00:00:00Z"), sends("b", 8081, "2024-01-01T00:00:00Z"))
    mesh = fleet.Mesh(*texts, fleet.istio("Gateway", "gw", {"servers": [server]}))
    assert list(mesh.scope(fleet.proxy(kind="router", LABELS={"app": "gw"})).outbound.listeners) == ["0.0.0.0_8081"]
