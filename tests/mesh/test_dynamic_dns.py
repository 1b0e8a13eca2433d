"""Hosts that Envoy resolves when they are asked for (features rows H3, H8, R2)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from istiod.mesh import dynamic_dns
from istiod.mesh.families import Families
from istiod.mesh.scope import Chain, Discovery, DnsCache, Lookup, Scope
from tests.mesh import fleet

ANY = fleet.mesh_config("{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}, proxyHttpPort: 15007}")
CACHE = DnsCache(name="*.a.com_dfp_dns_cache")
EVERYBODY = DnsCache(name="allow_any_dfp_dns_cache", most_hosts=1024)


def port(number: int, protocol: str, **more: object) -> dict[str, object]:
    return {"name": f"p{number}", "number": number, "protocol": protocol, **more}


def entry(*ports: object, host: str = "*.a.com", **more: object) -> str:
    name = host.strip("*.").replace(".", "-")
    return fleet.istio("ServiceEntry", name, {"hosts": [host], "ports": ports, "resolution": "DYNAMIC_DNS", **more})


def scope(*texts: str, ip: str = "10.1.9.9", kind: str = "sidecar") -> Scope:
    return fleet.Mesh(*texts).scope(fleet.proxy(ip=ip, kind=kind, LABELS={"app": "client"}))


def chains(found: Scope, listener: str) -> tuple[Chain, ...]:
    return found.outbound.listeners[listener].chains


def caches(found: Scope, listener: str) -> list[tuple[DnsCache, ...]]:
    return [chain.http.caches for chain in chains(found, listener) if chain.http]


def lookups(found: Scope, listener: str) -> dict[tuple[str, ...], tuple[Lookup, ...]]:
    return {chain.match.server_names: chain.tcp.lookups for chain in chains(found, listener) if chain.tcp}


def test_the_cluster_takes_addresses_from_a_cache_of_the_host() -> None:
    found = scope(entry(port(80, "HTTP"), port(443, "TLS"))).outbound.clusters
    for number in (80, 443):
        one = found[f"outbound|{number}||*.a.com"]
        assert (one.discovery, one.cache, one.endpoints, one.query) == (Discovery.DYNAMIC_DNS, CACHE, (), None)


def test_hosts_of_the_mesh_get_no_mtls_that_they_never_say_they_have() -> None:
    found = scope(entry(port(80, "HTTP"), location="MESH_INTERNAL")).outbound.clusters
    assert found["outbound|80||*.a.com"].tls is None


def test_names_stand_for_addresses_that_the_workload_reaches() -> None:
    found = scope(entry(port(80, "HTTP"), port(443, "TLS")), ANY, ip="fd00::9")
    seen = [
        *(one for name in ("::_80", "virtualOutbound") for several in caches(found, name) for one in several),
        *(one.cache for one in lookups(found, "::_443")["*.a.com",]),
        *(found.outbound.clusters[name].cache for name in ("outbound|80||*.a.com", "AllowAnyDynamicDNSCluster")),
    ]
    assert {one.families for one in seen if one} == {Families.IPV6}
    # what is made for one kind of workload is no answer for another
    mesh = fleet.Mesh(entry(port(80, "HTTP")), ANY)
    for ip, name in (("fd00::9", "::_80"), ("10.1.9.9", "0.0.0.0_80")):
        found = mesh.scope(fleet.proxy(f"client-{len(ip)}", ip=ip))
        for several in (*caches(found, name), *caches(found, "virtualOutbound")):
            assert {one.families.value for one in several} == {(6,) if ":" in ip else (4,)}


def test_requests_are_looked_up_on_the_ports_that_have_such_hosts_only() -> None:
    other = fleet.kube_service("web", ports=[{"port": 80, "name": "http"}, {"port": 8080, "name": "http-alt"}])
    found = scope(other, entry(port(80, "HTTP"), port(90, "GRPC")), entry(port(80, "HTTP2"), host="*.b.com"))
    assert caches(found, "0.0.0.0_80") == [(CACHE, DnsCache(name="*.b.com_dfp_dns_cache"))]
    assert caches(found, "0.0.0.0_90") == [(CACHE,)]
    assert caches(found, "0.0.0.0_8080") == [()]


def test_an_entry_that_comes_and_goes_changes_the_listener_of_its_port() -> None:
    mesh, proxy = fleet.Mesh(fleet.kube_service("web")), fleet.proxy()
    before = mesh.scope(proxy)
    mesh.apply(entry(port(80, "HTTP")))
    assert caches(mesh.scope(proxy), "0.0.0.0_80") == [(CACHE,)]
    mesh.remove(entry(port(80, "HTTP")))
    assert mesh.scope(proxy).outbound.listeners == before.outbound.listeners


@pytest.mark.parametrize("protocol", ["TLS", "HTTPS"])
def test_tls_is_looked_up_by_its_server_name(protocol: str) -> None:
    found = scope(entry(port(443, protocol), port(8443, protocol, targetPort=443)))
    for number in (443, 8443):
        assert lookups(found, f"0.0.0.0_{number}") == {("*.a.com",): (Lookup(cache=CACHE, port=443),)}
    # an address of its own is no reason to take connections without a name
    found = scope(entry(port(443, protocol), addresses=["240.240.0.2"]))
    assert list(lookups(found, "240.240.0.2_443")) == [("*.a.com",)]


def test_tls_rules_lead_to_such_hosts_too() -> None:
    to = [{"destination": {"host": "*.a.com", "port": {"number": 443}}}]
    rule = {"hosts": ["*.b.com"], "tls": [{"match": [{"sniHosts": ["x.b.com"], "port": 443}], "route": to}]}
    other = fleet.istio("ServiceEntry", "b", {"hosts": ["*.b.com"], "ports": [port(443, "TLS")]})
    found = scope(entry(port(443, "TLS")), other, fleet.istio("VirtualService", "b", rule))
    assert lookups(found, "0.0.0.0_443")["x.b.com",] == (Lookup(cache=CACHE, port=443),)


def test_routers_look_up_what_their_routes_lead_to() -> None:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    other = {"port": {"number": 81, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    gateway = fleet.istio("Gateway", "own", {"selector": {"app": "client"}, "servers": [server, other]})
    to = [{"destination": {"host": "*.a.com", "port": {"number": 80}}}, {"destination": {"host": "gone.com"}}]
    both = [{"match": [{"port": 80}], "route": [{**one, "weight": 50} for one in to]}, {"redirect": {"uri": "/"}}]
    rule = fleet.istio("VirtualService", "a", {"hosts": ["*"], "gateways": ["own"], "http": both})
    found = scope(entry(port(80, "HTTP")), gateway, rule, kind="router")
    assert caches(found, "0.0.0.0_80") == [(CACHE,)]
    assert caches(found, "0.0.0.0_81") == [()]


def test_any_host_may_be_looked_up() -> None:
    found = scope(ANY, fleet.kube_service("web"), entry(port(90, "HTTP")))
    assert found.outbound.clusters["AllowAnyDynamicDNSCluster"].cache == EVERYBODY
    assert caches(found, "0.0.0.0_80") == [(EVERYBODY,)]
    assert caches(found, "0.0.0.0_90") == caches(found, "127.0.0.1_15007") == [(CACHE, EVERYBODY)]
    for table in ("80", "http_proxy"):
        (*_, rest) = found.outbound.routes[table].virtual_hosts
        assert (rest.name, [to.cluster for to in rest.routes[0].leads]) == (
            "allow_any_dynamic_dns",
            ["AllowAnyDynamicDNSCluster"],
        )


@pytest.mark.parametrize(("limit", "expected"), [("", 15), ("protocolDetectionTimeout: 5s, ", 5)])
def test_http_that_no_listener_takes_goes_to_the_host_that_it_names(limit: str, expected: int) -> None:
    found = scope(fleet.mesh_config(f"{{{limit}outboundTrafficPolicy: {{mode: ALLOW_ANY_DYNAMIC_DNS}}}}"))
    listener = found.outbound.listeners["virtualOutbound"]
    assert listener.inspect_http
    assert (listener.detection_timeout, listener.continue_on_timeout) == (timedelta(seconds=expected), True)
    _, http, rest = listener.chains
    assert (http.name, http.match.application_protocols) == ("virtualOutbound-catchall-tcp-http", ("http/1.1", "h2c"))
    assert http.http is not None
    assert http.http.inline is not None
    assert rest.tcp is not None
    assert [one.cluster for one in rest.tcp.clusters] == ["PassthroughCluster"]


def test_a_sidecar_may_close_what_the_mesh_leaves_open() -> None:
    own = fleet.istio("Sidecar", "own", {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}})
    found = scope(ANY, fleet.kube_service("web"), own)
    assert caches(found, "0.0.0.0_80") == [()]
    assert not found.outbound.listeners["virtualOutbound"].inspect_http
    assert found.outbound.routes["80"].virtual_hosts[-1].name == "block_all"


def test_what_makes_no_difference_is_told() -> None:
    ports = (port(80, "HTTP", targetPort=8080), port(443, "TLS", targetPort=8443))
    mesh = fleet.Mesh(
        entry(*ports, endpoints=[{"address": "1.2.3.4"}]),
        entry(port(90, "HTTP"), host="*.b.com", workloadSelector={"labels": {"app": "web"}}),
    )
    assert sorted(mesh.told()) == [
        ("INEFFECTIVE", "a-com", "spec.endpoints"),
        ("INEFFECTIVE", "b-com", "spec.workloadSelector"),
        ("NOT_SUPPORTED", "a-com", "spec.ports[0].targetPort"),
    ]


def test_a_port_without_a_cluster_needs_no_cache() -> None:
    (service,) = fleet.Mesh(entry(port(80, "HTTP"))).context.model.registry.services
    assert list(dynamic_dns.clusters_of(service, {})) == []
