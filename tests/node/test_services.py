"""Services: addresses, EndpointSlices, names, rules."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from crds.key import ConfigKey
from node import objects, resolver, services, world
from node.objects import Raw
from node.services import Addresses, Backend


def service(name: str = "b", **spec: object) -> Raw:
    whole = {"selector": {"app": "b"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "demo"}, "spec": whole}


def backend(number: int, port: int = 8080, **fields: object) -> Backend:
    known: dict[str, object] = {
        "name": f"b-{number}",
        "namespace": "demo",
        "uid": str(number),
        "address": f"10.244.0.{number}",
        "labels": {"app": "b"},
        "ports": ({"name": "web", "containerPort": port},),
        "ready": True,
        "node": "n",
        "zone": "z",
    }
    return Backend(**{**known, **fields})  # type: ignore[arg-type]  # fields of a test's own case


def conditions(raw: Raw) -> list[tuple[bool, bool, bool]]:
    return [tuple(e["conditions"][k] for k in ("ready", "serving", "terminating")) for e in raw["endpoints"]]


def test_an_address_stays_with_its_service_and_is_given_back() -> None:
    addresses = Addresses()
    first = addresses.allocate(service())
    assert first.startswith("10.96.")
    assert addresses.allocate(service()) == first
    assert Addresses().allocate(service()) == first
    addresses.keep([])
    assert addresses.held == {}


def test_a_service_gets_the_address_that_it_asks_for_unless_another_has_it() -> None:
    addresses = Addresses()
    assert addresses.allocate(service(clusterIP="10.96.7.7")) == "10.96.7.7"
    assert addresses.allocate(service("c", clusterIP="10.96.7.7")) != "10.96.7.7"


@given(st.lists(st.text("abc", min_size=1, max_size=3), unique=True, max_size=30))
def test_no_two_services_share_an_address(names: list[str]) -> None:
    addresses = Addresses()
    held = [addresses.allocate(service(name)) for name in names]
    assert len(set(held)) == len(names)


def test_endpoints_tell_ready_terminating_node_and_zone() -> None:
    pods = [
        backend(2),
        backend(3, ready=False),
        backend(4, terminating=True),
        backend(5, running=False),
        backend(6, labels={"app": "x"}),
        backend(7, namespace="other"),
    ]
    [found] = services.slices(service(), pods)
    assert conditions(found) == [(True, True, False), (False, False, False), (False, True, True)]
    first = found["endpoints"][0]
    assert (first["addresses"], first["zone"], first["nodeName"]) == (["10.244.0.2"], "z", "n")
    assert first["targetRef"] == {"kind": "Pod", "name": "b-2", "namespace": "demo", "uid": "2"}
    assert found["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "b"


def test_pods_with_other_numbers_for_a_port_name_get_a_slice_of_their_own() -> None:
    found = services.slices(service(), [backend(2, 8080), backend(3, 8081)])
    assert [[p["port"] for p in s["ports"]] for s in found] == [[8080], [8081]]
    assert found[0]["metadata"]["name"] != found[1]["metadata"]["name"]


def test_a_slice_keeps_its_name_when_ports_are_renamed_added_and_removed() -> None:
    ports = (
        [{"name": "http", "port": 80, "targetPort": "web"}],
        [{"name": "tcp", "port": 80, "targetPort": "web"}],
        [{"name": "tcp", "port": 80, "targetPort": "web"}, {"name": "more", "port": 81, "targetPort": 81}],
    )
    found = [services.slices(service(ports=each), [backend(1)]) for each in ports]
    assert len({raw["metadata"]["name"] for slices in found for raw in slices}) == 1


def test_a_service_without_pods_has_an_empty_slice_and_one_without_selector_none() -> None:
    assert [s["endpoints"] for s in services.slices(service(), [])] == [[]]
    assert services.slices(service(selector={}), [backend(2)]) == []
    assert services.slices(service(type="ExternalName"), [backend(2)]) == []


def test_not_ready_pods_are_published_where_the_service_says_so() -> None:
    [found] = services.slices(service(publishNotReadyAddresses=True), [backend(2, ready=False)])
    assert conditions(found) == [(True, True, False)]


def built(*declared: Raw, pods: tuple[Backend, ...] = (backend(2), backend(3))) -> world.World:
    applied: dict[ConfigKey, Raw] = {objects.key_of(raw): raw for raw in declared}
    return world.build(applied, [], pods, Addresses(), "10.244.0.1")


def test_names_stand_for_cluster_ips_pods_or_other_names() -> None:
    app = {"name": "http", "port": 80, "appProtocol": "http2"}
    zone = built(
        service("vip", clusterIP="10.96.9.9", ports=[app]),
        service("pods", clusterIP="None"),
        service("alias", type="ExternalName", externalName="Example.ORG", selector={}),
    ).zone
    assert zone == {
        "vip.demo.svc.cluster.local": ("10.96.9.9",),
        "pods.demo.svc.cluster.local": ("10.244.0.2", "10.244.0.3"),
        "alias.demo.svc.cluster.local": ("example.org",),
    }


def test_pods_of_a_headless_service_have_names_of_their_own() -> None:
    pod = backend(2, hostname="first", subdomain="pods")
    zone = built(service("pods", clusterIP="None"), pods=(pod,)).zone
    assert zone["first.pods.demo.svc.cluster.local"] == ("10.244.0.2",)


def test_rules_spread_connections_over_ready_endpoints_only() -> None:
    rules = built(service(clusterIP="10.96.9.9"), pods=(backend(2), backend(3), backend(4, ready=False))).rules
    expected = "ip daddr 10.96.9.9 tcp dport 80 dnat to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, "
    assert expected + "1 : 10.244.0.3 . 8080 }" in rules
    assert "elements = { 10.244.0.2 . 10.244.0.2," in rules
    assert "dnat" not in built(service(clusterIP="None")).rules
    assert "dnat" not in built(service(), pods=()).rules


def test_the_world_names_everything_that_exists() -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "namespace": "demo"}}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo", "labels": {"a": "b"}}}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "meshnode", "labels": {}}}
    found = {str(objects.key_of(raw)): raw for raw in built(account, space, service()).objects}
    assert {"Node/meshnode", "Namespace/default", "ServiceAccount/demo/default", "ServiceAccount/demo/x"} <= set(found)
    assert found["Namespace/demo"]["metadata"]["labels"] == {"a": "b", "kubernetes.io/metadata.name": "demo"}
    assert found["Service/demo/b"]["spec"]["clusterIPs"] == [found["Service/demo/b"]["spec"]["clusterIP"]]
    assert [raw for raw in built(node).objects if raw["kind"] == "Node"] == [node]


def test_the_zone_of_a_node_is_what_its_label_says() -> None:
    node = {"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z1"}}}
    assert world.zone_of("n", {ConfigKey("", "Node", "", "n"): node}) == "z1"
    assert world.zone_of("other", {}) == world.ZONE


def test_a_pod_goes_to_the_node_that_it_names_or_selects() -> None:
    node = {"metadata": {"name": "n", "labels": {"zone": "z1"}}}
    nodes = {ConfigKey("", "Node", "", "n"): node}
    assert world.node_for({"nodeName": "x"}, nodes) == "x"
    assert world.node_for({"nodeSelector": {"zone": "z1"}}, nodes) == "n"
    assert world.node_for({"nodeSelector": {"zone": "z2"}}, nodes) == world.NODE_NAME
    assert world.node_for({}, nodes) == world.NODE_NAME


# -- DNS

ZONE: resolver.Zone = {
    "b.demo.svc": ("10.0.0.1", "10.0.0.2"),
    "alias.demo.svc": ("b.demo.svc",),
    "big.demo.svc": tuple(f"10.0.1.{n}" for n in range(60)),
}


def query(name: str, kind: int = 1, flags: int = 0x0100, count: int = 1) -> bytes:
    return struct.pack("!6H", 7, flags, count, 0, 0, 0) + resolver.encode_name(name) + struct.pack("!2H", kind, 1)


def outcome(answer: bytes | None) -> tuple[int, int]:
    assert answer is not None
    identity, flags, _, answers, *_ = struct.unpack_from("!6H", answer)
    assert identity == 7
    return flags & 0xF, answers


def test_queries_are_answered_from_the_zone() -> None:
    assert outcome(resolver.answer(query("B.demo.svc"), ZONE)) == (0, 2)
    assert outcome(resolver.answer(query("b.demo.svc", kind=28), ZONE)) == (0, 0)
    assert outcome(resolver.answer(query("alias.demo.svc"), ZONE)) == (0, 3)
    assert outcome(resolver.answer(query("nosuch.demo.svc"), ZONE)) == (3, 0)
    assert (resolver.answer(query("b.demo.svc"), ZONE) or b"").endswith(bytes([10, 0, 0, 2]))


def test_an_answer_too_long_for_a_datagram_is_cut_and_whole_over_tcp() -> None:
    cut = resolver.answer(query("big.demo.svc"), ZONE)
    assert cut is not None
    assert struct.unpack_from("!H", cut, 2)[0] & 0x0200
    assert outcome(resolver.answer(query("big.demo.svc"), ZONE, 65535)) == (0, 60)


def test_what_is_no_query_gets_an_error_or_nothing() -> None:
    assert resolver.answer(b"short", ZONE) is None
    assert resolver.answer(query("b", flags=0x8000), ZONE) is None
    assert outcome(resolver.answer(query("b", flags=0x2800), ZONE)) == (4, 0)
    assert outcome(resolver.answer(query("b", count=2), ZONE)) == (1, 0)
    assert outcome(resolver.answer(query("b")[:14], ZONE)) == (1, 0)
    assert outcome(resolver.answer(query("b")[:15], ZONE)) == (1, 0)
    assert outcome(resolver.answer(struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", ZONE)) == (1, 0)


@given(st.binary(max_size=80))
def test_no_bytes_break_the_resolver(data: bytes) -> None:
    resolver.answer(data, ZONE)


def test_resolv_conf_and_hosts_are_those_of_a_kubelet() -> None:
    assert resolver.resolv_conf("demo", "10.96.0.10", "cluster.local") == (
        "search demo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
    )
    assert resolver.hosts("a", "10.244.0.2").endswith("10.244.0.2\ta\n")
