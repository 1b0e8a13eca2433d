"""Names for agents that answer DNS queries, from objects to bytes (features rows C12, D9)."""

from __future__ import annotations

import pytest

from istiod.config.resource import ResourceSet
from istiod.envoy import name_table
from istiod.envoy.compiler import Compiler
from istiod.mesh import context
from protos import nds_pb2
from tests.mesh import fleet
from wire import names

PORTS = [{"name": "http", "number": 80, "protocol": "HTTP"}]
HEADLESS = fleet.kube_service("db", spec={"clusterIP": "None"})
PODS = (fleet.pod("db-0", "10.1.0.1"), fleet.pod("db-1", "10.1.0.2"))


def entry(name: str, *addresses: str, **more: object) -> str:
    spec = {"hosts": [f"{name}.example"], "addresses": list(addresses), "ports": PORTS, "resolution": "NONE", **more}
    return fleet.istio("ServiceEntry", name, spec)


def compiled(mesh: fleet.Mesh, compiler: Compiler, **metadata: object) -> ResourceSet:
    proxy = fleet.proxy(**{"DNS_CAPTURE": "true", **metadata})
    return compiler.compile(mesh.scope(proxy), mesh.context.endpoints, context.view(mesh.context, proxy))


def table(mesh: fleet.Mesh, **metadata: object) -> dict[str, list[str]]:
    found = name_table.message(
        mesh.scope(fleet.proxy(**{"DNS_CAPTURE": "true", **metadata})).outbound.names or (), mesh.context.endpoints
    )
    return {host: list(info.ips) for host, info in found.table.items()}


def test_only_who_captures_dns_has_a_table() -> None:
    mesh = fleet.Mesh(fleet.kube_service("web"))
    assert compiled(mesh, Compiler(), DNS_CAPTURE="false").count(names.NAME_TABLE) == 0
    (found,) = compiled(mesh, Compiler()).of(names.NAME_TABLE)
    expected = nds_pb2.NameTable()
    info = expected.table["web.default.svc.cluster.local"]
    info.ips.append("10.0.0.1")
    info.registry, info.shortname, info.namespace = "Kubernetes", "web", "default"
    assert expected.SerializeToString(deterministic=True) in found.any_frame


def test_hosts_have_their_addresses_and_no_subnets() -> None:
    mesh = fleet.Mesh(
        entry("one", "192.0.2.1", "2001:db8::1"),
        entry("net", "192.0.2.0/24"),
        entry("none"),
        entry("given", resolution="STATIC", endpoints=[{"address": "10.9.9.9"}]),
    )
    found = table(mesh)
    assert found.pop("given.example")[0].startswith("240.240.")
    assert found == {"one.example": ["192.0.2.1"]}
    assert table(mesh, INSTANCE_IPS="10.1.9.9,2001:db8::9")["one.example"] == ["192.0.2.1", "2001:db8::1"]


def test_a_headless_service_is_its_pods_and_named_pods_have_names() -> None:
    named = fleet.slice_of("db", fleet.backend("10.1.0.1", "db-0", hostname="db-0"), fleet.backend("10.1.0.2", "db-1"))
    mesh = fleet.Mesh(HEADLESS, *PODS, named)
    assert table(mesh) == {
        "db.default.svc.cluster.local": ["10.1.0.1", "10.1.0.2"],
        "db-0.db.default.svc.cluster.local": ["10.1.0.1"],
    }
    found = name_table.message(mesh.scope(fleet.proxy(DNS_CAPTURE="true")).outbound.names or (), mesh.context.endpoints)
    assert found.table["db-0.db.default.svc.cluster.local"].shortname == "db-0.db"
    with_address = fleet.Mesh(fleet.kube_service("db"), *PODS, named)
    assert [
        one.hostname for one in with_address.context.endpoints.of("db.default.svc.cluster.local", "default", 80)
    ] == ["", ""]


@pytest.mark.parametrize("resolution", ["NONE"])
def test_a_host_of_the_mesh_without_addresses_is_what_it_selects(resolution: str) -> None:
    mesh = fleet.Mesh(entry("vm", resolution=resolution, workloadSelector={"labels": {"app": "db"}}), *PODS)
    assert table(mesh) == {"vm.example": ["10.1.0.1", "10.1.0.2"]}


def test_a_table_changes_with_what_it_holds_and_with_nothing_else() -> None:
    compiler, mesh = Compiler(), fleet.Mesh(HEADLESS, *PODS, fleet.kube_service("web"))
    one = fleet.slice_of("db", fleet.backend("10.1.0.1", "db-0"))
    mesh.apply(one)
    first = compiled(mesh, compiler)
    assert compiler.changed(first, first) == {}
    mesh.apply(fleet.slice_of("web", fleet.backend("10.1.0.2", "db-1")))
    same = compiled(mesh, compiler)
    assert names.NAME_TABLE not in compiler.changed(first, same)
    mesh.apply(fleet.slice_of("db", fleet.backend("10.1.0.1", "db-0"), fleet.backend("10.1.0.2", "db-1")))
    more = compiled(mesh, compiler)
    assert compiler.changed(same, more)[names.NAME_TABLE] == {name_table.NAME}
    plain = compiled(mesh, compiler, DNS_CAPTURE="false")
    assert compiler.changed(more, plain)[names.NAME_TABLE] == {name_table.NAME}
