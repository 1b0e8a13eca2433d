"""Which network a workload is in, and by which gateways one gets there."""

from __future__ import annotations

import pytest

from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from istiod import gateway_names
from istiod.mesh import networks
from istiod.mesh.context import view
from istiod.mesh.endpoint import Crossing
from istiod.mesh.networks import Networks
from tests.mesh import fleet

CLIENT = fleet.proxy()
HERE = fleet.dump("v1", "Namespace", "istio-system", "", labels={"topology.istio.io/network": "n1"})


def said(text: str) -> str:
    return fleet.dump("v1", "ConfigMap", "istio", "istio-system", data={"mesh": "", "meshNetworks": text})


def entry(network: str = "", address: str = "10.9.0.1", **labels: str) -> str:
    endpoint = {"address": address, "network": network, "labels": labels, "serviceAccount": "far"}
    spec = {
        "hosts": ["far.com"],
        "location": "MESH_INTERNAL",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [endpoint],
    }
    return fleet.istio("ServiceEntry", "far", spec)


def gateway(status: object = None, labels: dict[str, str] | None = None, **spec: object) -> str:
    own = {"topology.istio.io/network": "n2", **(labels or {})}
    more = {"status": {"loadBalancer": {"ingress": status}}} if status else {}
    return fleet.kube_service("east", spec=spec, labels=own, **more)


def network(mesh: fleet.Mesh) -> str:
    return mesh.context.endpoints.of("far.com", "default", 80)[0].network


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((entry(),), ""),
        ((entry("n3"), HERE), "n3"),
        ((entry(**{"topology.istio.io/network": "n4"}), HERE), "n4"),
        ((entry(), HERE, said("networks: {n2: {endpoints: [{fromRegistry: Kubernetes}]}}")), "n1"),
        ((entry(), said("networks: {n2: {endpoints: [{fromRegistry: Kubernetes}]}}")), "n2"),
        ((entry(), said("networks: {n2: {endpoints: [{fromCidr: 10.8.0.0/16}, {fromCidr: 10.9.0.0/16}]}}")), "n2"),
        ((entry(), said("networks: {n2: {endpoints: [{fromCidr: 10.8.0.0/16}]}}")), ""),
    ],
)
def test_the_nearest_word_on_a_network_counts(texts: tuple[str, ...], expected: str) -> None:
    assert network(fleet.Mesh(*texts)) == expected


def test_pods_and_plain_addresses_are_in_the_clusters_network() -> None:
    mesh = fleet.Mesh(
        fleet.kube_service("web"),
        fleet.pod("web-1", "10.1.0.1"),
        fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1"), fleet.backend("10.1.0.2")),
    )

    def found() -> list[str]:
        return [e.network for e in mesh.context.endpoints.of("web.default.svc.cluster.local", "default", 80)]

    assert found() == ["", ""]
    mesh.apply(HERE)
    assert found() == ["n1", "n1"]
    mesh.remove(HERE)
    assert found() == ["", ""]


def test_gateways_are_those_with_addresses() -> None:
    mesh = fleet.Mesh(
        said(
            "networks: {n1: {gateways: [{address: 192.0.2.1, port: 15}, {address: 192.0.2.1, port: 15}]},"
            " n3: {endpoints: [{fromRegistry: Kubernetes}],"
            " gateways: [{registryServiceName: web.default.svc.cluster.local, port: 99999}]}}"
        ),
        gateway([{"ip": "192.0.2.9"}, {"hostname": "lb.example"}], externalIPs=["192.0.2.8", "192.0.2.9"]),
        fleet.kube_service("web", spec={"externalIPs": ["192.0.2.7"]}),
        fleet.kube_service("other", spec={"externalIPs": ["192.0.2.6"]}),
    )
    assert view(mesh.context, CLIENT).gateways == (
        ("n1", (("192.0.2.1", 15),)),
        ("n2", (("192.0.2.8", 15443), ("192.0.2.9", 15443))),
        ("n3", (("192.0.2.7", 15443),)),
    )
    assert mesh.told() == [("BAD_VALUE", "istio", "data.meshNetworks.networks[n3].gateways[0].port")]
    mesh.remove(said(""))
    assert [name for name, _ in view(mesh.context, CLIENT).gateways] == ["n2"]


def test_a_service_that_mesh_networks_name_leads_into_the_networks_of_its_own_cluster_only() -> None:
    gateways = "gateways: [{registryServiceName: web.default.svc.cluster.local}, {address: 192.0.2.1}]"
    mesh = fleet.Mesh(
        said(f"networks: {{n2: {{endpoints: [{{fromCidr: 10.9.0.0/16}}], {gateways}}}}}"),
        fleet.kube_service("web", spec={"externalIPs": ["192.0.2.7"]}),
    )
    assert view(mesh.context, CLIENT).gateways == (("n2", (("192.0.2.1", 15443),)),)
    field = "data.meshNetworks.networks[n2].gateways[0].registryServiceName"
    assert mesh.told() == [("INEFFECTIVE", "istio", field)]
    mesh.apply(said(f"networks: {{n2: {{endpoints: [{{fromRegistry: Kubernetes}}], {gateways}}}}}"))
    assert view(mesh.context, CLIENT).gateways == (("n2", (("192.0.2.1", 15443), ("192.0.2.7", 15443))),)
    assert mesh.told() == []


@pytest.mark.parametrize(("port", "expected"), [("7443", 7443), ("0", 15443), ("99999", 15443), ("x", 15443)])
def test_a_label_says_the_port(port: str, expected: int) -> None:
    mesh = fleet.Mesh(gateway([{"ip": "192.0.2.9"}], {"networking.istio.io/gatewayPort": port}))
    assert view(mesh.context, CLIENT).gateways == (("n2", (("192.0.2.9", expected),)),)


def test_names_of_gateways_count_once_they_were_looked_up() -> None:
    named = "networks: {n2: {gateways: [{address: GW.example, port: 7}, {address: 192.0.2.9}]}, n3: {gateways: [%s]}}"
    mesh = fleet.Mesh(
        gateway([{"hostname": "LB.example"}, {"ip": "192.0.2.8", "hostname": "no.example"}]),
        said(named % "{address: gw.example}"),
    )
    place = "data.meshNetworks.networks[%s].gateways[0].address"
    config, service = (
        ConfigKey("", *rest) for rest in (("ConfigMap", "istio-system", "istio"), ("Service", "default", "east"))
    )
    assert gateway_names.wanted(mesh.context) == networks.first_wishes(mesh._store.snapshot())
    assert gateway_names.wanted(mesh.context) == {
        "gw.example": ((config, place % "n2"), (config, place % "n3")),
        "lb.example": ((service, "status.loadBalancer.ingress"),),
    }
    known = (("192.0.2.8", 15443), ("192.0.2.9", 15443))
    assert view(mesh.context, CLIENT).gateways == (("n2", known),)
    before = mesh.context
    mesh.put_gateway("lb.example", "192.0.2.2", "2001:db8::1")
    mesh.put_gateway("gw.example", "192.0.2.1")
    found = (("192.0.2.1", 7), ("192.0.2.2", 15443), *known, ("2001:db8::1", 15443))
    assert view(mesh.context, CLIENT).gateways == (("n2", found), ("n3", (("192.0.2.1", 15443),)))
    assert (mesh.context.model, mesh.context.endpoints) == (before.model, before.endpoints), "nothing else is made anew"
    assert mesh.told() == []
    known = mesh.context.gateway_addresses
    assert mesh.put_gateway("gw.example", "192.0.2.1").gateway_addresses is known, "the same again"
    mesh.apply(said(""))
    assert list(gateway_names.wanted(mesh.context)) == ["lb.example"]


def test_gateways_that_nobody_reaches_are_told() -> None:
    mesh = fleet.Mesh(gateway(), said("networks: {n2: {gateways: [{address: 'gw example'}]}}"))
    assert view(mesh.context, CLIENT).gateways == ()
    assert gateway_names.wanted(mesh.context) == {}
    assert sorted(mesh.told()) == [
        ("NO_NETWORK_GATEWAY", "east", "metadata.labels[topology.istio.io/network]"),
        ("NO_NETWORK_GATEWAY", "istio", "data.meshNetworks.networks[n2].gateways[0].address"),
    ]


def test_what_is_told_of_a_service_is_found_when_it_changes_and_kept_for_as_long_as_it_does_not() -> None:
    mesh = fleet.Mesh(gateway([{"hostname": "lb example"}], sessionAffinity="ClientIP"))

    def told() -> list[Diagnostic]:
        return list(mesh.context.sources.diagnostics)

    before = told()
    assert sorted(found.code.name for found in before) == ["NOT_SUPPORTED", "NO_NETWORK_GATEWAY"]
    mesh.apply(fleet.kube_service("web"))
    assert [any(one is old for old in before) for one in told()] == [True, True]
    mesh.apply(gateway([{"ip": "192.0.2.9"}], sessionAffinity="ClientIP"))
    assert [found.code.name for found in told()] == ["NOT_SUPPORTED"]


def test_what_is_wrong_with_networks_is_told() -> None:
    mesh = fleet.Mesh(said("networks: {n2: {endpoints: [{fromCidr: x}, {fromRegistry: other}]}}"), entry())
    place = "data.meshNetworks.networks[n2].endpoints"
    assert mesh.told() == [
        ("BAD_VALUE", "istio", f"{place}[0].fromCidr"),
        ("INEFFECTIVE", "istio", f"{place}[1].fromRegistry"),
    ]
    mesh = fleet.Mesh(said("networks: {n2: {endpoints: [{fromCidr: 10.9.0.0/16}]}}"), entry())
    mesh.apply(said("networks: ["))
    assert network(mesh) == "n2", "the networks from before stay"
    assert [code for code, _, _ in mesh.told()] == ["UNREADABLE"]


def test_an_address_that_is_none_is_in_no_range() -> None:
    ranges = Networks(ranges=(("10.0.0.0/8", "n2"),))
    assert [ranges.of(text) for text in ("10.0.0.1", "a.example", "", "192.0.2.1")] == ["n2", "", "", ""]


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("{}", Crossing.BY_SIDECAR),
        ("{tls: {mode: ISTIO_MUTUAL}}", Crossing.ALWAYS),
        ("{tls: {mode: DISABLE}}", Crossing.NEVER),
        ("{tls: {mode: SIMPLE}}", Crossing.NEVER),
    ],
)
def test_only_mesh_mtls_gets_through_a_gateway(tls: str, expected: Crossing) -> None:
    rule = fleet.istio("DestinationRule", "far", {"host": "far.com", "trafficPolicy": fleet.yaml.safe_load(tls)})
    cluster = fleet.Mesh(entry("n2"), rule).scope(CLIENT).outbound.clusters["outbound|80||far.com"]
    assert cluster.query is not None
    assert cluster.query.crossing is expected


def test_an_endpoint_without_an_address_is_for_gateways_only() -> None:
    for address in ("", "vm.example"):
        found = fleet.Mesh(entry("n2", address)).context.endpoints.of("far.com", "default", 80)
        assert [e.address for e in found] == [""]
