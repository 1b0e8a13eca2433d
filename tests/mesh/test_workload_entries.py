from __future__ import annotations

from typing import Any

import pytest

from istiod.config.store import ConfigStore
from istiod.features import Features
from istiod.mesh import context, workloads
from istiod.mesh.scope import Discovery
from tests.mesh import fleet
from wire.node import Locality

PORTS = [{"name": "http", "number": 80, "protocol": "HTTP", "targetPort": 8080}]


def entry(name: str, address: str, labels: dict[str, str] | None = None, **more: Any) -> str:
    spec = {"address": address, "labels": {"app": "db"} if labels is None else labels, **more.pop("spec", {})}
    return fleet.istio("WorkloadEntry", name, spec, **more)


def host(name: str = "db.com", resolution: str = "STATIC", **more: Any) -> str:
    spec = {"hosts": [name], "ports": PORTS, "resolution": resolution, "workloadSelector": {"labels": {"app": "db"}}}
    return fleet.istio("ServiceEntry", name.partition(".")[0], {**spec, **more})


def served(mesh: fleet.Mesh, name: str = "db.com", port: int = 80) -> list[tuple[str, int]]:
    return [(e.address, e.port) for e in mesh.context.endpoints.of(name, "default", port)]


def test_a_host_selects_pods_and_entries_of_its_namespace_alike() -> None:
    mesh = fleet.Mesh(
        host(),
        fleet.pod(
            "db-1", "10.1.0.1", spec={"containers": [{"name": "a", "ports": [{"name": "http", "containerPort": 9}]}]}
        ),
        entry("vm-1", "192.0.2.1", spec={"ports": {"http": 81}}),
        entry("vm-2", "192.0.2.2"),
        entry("other", "192.0.2.3", {"app": "web"}),
        entry("far", "192.0.2.4", namespace="elsewhere"),
    )
    assert served(mesh) == [("10.1.0.1", 9), ("192.0.2.1", 81), ("192.0.2.2", 8080)]


def test_an_entry_says_who_where_and_how_heavy_it_is() -> None:
    labels = {"app": "db", "version": "v1"}
    spec = {"locality": "r/z", "weight": 3, "serviceAccount": "vm"}
    mesh = fleet.Mesh(host(), entry("vm-1", "192.0.2.1", labels, spec=spec))
    (found,) = mesh.context.endpoints.of("db.com", "default", 80)
    assert (found.weight, found.identity) == (3, "spiffe://cluster.local/ns/default/sa/vm")
    assert found.locality == Locality(region="r", zone="z")
    assert found.workload.name == "vm-1"
    assert ("version", "v1") in found.labels
    assert mesh.context.model.summary("db.com", "default").identities == ("spiffe://cluster.local/ns/default/sa/vm",)


@pytest.mark.parametrize(
    ("labels", "account", "tls"),
    [
        ({"app": "db"}, "", False),
        ({"app": "db"}, "vm", True),
        ({"app": "db", "security.istio.io/tlsMode": "istio"}, "", True),
        ({"app": "db", "security.istio.io/tlsMode": "disabled"}, "vm", False),
    ],
)
def test_a_label_or_else_an_account_says_whether_it_has_a_sidecar(
    labels: dict[str, str],
    account: str,
    tls: bool,  # noqa: FBT001 (a table's column)
) -> None:
    mesh = fleet.Mesh(host(), entry("vm-1", "192.0.2.1", labels, spec={"serviceAccount": account}))
    assert [e.tls for e in mesh.context.endpoints.of("db.com", "default", 80)] == [tls]


def test_labels_of_the_object_win_and_one_may_say_the_locality() -> None:
    labels = {"app": "db", "istio-locality": "r.z.s"}
    spec = {"address": "192.0.2.1", "labels": {"app": "web"}}
    mesh = fleet.Mesh(host(), fleet.istio("WorkloadEntry", "vm-1", spec, labels=labels))
    (found,) = mesh.context.endpoints.of("db.com", "default", 80)
    assert found.locality == Locality(region="r", zone="z", subzone="s")


def test_where_a_locality_has_slashes_dots_belong_to_its_names() -> None:
    assert workloads.label_locality({"istio-locality": "r.1/z.2"}) == Locality(region="r.1", zone="z.2")


def test_entries_come_change_and_go() -> None:
    mesh = fleet.Mesh(host())
    assert served(mesh) == []
    mesh.apply(entry("vm-1", "192.0.2.1"))
    before = mesh.context
    assert served(mesh) == [("192.0.2.1", 8080)]
    mesh.apply(entry("vm-1", "192.0.2.9"))
    assert served(mesh) == [("192.0.2.9", 8080)]
    assert mesh.context.model is before.model, "an endpoint event touches no scope"
    mesh.apply(entry("vm-1", "192.0.2.9", annotations={"note": "nothing of ours"}))
    assert served(mesh) == [("192.0.2.9", 8080)]
    mesh.remove(entry("vm-1", "192.0.2.9"))
    assert served(mesh) == []


@pytest.mark.parametrize(
    ("checked", "conditions", "there"),
    [
        ("true", [], False),
        ("true", [{"type": "Healthy", "status": "False"}], False),
        ("true", [{"type": "Healthy", "status": "True"}], True),
        ("true", [{"type": "Accepted", "status": "True"}], False),
        ("false", [{"type": "Healthy", "status": "False"}], True),
    ],
)
def test_where_health_is_checked_only_the_healthy_serve(
    checked: str,
    conditions: list[dict[str, str]],
    there: bool,  # noqa: FBT001 (a table's column)
) -> None:
    notes = {"proxy.istio.io/health-checks-enabled": checked}
    vm = entry("vm-1", "192.0.2.1", annotations=notes, status={"conditions": conditions})
    assert bool(served(fleet.Mesh(host(), vm))) is there


def test_a_service_of_kubernetes_selects_entries_beside_its_pods() -> None:
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "named", "port": 90, "targetPort": "admin"},
        {"name": "plain", "port": 100},
        {"name": "udp", "port": 53, "protocol": "UDP"},
    ]
    mesh = fleet.Mesh(
        fleet.kube_service("db", ports=ports),
        fleet.pod("db-1", "10.1.0.1"),
        fleet.slice_of("db", fleet.backend("10.1.0.1", "db-1")),
        entry("vm-1", "192.0.2.1"),
        entry("vm-2", "192.0.2.2", spec={"ports": {"http": 7, "admin": 8}}),
    )
    name = "db.default.svc.cluster.local"
    assert served(mesh, name) == [("10.1.0.1", 8080), ("192.0.2.1", 8080), ("192.0.2.2", 7)]
    assert served(mesh, name, 90) == [("192.0.2.2", 8)]
    assert served(mesh, name, 100) == [("192.0.2.1", 100), ("192.0.2.2", 100)]
    assert served(mesh, name, 53) == []


def test_an_entry_at_a_pods_address_is_the_pod() -> None:
    """Row SEC69 of the hostile inputs."""
    pod = fleet.pod("db-1", "10.1.0.1", account="pod")
    mesh = fleet.Mesh(host(), pod, entry("vm-1", "10.1.0.1", spec={"serviceAccount": "vm"}))
    (found,) = mesh.context.endpoints.of("db.com", "default", 80)
    assert found.identity.endswith("/sa/pod")


def test_a_feature_variable_keeps_services_to_their_pods() -> None:
    store = ConfigStore(features=Features(select_entries=False))
    for text in (fleet.kube_service("db"), host(), entry("vm-1", "192.0.2.1")):
        store.apply(fleet.parsed(text))
    found = context.build(store.snapshot()).endpoints
    assert found.of("db.default.svc.cluster.local", "default", 80) == ()
    assert [e.address for e in found.of("db.com", "default", 80)] == ["192.0.2.1"]


def test_dns_hosts_hold_the_workloads_that_they_select() -> None:
    mesh = fleet.Mesh(host(resolution="DNS"), entry("vm-1", "vm.example.com"))
    cluster = mesh.scope(fleet.proxy()).outbound.clusters["outbound|80||db.com"]
    assert [(e.address, e.port) for e in cluster.endpoints] == [("vm.example.com", 8080)]
    before = mesh.context.model
    mesh.apply(fleet.pod("web-1", "10.1.0.7"))
    assert mesh.context.model is before
    mesh.apply(entry("vm-2", "192.0.2.2"))
    cluster = mesh.scope(fleet.proxy()).outbound.clusters["outbound|80||db.com"]
    assert [e.address for e in cluster.endpoints] == ["192.0.2.2", "vm.example.com"]
    mesh.remove(entry("vm-1", "192.0.2.1"), entry("vm-2", "192.0.2.2"))
    assert mesh.scope(fleet.proxy()).outbound.clusters["outbound|80||db.com"].endpoints == ()


def test_one_address_at_a_time_is_for_hosts_with_one_name() -> None:
    mesh = fleet.Mesh(host(resolution="DNS_ROUND_ROBIN"), entry("a", "a.example.com"), entry("b", "b.example.com"))
    cluster = mesh.scope(fleet.proxy()).outbound.clusters["outbound|80||db.com"]
    assert (cluster.discovery, len(cluster.endpoints)) == (Discovery.STRICT_DNS, 2)


def test_what_nobody_can_use_of_an_entry_is_told() -> None:
    mesh = fleet.Mesh(
        host(),
        host("named.com", "DNS"),
        fleet.kube_service("db"),
        entry("name", "vm.example.com"),
        entry("socket", "unix:///run/db"),
        entry("far", "192.0.2.1", spec={"network": "far"}),
        entry("nowhere", "", spec={"network": "far"}),
        entry("unused", "vm.example.com", {"app": "nothing"}),
    )
    assert served(mesh) == [("", 8080), ("/run/db", 0), ("192.0.2.1", 8080)]
    assert mesh.told() == [
        ("BAD_VALUE", "name", "spec.address"),
        ("BAD_VALUE", "name", "spec.address"),
        ("BAD_VALUE", "nowhere", "spec.address"),
        ("BAD_VALUE", "socket", "spec.address"),
        ("BAD_VALUE", "socket", "spec.address"),
    ]
    words = [d.message for d in mesh.context.diagnostics if d.key and d.key.name == "name"]
    assert words == [
        "db.com leaves it out: vm.example.com is nothing for resolution STATIC",
        "db.default.svc.cluster.local leaves it out: vm.example.com is nothing for a Service",
    ]
    before = mesh.context.findings.entries
    mesh.apply(fleet.pod("web-1", "10.1.0.7"))
    assert mesh.context.findings.entries is before


def test_every_order_of_events_gives_the_same_endpoints() -> None:
    texts = (host(), fleet.pod("db-1", "10.1.0.1"), entry("vm-1", "192.0.2.1"), entry("vm-2", "192.0.2.2"))
    orders = []
    for turn in range(len(texts)):
        mesh = fleet.Mesh()
        for text in (*texts[turn:], *texts[:turn]):
            mesh.apply(text)
        orders.append(served(mesh))
        assert served(mesh) == [(e.address, e.port) for e in mesh.fresh().endpoints.of("db.com", "default", 80)]
    assert orders == [orders[0]] * len(texts)


def test_an_event_of_a_pod_touches_the_pods_of_its_namespace_only() -> None:
    found = fleet.Mesh(fleet.pod("b-1", "10.1.0.2"), fleet.pod("a-1", "10.1.0.1"), fleet.pod("c-1", "10.2.0.1", "far"))
    before = found.context.backends.homes
    assert [[pod.name for pod in before[home]] for home in ("default", "far")] == [["a-1", "b-1"], ["c-1"]]
    after = found.remove(fleet.pod("a-1", "10.1.0.1")).backends.homes
    assert [pod.name for pod in after["default"]] == ["b-1"]
    assert after["far"] is before["far"]
