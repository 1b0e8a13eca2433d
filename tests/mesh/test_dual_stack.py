"""Workloads, Services and endpoints with IPv4 and IPv6 (features row B10)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from istiod.mesh import families
from istiod.mesh.families import Families
from istiod.mesh.scope import Listener, Scope
from tests.mesh import fleet

BOTH = "10.1.9.9,fd00::9"
DB = [{"name": "tcp", "port": 5432}]
ADDRESSES = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd10::1"]}
REVERSED = {"clusterIP": "fd10::1", "clusterIPs": ["fd10::1", "10.0.0.1"]}


def scope(mesh: fleet.Mesh, ips: str = BOTH, kind: str = "sidecar", **more: object) -> Scope:
    return mesh.scope(fleet.proxy(ip=ips.partition(",")[0], kind=kind, INSTANCE_IPS=ips, **more))


def places(listeners: Mapping[str, Listener]) -> dict[str, tuple[str, ...]]:
    """Name -> all addresses of each listener."""
    return {name: (one.address, *one.additional_addresses) for name, one in listeners.items()}


def entry(name: str, *addresses: str, protocol: str = "TCP", age: int = 1) -> str:
    spec = {
        "hosts": [f"{name}.example"],
        "addresses": list(addresses),
        "ports": [{"number": 5432, "name": "p", "protocol": protocol}],
        "resolution": "STATIC",
        "endpoints": [{"address": "10.9.9.9"}],
    }
    return fleet.istio("ServiceEntry", name, spec, creationTimestamp=f"2026-01-0{age}T00:00:00Z")


def test_families_are_those_of_real_addresses() -> None:
    assert families.versions(("10.0.0.1", "junk", "::1", "10.0.0.2")) == (4, 6)
    assert [families.of(ips) for ips in (("::1",), ("::1", "10.0.0.1"), ("junk",), ())] == [
        Families.IPV6,
        Families.DUAL,
        Families.IPV4,
        Families.IPV4,
    ]


def test_a_workload_with_both_listens_on_both_for_both_directions() -> None:
    mesh = fleet.Mesh(fleet.kube_service("web", spec=ADDRESSES), fleet.kube_service("db", ports=DB, spec=ADDRESSES))
    found = scope(mesh)
    assert places(found.outbound.listeners) == {
        "virtualOutbound": ("0.0.0.0", "::"),
        "0.0.0.0_80": ("0.0.0.0", "::"),
        "10.0.0.1_5432": ("10.0.0.1", "fd10::1"),
    }
    assert found.inbound is not None
    assert places(found.inbound.listeners) == {"virtualInbound": ("0.0.0.0", "::")}
    (rest,) = found.inbound.clusters.values()
    assert rest.bind_addresses == ("127.0.0.6", "::6")


def test_the_pod_knows_better_than_the_proxy_which_addresses_there_are() -> None:
    pod = fleet.dump(
        "v1", "Pod", "client-1", spec={}, status={"podIP": "10.1.9.9", "podIPs": [{"ip": ip} for ip in BOTH.split(",")]}
    )
    found = scope(fleet.Mesh(pod), "10.1.9.9")
    assert places(found.outbound.listeners) == {"virtualOutbound": ("0.0.0.0", "::")}


@pytest.mark.parametrize("spec", [ADDRESSES, REVERSED])
@pytest.mark.parametrize(
    ("ips", "expected"), [("10.1.9.9", {"10.0.0.1_5432": ("10.0.0.1",)}), ("fd00::9", {"fd10::1_5432": ("fd10::1",)})]
)
def test_a_workload_with_one_gets_the_services_addresses_of_that_one(
    ips: str, spec: object, expected: dict[str, tuple[str, ...]]
) -> None:
    found = places(scope(fleet.Mesh(fleet.kube_service("db", ports=DB, spec=spec)), ips).outbound.listeners)
    del found["virtualOutbound"]
    assert found == expected


def test_without_capture_both_loopbacks_are_listened_on() -> None:
    found = scope(fleet.Mesh(fleet.kube_service("web", spec=ADDRESSES)), INTERCEPTION_MODE="NONE")
    assert places(found.outbound.listeners) == {"127.0.0.1_80": ("127.0.0.1", "::1")}


def test_a_gateway_with_both_listens_on_both_unless_its_server_names_an_address() -> None:
    def server(**more: object) -> object:
        return {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"], **more}

    def made(**more: object) -> fleet.Mesh:
        return fleet.Mesh(fleet.istio("Gateway", "gw", {"servers": [server(**more)]}))

    assert places(scope(made(), kind="router").outbound.listeners) == {"0.0.0.0_80": ("0.0.0.0", "::")}
    assert places(scope(made(), "fd00::9", kind="router").outbound.listeners) == {"::_80": ("::",)}
    assert places(scope(made(bind="10.1.9.9"), kind="router").outbound.listeners) == {"10.1.9.9_80": ("10.1.9.9",)}


def test_names_of_hosts_outside_are_looked_up_in_both() -> None:
    spec = {
        "hosts": ["db.example"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "DNS",
    }
    clusters = scope(fleet.Mesh(fleet.istio("ServiceEntry", "db", spec))).outbound.clusters
    assert clusters["outbound|80||db.example"].families is Families.DUAL


def test_an_entry_listens_at_each_address_and_those_of_the_other_version_go_with_the_first() -> None:
    found = scope(fleet.Mesh(entry("db", "10.0.0.1", "fd10::1", "10.0.0.2", "fd10::2"))).outbound.listeners
    assert places(found) == {
        "virtualOutbound": ("0.0.0.0", "::"),
        "10.0.0.1_5432": ("10.0.0.1", "fd10::1", "fd10::2"),
        "10.0.0.2_5432": ("10.0.0.2",),
    }


def test_an_address_that_another_host_listens_on_by_itself_is_shared_with_it() -> None:
    mesh = fleet.Mesh(
        entry("a", "10.0.0.1", "fd10::1", protocol="TLS", age=1),
        entry("b", "fd10::1", protocol="TLS", age=2),
        entry("c", "10.0.0.3", "fd10::2", age=3),
        entry("d", "10.0.0.4", "fd10::2", age=4),
    )
    found = scope(mesh).outbound.listeners
    assert places(found) == {
        "virtualOutbound": ("0.0.0.0", "::"),
        "10.0.0.1_5432": ("10.0.0.1",),
        "fd10::1_5432": ("fd10::1",),
        "10.0.0.3_5432": ("10.0.0.3", "fd10::2"),
        "10.0.0.4_5432": ("10.0.0.4",),
    }
    assert [told for told in mesh.told() if told[0] == "PORT_CONFLICT"] == [
        ("PORT_CONFLICT", "b", "spec.ports"),
        ("PORT_CONFLICT", "d", "spec.ports"),
    ]


def test_no_listener_of_a_sidecar_takes_an_address_that_an_earlier_one_has() -> None:
    said = {
        "egress": [
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "bind": "::", "hosts": ["*/*"]},
            {"hosts": ["*/*"]},
        ]
    }
    mesh = fleet.Mesh(fleet.kube_service("web", spec=ADDRESSES), fleet.istio("Sidecar", "own", said))
    found = places(scope(mesh).outbound.listeners)
    assert found == {"virtualOutbound": ("0.0.0.0", "::"), "::_80": ("::",), "0.0.0.0_80": ("0.0.0.0",)}


def test_a_service_on_the_proxys_own_port_does_not_take_its_listener() -> None:
    ports = [{"name": "http", "port": 15001}]
    found = scope(fleet.Mesh(fleet.kube_service("odd", ports=ports, spec=ADDRESSES))).outbound.listeners
    assert places(found) == {"virtualOutbound": ("0.0.0.0", "::")}


def slices(*pods: tuple[str, str, str]) -> list[str]:
    """Both slices of Service web: (pod, IPv4, IPv6) with "" for none."""
    four = [fleet.backend(v4, name) for name, v4, _ in pods if v4]
    six = [fleet.backend(v6, name) for name, _, v6 in pods if v6]
    return [
        fleet.slice_of("web", *four, name="web-4"),
        fleet.slice_of("web", *six, name="web-6", family="IPv6"),
        *(fleet.pod(name, v4 or v6) for name, v4, v6 in pods),
    ]


PODS = (("web-1", "10.1.0.1", "fd00::1"), ("web-2", "10.1.0.2", ""), ("web-3", "", "fd00::3"))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ADDRESSES, [("10.1.0.1", "fd00::1"), ("10.1.0.2",), ("fd00::3",)]),
        (REVERSED, [("10.1.0.2",), ("fd00::1", "10.1.0.1"), ("fd00::3",)]),
    ],
)
def test_a_pod_with_both_is_one_endpoint_and_the_services_own_version_leads(
    spec: object, expected: list[tuple[str, ...]]
) -> None:
    mesh = fleet.Mesh(fleet.kube_service("web", spec=spec), *slices(*PODS))
    found = mesh.context.endpoints.of("web.default.svc.cluster.local", "default", 80)
    assert [(one.address, *one.additional) for one in found] == expected


def test_headless_pods_are_matched_by_all_their_addresses() -> None:
    headless = fleet.kube_service("web", ports=[{"name": "tcp", "port": 8080}], spec={"clusterIP": "None"})
    four, six, *pods = slices(*PODS)
    mesh = fleet.Mesh(headless, *(one.replace("name: http", "name: tcp") for one in (four, six)), *pods)
    (chain,) = scope(mesh).outbound.listeners["0.0.0.0_8080"].chains
    assert chain.match.prefixes == ("10.1.0.1/32", "fd00::1/128", "10.1.0.2/32", "fd00::3/128")


def test_pods_that_an_entry_selects_have_both_addresses_too() -> None:
    spec = {
        "hosts": ["web.example"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "workloadSelector": {"labels": {"app": "web"}},
    }
    pod = fleet.pod("web-1", "10.1.0.1").replace(
        "podIP: 10.1.0.1", "podIP: 10.1.0.1\n  podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]"
    )
    mesh = fleet.Mesh(fleet.istio("ServiceEntry", "web", spec), pod)
    (one,) = mesh.context.endpoints.of("web.example", "default", 80)
    assert (one.address, one.additional) == ("10.1.0.1", ("fd00::1",))
