from __future__ import annotations

import pytest

from istiod.mesh.scope import Direction
from tests.mesh import fleet

CLIENT = fleet.proxy("web-1", ip="10.1.0.1")
UNCAPTURED = fleet.proxy("web-1", ip="10.1.0.1", INTERCEPTION_MODE="NONE")


def sidecar(bind: str, mode: str = "NONE", port: int = 80, hosts: str = "*/*") -> str:
    listener = {"port": {"number": port, "protocol": "HTTP", "name": "http"}, "bind": bind, "captureMode": mode}
    return fleet.istio("Sidecar", "own", {"ingress": [listener], "egress": [{"hosts": [hosts]}]})


def at(found: fleet.Mesh, name: str, *, captured: bool = True) -> list[Direction]:
    """Which sides give a listener of this name."""
    scope = found.scope(CLIENT if captured else UNCAPTURED)
    assert scope.inbound is not None
    sides = (scope.outbound.listeners, scope.inbound.listeners)
    return [listeners[name].direction for listeners in sides if name in listeners]


TCP = fleet.kube_service("shop", ports=[{"name": "tcp", "port": 80}])
HTTP = fleet.kube_service("shop")


@pytest.mark.parametrize(("service", "bind"), [(TCP, "10.0.0.1"), (HTTP, "0.0.0.0")])
def test_where_a_service_has_a_listener_the_sidecars_own_is_left_out_and_told(service: str, bind: str) -> None:
    found = fleet.Mesh(service, sidecar(bind))
    assert at(found, f"{bind}_80") == [Direction.OUTBOUND]
    assert found.told() == [("PORT_CONFLICT", "own", "spec.ingress[0].bind")]
    found.remove(service)
    assert at(found, f"{bind}_80") == [Direction.INBOUND]
    assert found.told() == []
    found.apply(service)
    assert at(found, f"{bind}_80") == [Direction.OUTBOUND]


def test_a_second_address_of_a_listener_counts_as_its_first() -> None:
    found = fleet.Mesh(HTTP, sidecar("::"))
    both = fleet.proxy("web-1", ip="10.1.0.1")
    assert "::_80" in (found.scope(both).inbound or found.scope(both).outbound).listeners
    double = fleet.pod("web-1", "10.1.0.1")
    found.apply(double.replace("podIP: 10.1.0.1", "podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]"))
    scope = found.scope(both)
    assert scope.inbound is not None
    assert [one.additional_addresses for n, one in scope.outbound.listeners.items() if n == "0.0.0.0_80"] == [("::",)]
    assert "::_80" not in scope.inbound.listeners


@pytest.mark.parametrize(
    ("own", "name"),
    [
        (sidecar("10.0.0.2"), "10.0.0.2_80"),
        (sidecar("10.0.0.1", port=81), "10.0.0.1_81"),
        (sidecar("10.0.0.1", hosts="~/*"), "10.0.0.1_80"),
    ],
)
def test_a_place_of_its_own_is_the_sidecars(own: str, name: str) -> None:
    found = fleet.Mesh(TCP, own)
    assert at(found, name) == [Direction.INBOUND]
    assert found.told() == []


def test_without_capture_services_are_on_the_loopback_address() -> None:
    found = fleet.Mesh(TCP, sidecar("127.0.0.1", "DEFAULT"))
    assert at(found, "127.0.0.1_80", captured=False) == [Direction.OUTBOUND]
    assert found.told() == [("PORT_CONFLICT", "own", "spec.ingress[0].bind")]
    found = fleet.Mesh(TCP, sidecar("10.0.0.1", "DEFAULT"))
    assert at(found, "10.0.0.1_80", captured=False) == [Direction.INBOUND]
    assert found.told() == []
    assert fleet.Mesh(TCP, sidecar("10.0.0.1", "IPTABLES")).told() == []


def test_no_service_takes_the_port_that_captured_traffic_comes_in_by() -> None:
    found = fleet.Mesh(fleet.kube_service("shop", ports=[{"name": "http", "port": 15006}]))
    assert "0.0.0.0_15006" not in found.scope(CLIENT).outbound.listeners
    assert "127.0.0.1_15006" in found.scope(UNCAPTURED).outbound.listeners
