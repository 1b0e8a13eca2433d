from __future__ import annotations

import dataclasses

import pytest

from istiod.config.proxy import Proxy
from istiod.mesh import context
from istiod.mesh.endpoint import View
from istiod.mesh.scope import InboundScope, Scope
from tests.mesh import fleet
from wire.node import Locality, NodeType

WEB = "web.default.svc.cluster.local"
CLIENT = fleet.proxy()
GATEWAY = fleet.proxy("gw-1", "istio-system", "router", LABELS={"app": "gw"})

SERVICES = (fleet.kube_service("web"), fleet.kube_service("shop"), fleet.kube_service("gw", "istio-system"))
PODS = (fleet.pod("web-1", "10.1.0.1"), fleet.pod("web-2", "10.1.0.2"), fleet.pod("client-1", "10.1.9.9"))
SLICE = fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1"))
MORE = fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1"), fleet.backend("10.1.0.2", "web-2"))
SUBSETS = fleet.istio(
    "DestinationRule", "web", {"host": "web", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}
)


def route(subset: str = "v1", name: str = "web") -> str:
    spec = {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web", "subset": subset}}]}]}
    return fleet.istio("VirtualService", name, spec)


def gateway(port: int = 80) -> str:
    server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    return fleet.istio("Gateway", "gw", {"selector": {"app": "gw"}, "servers": [server]}, "istio-system")


def mesh(*more: str) -> fleet.Mesh:
    return fleet.Mesh(*SERVICES, *PODS, SLICE, SUBSETS, route(), gateway(), *more)


def test_an_endpoint_event_changes_endpoints_and_nothing_else() -> None:
    found = mesh()
    before, scope = found.context, found.scope(CLIENT)
    after = found.apply(MORE)
    assert after.endpoints.leaves[WEB, "default"] is not before.endpoints.leaves[WEB, "default"]
    assert after.model is before.model
    assert after.virtual_services is before.virtual_services
    assert after.memo is before.memo
    assert after.diagnostics is before.diagnostics
    assert found.scope(CLIENT) is scope


def test_an_event_without_meaning_changes_nothing() -> None:
    found = mesh()
    before = found.context
    after = found.apply(fleet.pod("web-1", "10.1.0.1", annotations={"a": "b"}))
    assert (after.model, after.endpoints, after.memo) == (before.model, before.endpoints, before.memo)
    after = found.follow()
    assert (after.model, after.endpoints, after.memo) == (before.model, before.endpoints, before.memo)


def test_a_new_service_account_changes_clusters_of_its_host_only() -> None:
    found = mesh()
    before = found.scope(CLIENT)
    found.apply(fleet.pod("web-2", "10.1.0.2", account="other"), MORE)
    after = found.scope(CLIENT)
    changed = {n for n, leaf in after.outbound.clusters.items() if leaf is not before.outbound.clusters.get(n)}
    assert changed == {f"outbound|80||{WEB}", f"outbound|80|v1|{WEB}"}
    assert after.inbound is before.inbound
    assert all(leaf is before.outbound.routes[name] for name, leaf in after.outbound.routes.items())


def test_an_unchanged_scope_stays_the_same_object_when_the_model_changes() -> None:
    found = mesh()
    before = found.scope(CLIENT)
    found.apply(fleet.kube_service("hidden", "elsewhere", annotations={"networking.istio.io/exportTo": "."}))
    assert found.scope(CLIENT) is before


def test_a_route_changes_its_table_and_leaves_clusters_alone() -> None:
    found = mesh()
    before = found.scope(CLIENT)
    found.apply(route(""))
    after = found.scope(CLIENT)
    assert after.outbound.routes["80"] is not before.outbound.routes["80"]
    assert all(leaf is before.outbound.clusters[name] for name, leaf in after.outbound.clusters.items())


def test_leaves_are_shared_between_namespaces() -> None:
    found = mesh()
    one, other = found.scope(CLIENT), found.scope(fleet.proxy("x-1", "elsewhere"))
    assert one.outbound is not other.outbound
    name = "outbound|80||shop.default.svc.cluster.local"
    assert one.outbound.clusters[name] is other.outbound.clusters[name]
    assert one.outbound.listeners["virtualOutbound"] is other.outbound.listeners["virtualOutbound"]


def test_proxies_alike_share_their_scope() -> None:
    found = mesh()
    one = found.scope(fleet.proxy("web-1", ip="10.1.0.1"))
    assert found.scope(fleet.proxy("web-2", ip="10.1.0.2")) is one
    assert found.scope(CLIENT) is not one
    assert found.scope(CLIENT).outbound is one.outbound


def test_a_proxy_that_comes_back_is_looked_at_again() -> None:
    found = mesh()
    stranger = fleet.proxy("vm-1", ip="10.1.0.7", LABELS={"app": "shop"})
    assert "inbound|8080||" in inbound_of(found.scope(stranger)).clusters
    assert "inbound|8080||" not in inbound_of(found.scope(fleet.proxy("vm-1", ip="10.1.0.7"))).clusters


def inbound_of(scope: Scope) -> InboundScope:
    assert scope.inbound is not None
    return scope.inbound


@pytest.mark.parametrize(("label", "expected"), [("true", "0.0.0.0_80"), ("false", "0.0.0.0_8080")])
def test_a_service_may_keep_a_gateway_from_translating_ports(label: str, expected: str) -> None:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    mesh = fleet.Mesh(
        fleet.kube_service("gw", labels={"experimental.istio.io/disable-gateway-port-translation": label}),
        fleet.istio("Gateway", "gw", {"servers": [server]}),
    )
    assert list(mesh.scope(fleet.proxy(kind="router", LABELS={"app": "gw"})).outbound.listeners) == [expected]


def test_labels_and_ports_come_from_the_pod_and_else_from_the_proxy() -> None:
    service = fleet.kube_service("named", ports=[{"name": "http", "port": 80, "targetPort": "main"}])
    container = {"name": "a", "ports": [{"name": "main", "containerPort": 9090}]}
    found = fleet.Mesh(service, fleet.pod("named-1", "10.1.0.1", spec={"containers": [container]}))
    ports = [{"name": "main", "containerPort": 9191.0}, {"name": "x"}, 1]

    def declared(proxy: Proxy) -> list[str]:
        return [name for name in inbound_of(found.scope(proxy)).clusters if name.startswith("inbound|")]

    assert declared(fleet.proxy("named-1", LABELS={"app": "x"})) == ["inbound|9090||"]
    assert declared(fleet.proxy("absent-1", LABELS={"app": "named"}, POD_PORTS=ports)) == ["inbound|9191||"]
    assert declared(fleet.proxy("absent-2", LABELS={"app": "named"}, POD_PORTS="x")) == []
    for number in (0, -1, 65_536, 1e20, float("nan"), "80"):
        said = [{"name": "main", "containerPort": number}]
        assert declared(fleet.proxy("absent-3", LABELS={"app": "named"}, POD_PORTS=said)) == []


def test_a_pod_that_changes_its_labels_changes_its_proxy_only() -> None:
    found = mesh()
    proxy = fleet.proxy("web-1", ip="10.1.0.1")
    other, before = found.scope(CLIENT), found.scope(proxy)
    found.apply(fleet.pod("web-1", "10.1.0.1", labels={"app": "none"}))
    assert found.scope(proxy).inbound is not before.inbound
    assert found.scope(CLIENT) is other


def test_capture_and_addresses_of_a_proxy_decide_where_it_listens() -> None:
    found = mesh()
    assert "virtualOutbound" not in found.scope(fleet.proxy("vm-1", INTERCEPTION_MODE="NONE")).outbound.listeners
    assert "virtualOutbound" not in found.scope(fleet.proxy("web-2", INTERCEPTION_MODE="NONE")).outbound.listeners
    vm = dataclasses.replace(CLIENT, node=dataclasses.replace(CLIENT.node, name="vm-2", addresses=("fd00::1",)))
    assert found.scope(vm).outbound.listeners["virtualOutbound"].address == "::"


def test_routers_get_what_their_gateways_say_and_no_inbound() -> None:
    found = mesh()
    scope = found.scope(GATEWAY)
    assert scope.inbound is None
    assert (scope.outbound.key.type, scope.outbound.key.ports) == (NodeType.ROUTER, ((80, 8080),))
    assert list(scope.outbound.listeners) == ["0.0.0.0_8080"]
    before = scope
    found.apply(gateway(81))
    assert found.scope(GATEWAY) is not before
    assert list(found.scope(GATEWAY).outbound.listeners) == ["0.0.0.0_81"]


def test_mesh_settings_are_live_and_bad_ones_keep_the_last() -> None:
    found = mesh()
    before = found.scope(CLIENT)
    found.apply(fleet.mesh_config("connectTimeout: 3s"))
    after = found.scope(CLIENT)
    assert after.settings.connect_timeout.seconds == 3
    assert after is not before
    found.apply(fleet.mesh_config("connectTimeout: ["))
    assert found.context.model.settings is after.settings
    assert ("UNREADABLE", "istio", "data.mesh") in found.told()
    assert found.scope(CLIENT) is after
    found.apply(fleet.mesh_config("trustDomain: my.org"))
    assert found.context.endpoints.of(WEB, "default", 80)[0].identity == "spiffe://my.org/ns/default/sa/default"


def test_peer_authentication_changes_inbound_and_is_compared_by_content() -> None:
    found = mesh()
    before = found.scope(CLIENT)
    strict = fleet.istio("PeerAuthentication", "all", {"mtls": {"mode": "STRICT"}}, "istio-system")
    found.apply(strict)
    after = found.scope(CLIENT)
    assert after.inbound is not before.inbound
    assert after.outbound is before.outbound
    model = found.context.model
    found.apply(
        fleet.istio("PeerAuthentication", "all", {"mtls": {"mode": "STRICT"}}, "istio-system", labels={"a": "b"})
    )
    assert found.context.model is model


def test_findings_are_told_once_in_a_fixed_order() -> None:
    found = mesh(
        fleet.istio("DestinationRule", "lost", {"host": "nobody"}),
        fleet.istio("DestinationRule", "any", {"host": "*.example"}),
        fleet.istio("DestinationRule", "some", {"host": "*.local"}),
        fleet.istio(
            "Sidecar", "nobody", {"workloadSelector": {"labels": {"app": "nobody"}}, "egress": [{"hosts": ["./*"]}]}
        ),
        route("v9"),
    )
    assert found.told() == [
        ("UNKNOWN_HOST", "any", "spec.host"),
        ("UNKNOWN_HOST", "lost", "spec.host"),
        ("INEFFECTIVE", "nobody", "spec.workloadSelector.labels"),
        ("UNKNOWN_SUBSET", "web", "spec.http[0].route[0].destination.subset"),
    ]
    found.apply(fleet.pod("nobody-1", "10.1.0.7"))
    assert "nobody" not in [name for _, name, _ in found.told()]
    found.remove(fleet.istio("DestinationRule", "any", {"host": "x"}))
    assert [name for _, name, _ in found.told()] == ["lost", "web"]


def test_a_view_is_the_place_and_only_what_policies_look_at() -> None:
    labels = {"topology.istio.io/network": "n", "istio-locality": "r.z.s", "tier": "a"}
    found = mesh(fleet.pod("far-1", "10.1.0.8", labels=labels))
    proxy = fleet.proxy("far-1")
    here = Locality(region="r", zone="z", subzone="s")
    assert context.view(found.context, proxy) == View(cluster_id="Kubernetes", network="n", locality=here)
    priorities = {"localityLbSetting": {"failoverPriority": ["tier=a", "other"]}}
    found.apply(
        fleet.istio("DestinationRule", "shop", {"host": "shop", "trafficPolicy": {"loadBalancer": priorities}}),
        fleet.kube_service("near", spec={"internalTrafficPolicy": "Local"}),
    )
    seen = context.view(found.context, proxy)
    assert (seen.node, seen.labels) == ("node-1", frozenset({("tier", "a")}))


@pytest.mark.parametrize("priority", ["kubernetes.io/hostname", "kubernetes.io/hostname=node-1"])
def test_a_policy_that_prefers_the_proxys_node_looks_at_it(priority: str) -> None:
    balancer = {"localityLbSetting": {"failoverPriority": [priority]}}
    found = mesh(fleet.istio("DestinationRule", "shop", {"host": "shop", "trafficPolicy": {"loadBalancer": balancer}}))
    assert context.view(found.context, CLIENT).node == "node-1"


@pytest.mark.parametrize(("said", "node"), [("PreferSameNode", "node-1"), ("PreferSameZone", "")])
def test_a_service_that_prefers_its_clients_node_looks_at_it(said: str, node: str) -> None:
    found = mesh(fleet.kube_service("near", spec={"trafficDistribution": said}))
    assert context.view(found.context, CLIENT).node == node


def test_a_proxy_without_pod_says_itself_where_it_is() -> None:
    found = fleet.Mesh(fleet.kube_service("near", spec={"internalTrafficPolicy": "Local"}))
    said = fleet.proxy("vm-1", NETWORK="n", NODE_NAME="node-7", LABELS={"istio-locality": "r.z"})
    assert context.view(found.context, said) == View(
        cluster_id="Kubernetes", network="n", locality=Locality(region="r", zone="z"), node="node-7"
    )
    assert context.view(found.context, fleet.proxy("vm-2")).locality == Locality()
    here = Locality(region="here")
    told = dataclasses.replace(said, node=dataclasses.replace(said.node, locality=here))
    assert context.view(found.context, told).locality == here


# What is remembered.
