from __future__ import annotations

import pytest

from crds import core, service_entry
from istiod.mesh import locality, registry, service_entries, services, sources
from istiod.mesh.service import Protocol, Resolution, Service
from istiod.mesh.settings import MeshSettings
from istiod.mesh.sources import Sources
from tests.mesh import fleet, world

SETTINGS = MeshSettings()


def service(text: str, settings: MeshSettings = SETTINGS) -> Service:
    item = fleet.parsed(text)
    assert isinstance(item, core.Service)
    return services.service(item, settings)


def entry(spec: dict[str, object], name: str = "ext", **more: object) -> tuple[Service, ...]:
    item = fleet.parsed(fleet.istio("ServiceEntry", name, spec, **more))
    assert isinstance(item, service_entry.ServiceEntry)
    return service_entries.services(item, SETTINGS)


def build(*texts: str, previous: Sources | None = None) -> Sources:
    return sources.build(world.snapshot(*texts), SETTINGS, previous or Sources())


def test_a_service_becomes_a_host_with_ports_and_addresses() -> None:
    found = service(fleet.kube_service("web", ports=[{"name": "http", "port": 80, "targetPort": "main"}]))
    assert found.host == "web.default.svc.cluster.local"
    assert (found.addresses, found.resolution, found.headless) == (("10.0.0.1",), Resolution.CLIENT_SIDE, False)
    (port,) = found.ports
    assert (port.number, port.protocol, port.target) == (80, Protocol.HTTP, "main")
    assert found.port(80) is port
    assert found.port(81) is None


def test_a_headless_service_has_no_address() -> None:
    found = service(fleet.kube_service("web", spec={"clusterIP": "None"}))
    assert (found.addresses, found.resolution, found.headless) == ((), Resolution.PASSTHROUGH, True)


def test_an_external_name_is_an_alias() -> None:
    found = service(fleet.kube_service("web", spec={"type": "ExternalName", "clusterIP": "", "externalName": "a.com"}))
    assert (found.resolution, found.external_name, found.addresses) == (Resolution.ALIAS, "a.com", ())


def test_export_annotations_limit_who_sees_a_service() -> None:
    def seen(said: str) -> frozenset[str]:
        return service(fleet.kube_service("web", annotations={"networking.istio.io/exportTo": said})).export_to

    assert seen(".") == {"default"}
    assert seen("a, b") == {"a", "b"}
    assert seen("*,a") == {"*"}
    assert seen("~") == frozenset()
    assert seen("") == {"*"}
    hidden = MeshSettings(service_export_to=(".",))
    assert service(fleet.kube_service("web"), hidden).export_to == {"default"}


def test_visibility_prefers_the_own_namespace_then_kubernetes_then_age() -> None:
    old = "2020-01-01T00:00:00Z"
    host = "web.default.svc.cluster.local"
    ports = [{"name": "http", "number": 80}]
    found = build(
        fleet.kube_service("web"),
        fleet.istio("ServiceEntry", "a", {"hosts": [host, "a.com"], "ports": ports}, "a", creationTimestamp=old),
        fleet.istio("ServiceEntry", "b", {"hosts": ["a.com"], "ports": ports}, "b"),
        fleet.istio("ServiceEntry", "c", {"hosts": ["c.com"], "ports": ports, "exportTo": ["."]}, "c"),
    ).registry

    def owner(host: str, client: str) -> str | None:
        service = found.find(host, client)
        return service.namespace if service else None

    assert owner(host, "other") == "default"
    assert owner(host, "a") == "a"
    assert owner("a.com", "b") == "b"
    assert owner("a.com", "other") == "b"  # unknown age counts as oldest
    assert owner("c.com", "other") is None
    assert owner("c.com", "c") == "c"
    assert [s.host for s in found.visible("other")] == ["a.com", host]
    assert found.in_namespace("nowhere") == ()
    assert found.get("c.com", "other") is None


def test_a_naive_timestamp_counts_as_utc() -> None:
    ports = [{"name": "http", "number": 80}]
    found = build(
        fleet.istio("ServiceEntry", "a", {"hosts": ["a.com"], "ports": ports}, creationTimestamp="2020-01-02T00:00:00"),
        fleet.istio(
            "ServiceEntry", "b", {"hosts": ["b.com"], "ports": ports}, creationTimestamp="2020-01-01T00:00:00Z"
        ),
    ).registry
    assert [s.host for s in found.services] == ["b.com", "a.com"]


def test_entries_of_one_host_share_it_when_only_ports_differ() -> None:
    first = fleet.istio("ServiceEntry", "a", {"hosts": ["a.com"], "ports": [{"name": "http", "number": 80}]})
    more = [{"name": "http", "number": 80}, {"name": "tls", "number": 443}]
    found = build(first, fleet.istio("ServiceEntry", "b", {"hosts": ["a.com"], "ports": more}))
    assert [port.number for port in found.registry.services[0].ports] == [80, 443]
    assert found.diagnostics == ()
    assert build(first, first.replace("name: a", "name: b")).diagnostics == ()
    found = build(first, fleet.istio("ServiceEntry", "b", {"hosts": ["a.com"], "ports": more, "resolution": "DNS"}))
    assert [port.number for port in found.registry.services[0].ports] == [80]
    assert [(d.code.name, d.key and d.key.name) for d in found.diagnostics] == [("DUPLICATE_HOST", "b")]


def test_a_kubernetes_service_keeps_its_host_from_entries() -> None:
    host = "web.default.svc.cluster.local"
    found = build(
        fleet.kube_service("web"),
        fleet.istio("ServiceEntry", "a", {"hosts": [host], "ports": [{"name": "x", "number": 99}]}),
    )
    assert [s.kubernetes for s in found.registry.services] == [True]
    assert [d.code.name for d in found.diagnostics] == ["DUPLICATE_HOST"]


def of_host(name: str, resolution: str = "STATIC", *, address: str = "", target: int = 0) -> str:
    ports = [{"name": "http", "number": 80, "protocol": "HTTP", "targetPort": target}]
    endpoints = {"endpoints": [{"address": address}]} if address else {}
    spec = {"hosts": ["a.com"], "ports": ports, "resolution": resolution, **endpoints}
    return fleet.istio("ServiceEntry", name, spec)


@pytest.mark.parametrize("resolution", ["STATIC", "DNS"])
def test_endpoints_of_entries_that_share_a_host_count_together(resolution: str) -> None:
    texts = [of_host(name, resolution, address=f"10.0.0.{i}", target=8000 + i) for i, name in enumerate(("a", "b"))]
    other = "DNS" if resolution == "STATIC" else "STATIC"
    found = build(*texts, of_host("c", other, address="10.0.0.9"))
    endpoints = found.declared.of("a.com", "default", 80)
    assert [(one.address, one.port) for one in endpoints] == [("10.0.0.0", 8000), ("10.0.0.1", 8001)]


def test_of_a_subnet_only_the_network_counts() -> None:
    (one,) = entry({"hosts": ["a.com"], "addresses": ["10.1.2.3/16", "fd00:1:2::3/16"], "ports": []})
    assert one.addresses == ("10.1.0.0/16", "fd00::/16")


def test_an_entry_becomes_one_service_for_each_host() -> None:
    one, two = entry(
        {
            "hosts": ["a.com", "*.b.com"],
            "addresses": ["10.1.1.1/32", "10.2.0.0/16", "fd00::1/128"],
            "ports": [{"name": "http", "number": 80, "protocol": "HTTP", "targetPort": 8080}],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "exportTo": ["."],
            "subjectAltNames": ["spiffe://x"],
            "workloadSelector": {"labels": {"app": "vm"}},
        }
    )
    assert (one.host, two.host) == ("a.com", "*.b.com")
    assert one.addresses == ("10.1.1.1", "10.2.0.0/16", "fd00::1")
    assert (one.mesh_external, one.resolution) == (False, Resolution.CLIENT_SIDE)
    assert one.ports[0].target == 8080
    assert one.selector == {("app", "vm")}
    assert (one.export_to, one.subject_alt_names) == ({"default"}, ("spiffe://x",))


def test_allocated_addresses_are_those_of_the_host() -> None:
    status = {"addresses": [{"value": "240.240.0.1", "host": "a.com"}, {"value": "240.240.0.2", "host": "b.com"}]}
    ports = [{"name": "http", "number": 80}]
    one, two = entry({"hosts": ["a.com", "b.com"], "ports": ports, "resolution": "DNS"}, status=status)
    assert (one.addresses, one.allocated, two.allocated) == ((), ("240.240.0.1",), ("240.240.0.2",))
    (said,) = entry({"hosts": ["a.com"], "addresses": ["1.1.1.1"], "ports": ports}, status=status)
    assert said.allocated == ()


def declared(spec: dict[str, object], host: str = "a.com") -> list[tuple[int, str, int]]:
    found = build(fleet.istio("ServiceEntry", "ext", {"hosts": [host], **spec})).declared.leaves
    return [
        (port, e.address, e.port)
        for leaf in found.values()
        for port, endpoints in leaf.ports.items()
        for e in endpoints
    ]


def test_a_dns_host_without_endpoints_resolves_itself() -> None:
    ports = [{"name": "http", "number": 80, "targetPort": 8080}]
    assert declared({"ports": ports, "resolution": "DNS"}) == [(80, "a.com", 8080)]
    assert declared({"ports": ports, "resolution": "NONE"}) == []


def test_endpoints_may_have_numbers_of_their_own() -> None:
    spec = {
        "ports": [{"name": "http", "number": 80, "targetPort": 8080}, {"name": "tcp", "number": 90}],
        "resolution": "STATIC",
        "endpoints": [{"address": "1.1.1.1", "ports": {"http": 81}}, {"address": "1.1.1.2"}],
    }
    assert declared(spec) == [
        (80, "1.1.1.1", 81),
        (80, "1.1.1.2", 8080),
        (90, "1.1.1.1", 90),
        (90, "1.1.1.2", 90),
    ]


def test_an_endpoint_says_who_and_where_it_is() -> None:
    spec = {
        "hosts": ["a.com"],
        "ports": [{"name": "http", "number": 80}],
        "resolution": "STATIC",
        "endpoints": [
            {
                "address": "1.1.1.1",
                "labels": {"security.istio.io/tlsMode": "istio", "version": "v1"},
                "locality": "r/z",
                "network": "n",
                "weight": 3,
                "serviceAccount": "ext",
            }
        ],
    }
    found = build(fleet.istio("ServiceEntry", "ext", spec)).declared.of("a.com", "default", 80)[0]
    assert (found.tls, found.weight, found.network) == (True, 3, "n")
    assert (found.locality.region, found.locality.zone) == ("r", "z")
    assert found.identity == "spiffe://cluster.local/ns/default/sa/ext"
    assert {("version", "v1"), ("topology.kubernetes.io/region", "r")} <= found.labels
    assert (found.workload.name, found.workload.canonical_revision) == ("ext-0", "v1")


def test_what_an_entry_says_in_vain_is_told() -> None:
    ports = [{"name": "http", "number": 80, "protocol": "HTTP"}]
    socket = {"hosts": ["b.com"], "ports": ports, "resolution": "STATIC", "endpoints": [{"address": "unix:///x"}]}
    far = {**socket, "hosts": ["c.com"], "resolution": "DNS", "endpoints": [{"address": "10.0.0.1", "network": "far"}]}
    entries = [fleet.istio("ServiceEntry", n, s) for n, s in (("uds", socket), ("far", far))]
    notes = {
        "networking.istio.io/traffic-distribution": "PreferSameRegion",
        "networking.istio.io/exportTo": "*",
        "alpha.istio.io/kubernetes-serviceaccounts": "a",
        "example.org/other": "b",
    }
    sticky = fleet.kube_service("web", spec={"sessionAffinity": "ClientIP"}, annotations=notes)
    close = {"networking.istio.io/traffic-distribution": "preferClose"}
    others = (
        fleet.kube_service("other", spec={"sessionAffinity": "None"}, annotations=close),
        fleet.kube_service("twice", spec={"trafficDistribution": "PreferClose"}, annotations=close),
    )
    odd = {"networking.istio.io/traffic-distribution": "PreferMoon"}
    entries.append(fleet.istio("ServiceEntry", "odd", {**far, "hosts": ["d.com"], "endpoints": []}, annotations=odd))
    found = build(*entries, sticky, *others)
    assert [(d.code.name, d.key.name if d.key else "", d.field) for d in found.diagnostics] == [
        ("NOT_SUPPORTED", "web", "spec.sessionAffinity"),
        ("NOT_SUPPORTED", "web", "metadata.annotations[alpha.istio.io/kubernetes-serviceaccounts]"),
        ("NOT_SUPPORTED", "web", "metadata.annotations[networking.istio.io/traffic-distribution]"),
        ("NOT_SUPPORTED", "twice", "metadata.annotations[networking.istio.io/traffic-distribution]"),
        ("NOT_SUPPORTED", "far", "spec.endpoints[0].network"),
        ("NOT_SUPPORTED", "odd", "metadata.annotations[networking.istio.io/traffic-distribution]"),
    ]
    assert [(e.address, e.port) for e in found.declared.of("b.com", "default", 80)] == [("/x", 0)]


@pytest.mark.parametrize(
    ("said", "annotation", "expected"),
    [
        ("", "PreferClose", "PreferClose"),
        ("", "prefersamenode", "PreferSameNode"),
        ("", "any", ""),
        ("PreferSameZone", "PreferSameNode", "PreferSameZone"),
        ("Other", "PreferSameZone", "PreferSameZone"),
        ("", "", ""),
    ],
)
def test_an_annotation_says_where_traffic_goes_first_as_the_field_does(
    said: str, annotation: str, expected: str
) -> None:
    spec = {"trafficDistribution": said} if said else {}
    notes = {"networking.istio.io/traffic-distribution": annotation}
    assert service(fleet.kube_service("web", spec=spec, annotations=notes)).traffic_distribution == expected


def test_an_entrys_annotation_says_where_traffic_goes_first() -> None:
    ports = [{"name": "http", "number": 80, "protocol": "HTTP"}]
    spec: dict[str, object] = {"hosts": ["b.com"], "ports": ports, "resolution": "STATIC"}
    notes = {"networking.istio.io/traffic-distribution": "preferClose"}
    assert [one.traffic_distribution for one in entry(spec, annotations=notes)] == ["PreferClose"]
    assert [one.traffic_distribution for one in entry(spec)] == [""]
    found = fleet.Mesh(fleet.istio("ServiceEntry", "b", spec, annotations=notes)).scope(fleet.proxy())
    query = found.outbound.clusters["outbound|80||b.com"].query
    assert query is not None
    assert query.locality_lb == locality.CLOSE


def test_unchanged_services_and_endpoints_stay_the_same_objects() -> None:
    spec = {"hosts": ["a.com"], "ports": [{"name": "http", "number": 80}], "resolution": "DNS"}
    texts = (fleet.kube_service("web"), fleet.istio("ServiceEntry", "ext", spec))
    first = build(*texts)
    again = build(*texts, previous=first)
    assert again.registry is first.registry
    assert again.declared is first.declared
    other = build(*texts, fleet.kube_service("shop"), previous=first)
    assert other.registry is not first.registry
    assert other.registry.get("a.com", "default") is first.registry.get("a.com", "default")
    assert sources.build(world.snapshot(*texts), MeshSettings(), first).registry is first.registry


def test_exports_decide_by_namespace() -> None:
    assert registry.exported(frozenset({"*"}), "a")
    assert registry.exported(frozenset({"a"}), "a")
    assert not registry.exported(frozenset({"a"}), "b")
