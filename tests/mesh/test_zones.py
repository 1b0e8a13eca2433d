"""Peers of a proxy: its own workload's endpoints, zone by zone, and only where some setting asks for them."""

from __future__ import annotations

import pytest

from istiod.mesh import context
from tests.mesh import fleet

RULE = fleet.istio(
    "DestinationRule", "web", {"host": "web", "trafficPolicy": {"loadBalancer": {"zoneAwareLbSetting": {}}}}
)
MESH = fleet.mesh_config("zoneAwareLbSetting: {enabled: true}")
OFF = fleet.mesh_config("zoneAwareLbSetting: {enabled: false}")


def pod(name: str, ip: str, where: str, **labels: str) -> str:
    """A pod of workload ``app`` in region r, by zone."""
    own = {"app": "app", "istio-locality": where, "service.istio.io/workload-name": "app", **labels}
    return fleet.pod(name, ip, labels=own)


def mesh(*more: str) -> fleet.Mesh:
    pods = {
        "app-1": pod("app-1", "10.1.0.1", "r.a"),
        "app-2": pod("app-2", "10.1.0.2", "r.b"),
        "app-3": pod("app-3", "10.1.0.3", "r.b"),
        "app-4": pod("app-4", "10.1.0.4", "other.a"),
        "old-1": pod("old-1", "10.1.0.5", "r.a", **{"pod-template-hash": "old"}),
        "job-1": pod("job-1", "10.1.0.6", "r.a", **{"service.istio.io/workload-name": "job"}),
    }
    backends = [fleet.backend(f"10.1.0.{n}", name) for n, name in enumerate(pods, 1)]
    return fleet.Mesh(fleet.kube_service("app"), *pods.values(), fleet.slice_of("app", *backends), *more)


@pytest.mark.parametrize("said", [(RULE,), (MESH,)])
def test_peers_are_those_of_the_same_workload_and_region(said: tuple[str, ...]) -> None:
    found = mesh(*said)
    assert context.view(found.context, fleet.proxy("app-1")).peers == (("a", 1), ("b", 2))
    found.remove(pod("app-3", "10.1.0.3", "r.b"))
    assert context.view(found.context, fleet.proxy("app-1")).peers == (("a", 1), ("b", 1))
    assert context.view(found.context, fleet.proxy("stranger-1")).peers == ()


@pytest.mark.parametrize("said", [(), (OFF,)])
def test_nobody_is_counted_where_nobody_asks(said: tuple[str, ...]) -> None:
    assert context.view(mesh(*said).context, fleet.proxy("app-1")).peers == ()


def test_a_proxy_without_a_pod_counts_all_of_its_service() -> None:
    entry = fleet.istio(
        "ServiceEntry",
        "vm",
        {
            "hosts": ["vm.example"],
            "resolution": "STATIC",
            "location": "MESH_INTERNAL",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": "10.2.0.1", "locality": "r/a"}, {"address": "10.2.0.2", "locality": "r/b"}],
        },
    )
    found = fleet.Mesh(entry, MESH)
    said = fleet.proxy("vm-1", ip="10.2.0.1", LABELS={"istio-locality": "r.a"})
    assert context.view(found.context, said).peers == (("a", 1), ("b", 1))
