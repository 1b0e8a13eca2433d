from __future__ import annotations

from typing import Any

import pytest

from crds import core
from istiod.mesh import backends, workloads
from istiod.mesh.endpoint import Endpoint, Health, Workload
from istiod.mesh.settings import MeshSettings
from tests.mesh import fleet, world
from wire import names
from wire.node import Locality

SETTINGS = MeshSettings()
WEB = "web.default.svc.cluster.local"
NODE = fleet.dump(
    "v1",
    "Node",
    "node-1",
    "",
    labels={
        "topology.kubernetes.io/region": "r1",
        "topology.kubernetes.io/zone": "z1",
        "topology.istio.io/subzone": "s1",
    },
)


def served(mesh: fleet.Mesh, port: int = 80, host: str = WEB, namespace: str = "default") -> tuple[Endpoint, ...]:
    return mesh.context.endpoints.of(host, namespace, port)


def addresses(mesh: fleet.Mesh, port: int = 80) -> list[str]:
    return [e.address for e in served(mesh, port)]


def test_an_endpoint_takes_identity_labels_and_place_from_its_pod() -> None:
    mesh = fleet.Mesh(
        fleet.kube_service("web"),
        fleet.pod("web-1", "10.1.0.1", account="shop", labels={"version": "v1"}),
        fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1")),
        NODE,
    )
    (found,) = served(mesh)
    assert (found.address, found.port, found.tls, found.health) == ("10.1.0.1", 8080, True, Health.HEALTHY)
    assert found.identity == "spiffe://cluster.local/ns/default/sa/shop"
    assert found.locality == Locality(region="r1", zone="z1", subzone="s1")
    assert {("version", "v1"), ("topology.kubernetes.io/zone", "z1"), ("kubernetes.io/hostname", "node-1")} <= (
        found.labels
    )
    canonical = {"canonical_name": "web", "canonical_revision": "v1", "cluster_id": "Kubernetes"}
    assert found.workload == Workload(name="web-1", namespace="default", app="web", version="v1", **canonical)


@pytest.mark.parametrize("order", [("agent", "proxy"), ("proxy", "agent")])
def test_of_pods_that_share_the_nodes_address_the_first_by_name_counts_until_it_goes(order: tuple[str, str]) -> None:
    mesh = fleet.Mesh(fleet.kube_service("web"), fleet.slice_of("web", fleet.backend("10.1.0.1")))
    pods = {name: fleet.pod(name, "10.1.0.1", labels={"app": name}) for name in order}
    for name in order:
        mesh.apply(pods[name])
    assert ("app", "agent") in served(mesh)[0].labels
    mesh.remove(pods["agent"])
    assert ("app", "proxy") in served(mesh)[0].labels
    mesh.remove(pods["proxy"])
    assert served(mesh)[0].workload.name == ""


def test_slices_are_merged_without_duplicates_in_a_fixed_order() -> None:
    mesh = fleet.Mesh(
        fleet.kube_service("web"),
        fleet.slice_of("web", fleet.backend("10.1.0.2"), fleet.backend("10.1.0.1")),
        fleet.slice_of("web", fleet.backend("10.1.0.1"), fleet.backend("10.1.0.3"), {"addresses": []}, name="web-2"),
    )
    assert addresses(mesh) == ["10.1.0.1", "10.1.0.2", "10.1.0.3"]


def test_the_healthiest_word_on_an_address_counts() -> None:
    bad = fleet.backend("10.1.0.1", conditions={"ready": False, "serving": True, "terminating": True})
    mesh = fleet.Mesh(
        fleet.kube_service("web"),
        fleet.slice_of("web", bad),
        fleet.slice_of("web", fleet.backend("10.1.0.1"), name="web-2"),
    )
    assert [e.health for e in served(mesh)] == [Health.HEALTHY]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [Health.HEALTHY]),
        ({"ready": True}, [Health.HEALTHY]),
        ({"ready": False}, []),
        ({"ready": False, "serving": False, "terminating": True}, []),
    ],
)
def test_conditions_decide_who_is_sent(conditions: dict[str, bool], expected: list[Health]) -> None:
    mesh = fleet.Mesh(
        fleet.kube_service("web"), fleet.slice_of("web", fleet.backend("10.1.0.1", conditions=conditions))
    )
    assert [e.health for e in served(mesh)] == expected


def test_terminating_endpoints_drain_and_serve_only_when_nobody_else_does() -> None:
    leaving = fleet.backend("10.1.0.1", conditions={"ready": False, "serving": True, "terminating": True})
    mesh = fleet.Mesh(fleet.kube_service("web"), fleet.slice_of("web", leaving, fleet.backend("10.1.0.2")))
    assert [e.health for e in served(mesh)] == [Health.DRAINING, Health.HEALTHY]
    mesh.apply(fleet.slice_of("web", leaving))
    assert [e.health for e in served(mesh)] == [Health.HEALTHY]


def test_identities_are_known_before_a_pod_is_ready_so_that_clusters_need_not_change() -> None:
    unready = fleet.backend("10.1.0.1", "web-1", conditions={"ready": False})
    mesh = fleet.Mesh(fleet.kube_service("web"), fleet.pod("web-1", "10.1.0.1"), fleet.slice_of("web", unready))
    before = mesh.context
    assert (addresses(mesh), before.endpoints.leaves[WEB, "default"].identities) == (
        [],
        ("spiffe://cluster.local/ns/default/sa/default",),
    )
    mesh.apply(fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1")))
    assert addresses(mesh) == ["10.1.0.1"]
    assert mesh.context.model.summary(WEB, "default").identities == before.model.summary(WEB, "default").identities


def test_a_backend_waits_for_the_pod_that_it_names() -> None:
    mesh = fleet.Mesh(fleet.kube_service("web"), fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1")))
    assert addresses(mesh) == []
    mesh.apply(fleet.pod("web-1", "10.1.0.1"))
    assert addresses(mesh) == ["10.1.0.1"]
    mesh.remove(fleet.pod("web-1", "10.1.0.1"))
    assert addresses(mesh) == []


def test_a_backend_that_names_nobody_is_found_by_address() -> None:
    mesh = fleet.Mesh(
        fleet.kube_service("web"), fleet.slice_of("web", fleet.backend("10.1.0.1", nodeName="node-1")), NODE
    )
    (stranger,) = served(mesh)
    assert (stranger.tls, stranger.identity, stranger.locality.region) == (False, "", "r1")
    mesh.apply(fleet.pod("web-1", "10.1.0.1"))
    (known,) = served(mesh)
    assert (known.tls, known.workload.name) == (True, "web-1")
    mesh.apply(fleet.pod("web-1", "10.1.0.7"))
    assert [e.tls for e in served(mesh)] == [False]


def test_an_address_belongs_to_the_pod_that_has_it_now() -> None:
    mesh = fleet.Mesh(
        fleet.kube_service("web"),
        fleet.slice_of("web", fleet.backend("10.1.0.1")),
        fleet.pod("old-1", "10.1.0.1"),
    )
    mesh.apply(fleet.pod("new-1", "10.1.0.1"))
    mesh.apply(fleet.pod("old-1", "10.1.0.1", phase="Succeeded"))
    assert [e.workload.name for e in served(mesh)] == ["new-1"]


def test_ipv4_goes_before_ipv6_and_names_are_left_out() -> None:
    six = fleet.slice_of("web", fleet.backend("fd00::1"), name="web-6", family="IPv6")
    mesh = fleet.Mesh(
        fleet.kube_service("web"),
        fleet.slice_of("web", fleet.backend("10.1.0.1")),
        six,
        fleet.slice_of("web", fleet.backend("a.com"), name="web-n", family="FQDN"),
    )
    assert addresses(mesh) == ["10.1.0.1"]
    mesh.remove(fleet.slice_of("web"))
    assert addresses(mesh) == ["fd00::1"]


def test_ports_are_joined_by_name() -> None:
    mesh = fleet.Mesh(
        fleet.kube_service("web", ports=[{"name": "http", "port": 80}, {"name": "admin", "port": 81}]),
        fleet.slice_of(
            "web",
            fleet.backend("10.1.0.1"),
            ports=[
                {"name": "admin", "port": 9},
                {"name": "http", "port": 8},
                {"name": "other", "port": 7},
                {"name": ""},
            ],
        ),
    )
    assert [(e.port) for e in (*served(mesh, 80), *served(mesh, 81))] == [8, 9]
    assert mesh.context.endpoints.of(WEB, "default", 7) == ()


def test_a_slice_that_changes_its_service_leaves_the_old_one() -> None:
    mesh = fleet.Mesh(
        fleet.kube_service("web"), fleet.kube_service("shop"), fleet.slice_of("web", fleet.backend("10.1.0.1"))
    )
    mesh.apply(fleet.slice_of("shop", fleet.backend("10.1.0.1"), name="web-1"))
    assert addresses(mesh) == []
    assert [e.address for e in served(mesh, 80, "shop.default.svc.cluster.local")] == ["10.1.0.1"]
    mesh.apply(fleet.dump("discovery.k8s.io/v1", "EndpointSlice", "web-1"))
    assert mesh.context.endpoints.leaves == {}


def test_endpoints_of_no_service_are_nobodys() -> None:
    mesh = fleet.Mesh(fleet.slice_of("web", fleet.backend("10.1.0.1")))
    assert mesh.context.endpoints.leaves == {}
    mesh.apply(fleet.kube_service("web"))
    assert addresses(mesh) == ["10.1.0.1"]
    mesh.remove(fleet.kube_service("web"))
    assert mesh.context.endpoints.leaves == {}


def entry(**more: object) -> str:
    spec = {
        "hosts": ["vm.com"],
        "ports": [{"name": "http", "number": 80, "targetPort": 8080}, {"name": "tcp", "number": 90}],
        "resolution": "STATIC",
        "workloadSelector": {"labels": {"app": "vm"}},
        **more,
    }
    return fleet.istio("ServiceEntry", "vm", spec)


def test_a_service_entry_selects_pods_that_are_ready() -> None:
    mesh = fleet.Mesh(
        entry(),
        fleet.pod("vm-1", "10.1.0.1"),
        fleet.pod("vm-2", "10.1.0.2", ready="False"),
        fleet.pod("vm-3", ""),
        fleet.pod("other-1", "10.1.0.4"),
        fleet.pod("vm-1", "10.1.0.5", "elsewhere"),
    )
    assert [(e.address, e.port) for e in served(mesh, 80, "vm.com")] == [("10.1.0.1", 8080)]
    assert [(e.address, e.port) for e in served(mesh, 90, "vm.com")] == [("10.1.0.1", 90)]
    mesh.apply(fleet.pod("vm-2", "10.1.0.2"))
    assert [e.address for e in served(mesh, 80, "vm.com")] == ["10.1.0.1", "10.1.0.2"]


def test_a_service_entry_that_names_no_endpoints_has_none() -> None:
    mesh = fleet.Mesh(entry(workloadSelector=None))
    assert mesh.context.endpoints.leaves == {}
    assert served(fleet.Mesh(entry(resolution="NONE", workloadSelector=None)), 80, "vm.com") == ()


def test_declared_endpoints_follow_their_entry() -> None:
    def static(address: str) -> str:
        return entry(workloadSelector=None, endpoints=[{"address": address}])

    mesh = fleet.Mesh(static("1.1.1.1"))
    before = mesh.context.endpoints
    assert [e.address for e in served(mesh, 80, "vm.com")] == ["1.1.1.1"]
    mesh.apply(static("1.1.1.2"))
    assert [e.address for e in served(mesh, 80, "vm.com")] == ["1.1.1.2"]
    assert before.of("vm.com", "default", 80)[0].address == "1.1.1.1"


def test_mtls_that_a_workload_switches_off_is_not_offered_to_clients() -> None:
    off = fleet.istio(
        "PeerAuthentication",
        "web",
        {"selector": {"matchLabels": {"app": "web"}}, "portLevelMtls": {8080: {"mode": "DISABLE"}}},
    )
    mesh = fleet.Mesh(
        fleet.kube_service("web", ports=[{"name": "http", "port": 80}, {"name": "admin", "port": 81}]),
        fleet.pod("web-1", "10.1.0.1"),
        fleet.slice_of(
            "web",
            fleet.backend("10.1.0.1", "web-1"),
            ports=[{"name": "http", "port": 8080}, {"name": "admin", "port": 8081}],
        ),
        off,
    )
    assert [e.tls for e in (*served(mesh, 80), *served(mesh, 81))] == [False, True]
    mesh.remove(off)
    assert [e.tls for e in served(mesh, 80)] == [True]


def the_pod(text: str, localities: dict[str, Locality] | None = None) -> workloads.PodWorkload:
    item = fleet.parsed(text)
    assert isinstance(item, core.Pod)
    return workloads.pod(item, SETTINGS, localities or {})


OWNER = [{"kind": "ReplicaSet", "name": "web-5d8", "controller": True}]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "web-1"),
        ({"ownerReferences": OWNER}, "web-1"),
        ({"ownerReferences": OWNER, "generateName": "web-5d8-"}, "web-5d8"),
        ({"ownerReferences": OWNER, "generateName": "web-5d8-", "labels": {"pod-template-hash": "5d8"}}, "web"),
        ({"ownerReferences": [{**OWNER[0], "kind": "DaemonSet"}], "generateName": "x-"}, "web-5d8"),
        ({"labels": {"service.istio.io/workload-name": "said"}}, "said"),
    ],
)
def test_a_workload_is_named_after_what_runs_the_pod(more: dict[str, Any], expected: str) -> None:
    found = the_pod(fleet.pod("web-1", "10.1.0.1", **more))
    assert found.workload.name == expected


def test_a_label_says_the_locality_before_the_node_does() -> None:
    nodes = {"node-1": Locality(region="r")}
    assert the_pod(fleet.pod("web-1", "10.1.0.1"), nodes).locality == Locality(region="r")
    said = fleet.pod("web-1", "10.1.0.1", labels={"istio-locality": "a.b.c"})
    assert the_pod(said, nodes).locality == Locality(region="a", zone="b", subzone="c")


def test_a_pod_without_account_runs_as_default() -> None:
    assert the_pod(fleet.pod("web-1", "10.1.0.1")).identity == "spiffe://cluster.local/ns/default/sa/default"


def test_all_addresses_and_ports_of_a_pod_are_kept() -> None:
    containers = [
        {"name": "a", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]}
    ]
    text = fleet.pod("web-1", "", spec={"containers": containers})
    item = fleet.parsed(text)
    assert isinstance(item, core.Pod)
    ips = (core.PodIP(ip="10.1.0.1"), core.PodIP(ip="fd00::1"))
    item = item.model_copy(update={"status": item.status.model_copy(update={"pod_ips": ips})})
    found = workloads.pod(item, SETTINGS, {})
    assert found.addresses == ("10.1.0.1", "fd00::1")
    assert [(port.number, port.name, port.udp) for port in found.ports] == [(80, "http", False), (53, "", True)]


def test_an_index_that_is_updated_equals_one_that_is_built() -> None:
    mesh = fleet.Mesh(fleet.kube_service("web"), fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1")))
    mesh.apply(fleet.pod("web-1", "10.1.0.1"), fleet.slice_of("web", fleet.backend("10.1.0.2"), name="web-2"))
    mesh.apply(fleet.slice_of("web", fleet.backend("10.1.0.3")), fleet.slice_of("gone", fleet.backend("10.1.0.3")))
    mesh.remove(fleet.slice_of("gone"))
    fresh = mesh.fresh().backends
    found = mesh.context.backends
    assert (found.slices, found.owners, found.users) == (fresh.slices, fresh.owners, fresh.users)
    assert (found.pods, found.by_address) == (fresh.pods, fresh.by_address)


def test_a_pod_event_that_means_nothing_touches_nothing() -> None:
    taken = world.snapshot(fleet.pod("web-1", "10.1.0.1"))
    before = backends.build(taken, SETTINGS)
    after, touched = backends.update(before, taken, taken.of(*backends.PODS), SETTINGS)
    assert touched == backends.Touched()
    assert after.pods["default", "web-1"] is before.pods["default", "web-1"]


@pytest.mark.parametrize(
    ("manager", "target", "in_slice", "expected"),
    [
        (names.SLICE_CONTROLLER, 8080, {"name": "http", "port": 8080}, ["10.1.0.1"]),
        (names.SLICE_CONTROLLER, 8081, {"name": "http", "port": 8080}, []),
        (names.SLICE_CONTROLLER, "web", {"name": "http", "port": 8080}, []),
        (names.SLICE_CONTROLLER, 8080, {"name": "http", "port": 8080, "protocol": "UDP"}, []),
        ("somebody", 8080, {"name": "http", "port": 8080}, []),
    ],
)
def test_a_renamed_port_keeps_its_endpoints_until_the_slices_follow(
    manager: str, target: int | str, in_slice: dict[str, Any], expected: list[str]
) -> None:
    ports = [{"name": "grpc", "port": 80, "targetPort": target}, {"name": "admin", "port": 81, "targetPort": 9000}]
    labels = {names.LABEL_SERVICE_NAME: "web", names.LABEL_SLICE_MANAGER: manager}
    in_slices = [in_slice, {"name": "admin", "port": 9000}]
    mesh = fleet.Mesh(
        fleet.kube_service("web", ports=ports),
        fleet.slice_of("web", fleet.backend("10.1.0.1"), ports=in_slices, labels=labels),
    )
    assert addresses(mesh) == expected
    assert addresses(mesh, 81) == ["10.1.0.1"]
