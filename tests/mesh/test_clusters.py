from __future__ import annotations

from datetime import timedelta

import pytest

from istiod.mesh import clusters
from istiod.mesh.endpoint import Query
from istiod.mesh.policy import Keepalive, LocalityLb, TlsMode
from istiod.mesh.scope import Cluster, Direction, Discovery, ServiceRef, UpstreamTls
from istiod.mesh.service import Protocol
from tests.mesh import fleet
from wire.node import NodeType

WEB = "web.default.svc.cluster.local"
IDENTITY = "spiffe://cluster.local/ns/default/sa/shop"
BACKENDS = (
    fleet.pod("web-1", "10.1.0.1", account="shop"),
    fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1")),
)


def build(*texts: str, proxy: NodeType = NodeType.SIDECAR, namespace: str = "default") -> dict[str, Cluster]:
    model = fleet.Mesh(*texts).context.model
    return dict(clusters.outbound_clusters(model, namespace, model.registry.visible(namespace), proxy))


def rule(policy: object = None, name: str = "web", **more: object) -> str:
    return fleet.istio("DestinationRule", name, {"host": "web", "trafficPolicy": policy or {}, **more})


def web(*texts: str, proxy: NodeType = NodeType.SIDECAR, name: str = f"outbound|80||{WEB}") -> Cluster:
    return build(*(texts or (fleet.kube_service("web"),)), *BACKENDS, proxy=proxy)[name]


def test_a_service_becomes_a_cluster_with_mesh_mtls() -> None:
    found = web()
    name = f"outbound|80||{WEB}"
    assert (found.name, found.discovery, found.direction) == (name, Discovery.EDS, Direction.OUTBOUND)
    assert found.services == (ServiceRef(host=WEB, name="web", namespace="default"),)
    assert (found.port, found.subset, found.protocol, found.downstream_protocol) == (80, "", Protocol.HTTP, False)
    assert found.tls == UpstreamTls(mode=TlsMode.AUTO, sni=f"outbound_.80_._.{WEB}", subject_alt_names=(IDENTITY,))
    assert found.query == Query(name=name, host=WEB, namespace="default", port=80, labels=frozenset(), locality_lb=None)
    assert found.policy.connection_pool.connect_timeout == timedelta(seconds=10)
    assert found.origin is None


def test_blackhole_is_for_all_and_passthrough_for_sidecars() -> None:
    found = build()
    assert list(found) == ["BlackHoleCluster", "PassthroughCluster"]
    assert found["BlackHoleCluster"].discovery is Discovery.STATIC
    rest = found["PassthroughCluster"]
    assert (rest.discovery, rest.downstream_protocol, rest.bind_addresses) == (Discovery.ORIGINAL_DST, True, ())
    assert list(build(proxy=NodeType.ROUTER)) == ["BlackHoleCluster"]


def test_each_subset_gets_a_cluster_that_looks_for_its_labels() -> None:
    found = web(
        fleet.kube_service("web"),
        rule(subsets=[{"name": "v1", "labels": {"version": "v1"}}]),
        name=f"outbound|80|v1|{WEB}",
    )
    assert found.subset == "v1"
    assert found.query is not None
    assert found.query.labels == {("version", "v1")}
    assert found.tls is not None
    assert found.tls.sni == f"outbound_.80_.v1_.{WEB}"
    assert found.origin is not None
    assert (found.origin.key.kind, found.origin.key.name, found.origin.field) == ("DestinationRule", "web", "")


@pytest.mark.parametrize(
    ("port", "policy", "protocol", "downstream"),
    [
        ({"name": "grpc"}, {}, Protocol.GRPC, False),
        ({"name": ""}, {}, Protocol.UNSUPPORTED, True),
        ({"name": ""}, {"h2UpgradePolicy": "UPGRADE"}, Protocol.HTTP2, False),
        ({"name": "http"}, {"h2UpgradePolicy": "UPGRADE"}, Protocol.HTTP2, False),
        ({"name": "http"}, {"useClientProtocol": True}, Protocol.HTTP, True),
    ],
)
def test_the_port_and_its_policy_decide_the_protocol(
    port: dict[str, object], policy: dict[str, object], protocol: Protocol, *, downstream: bool
) -> None:
    found = web(fleet.kube_service("web", ports=[{"port": 80, **port}]), rule({"connectionPool": {"http": policy}}))
    assert (found.protocol, found.downstream_protocol) == (protocol, downstream)


def test_the_mesh_upgrades_declared_http_only_and_rules_may_refuse() -> None:
    ports = [{"port": 80, "name": "http"}, {"port": 81, "name": "tcp"}, {"port": 82, "name": "other"}]
    texts = [fleet.kube_service("web", ports=ports), fleet.mesh_config("h2UpgradePolicy: UPGRADE")]
    found = build(*texts)
    assert [found[f"outbound|{port}||{WEB}"].protocol for port in (80, 81, 82)] == [
        Protocol.HTTP2,
        Protocol.TCP,
        Protocol.UNSUPPORTED,
    ]
    refused = build(*texts, rule({"connectionPool": {"http": {"h2UpgradePolicy": "DO_NOT_UPGRADE"}}}))
    assert refused[f"outbound|80||{WEB}"].protocol is Protocol.HTTP


def test_routers_do_not_sniff() -> None:
    found = web(fleet.kube_service("web", ports=[{"port": 80}]), proxy=NodeType.ROUTER)
    assert (found.downstream_protocol, found.direction) == (False, Direction.GATEWAY)


def test_udp_ports_and_aliases_have_no_cluster() -> None:
    alias = {"type": "ExternalName", "externalName": "a.com"}
    found = build(
        fleet.kube_service("web", ports=[{"port": 53, "protocol": "UDP"}]),
        fleet.kube_service("alias", spec=alias),
    )
    assert list(found) == ["BlackHoleCluster", "PassthroughCluster"]


def headless(*more: str) -> tuple[str, ...]:
    return (fleet.kube_service("web", spec={"clusterIP": "None"}), *more)


def test_headless_services_keep_the_address_and_use_mtls_only_when_all_can() -> None:
    found = web(*headless())
    assert (found.discovery, found.query) == (Discovery.ORIGINAL_DST, None)
    assert found.tls == UpstreamTls(
        mode=TlsMode.ISTIO_MUTUAL, sni=f"outbound_.80_._.{WEB}", subject_alt_names=(IDENTITY,)
    )
    stranger = fleet.slice_of("web", fleet.backend("10.1.0.9"), name="web-2")
    assert web(*headless(stranger)).tls is None
    assert build(*headless())[f"outbound|80||{WEB}"].tls is None
    assert web(*headless(), proxy=NodeType.ROUTER).discovery is Discovery.EDS


def test_load_balancer_passthrough_keeps_the_address() -> None:
    for proxy in NodeType:
        found = web(fleet.kube_service("web"), rule({"loadBalancer": {"simple": "PASSTHROUGH"}}), proxy=proxy)
        assert (found.discovery, found.query) == (Discovery.ORIGINAL_DST, None)


PASSTHROUGH = {"loadBalancer": {"simple": "PASSTHROUGH"}}


def entry(resolution: str, **more: object) -> str:
    spec = {"hosts": ["a.com"], "ports": [{"name": "http", "number": 80}], "resolution": resolution, **more}
    return fleet.istio("ServiceEntry", "a", spec)


@pytest.mark.parametrize(
    ("resolution", "expected"),
    [
        ("NONE", Discovery.ORIGINAL_DST),
        ("STATIC", Discovery.EDS),
        ("DNS", Discovery.STRICT_DNS),
        ("DNS_ROUND_ROBIN", Discovery.LOGICAL_DNS),
    ],
)
def test_external_hosts_are_found_as_they_say_and_without_mesh_mtls(resolution: str, expected: Discovery) -> None:
    found = build(entry(resolution))["outbound|80||a.com"]
    assert (found.discovery, found.tls) == (expected, None)
    dns = expected in (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS)
    assert [e.address for e in found.endpoints] == (["a.com"] if dns else [])


def test_a_host_of_one_address_at_a_time_has_many_or_none_where_entries_or_labels_say_so() -> None:
    """Envoy refuses LOGICAL_DNS with any other number of names than one, and with it the whole cluster."""
    rule = fleet.istio("DestinationRule", "a", {"host": "a.com", "subsets": [{"name": "s", "labels": {"v": "1"}}]})
    again = entry("DNS_ROUND_ROBIN").replace("name: a\n", "name: b\n", 1)
    alone, both = build(entry("DNS_ROUND_ROBIN"), rule), build(entry("DNS_ROUND_ROBIN"), again)
    for found, count in ((alone["outbound|80|s|a.com"], 0), (both["outbound|80||a.com"], 2)):
        assert (found.discovery, len(found.endpoints)) == (Discovery.STRICT_DNS, count)


def test_a_host_of_dns_that_a_rule_passes_through_is_not_resolved() -> None:
    """As on Istio; Envoy refuses such a policy beside endpoints of DNS."""
    rule = fleet.istio("DestinationRule", "a", {"host": "a.com", "trafficPolicy": PASSTHROUGH})
    found = build(entry("DNS"), rule)["outbound|80||a.com"]
    assert (found.discovery, found.endpoints) == (Discovery.ORIGINAL_DST, ())


def test_subsets_of_dns_hosts_hold_their_own_endpoints() -> None:
    endpoints = [{"address": "x.com", "labels": {"v": "1"}}, {"address": "y.com"}]
    found = build(
        entry("DNS", endpoints=endpoints, location="MESH_INTERNAL"),
        fleet.istio("DestinationRule", "a", {"host": "a.com", "subsets": [{"name": "s", "labels": {"v": "1"}}]}),
    )
    assert [e.address for e in found["outbound|80||a.com"].endpoints] == ["x.com", "y.com"]
    subset = found["outbound|80|s|a.com"]
    assert [e.address for e in subset.endpoints] == ["x.com"]
    assert subset.tls is not None
    assert subset.tls.mode is TlsMode.AUTO


def test_auto_mtls_can_be_off_for_the_mesh_or_a_namespace() -> None:
    assert web(fleet.kube_service("web"), fleet.mesh_config("enableAutoMtls: false")).tls is None
    off = fleet.istio("PeerAuthentication", "off", {"mtls": {"mode": "DISABLE"}})
    assert web(fleet.kube_service("web"), off).tls is None
    strict = fleet.istio("PeerAuthentication", "on", {"mtls": {"mode": "STRICT"}})
    assert web(fleet.kube_service("web"), strict).tls is not None


def tls(proxy: NodeType = NodeType.SIDECAR, **said: object) -> UpstreamTls | None:
    return web(fleet.kube_service("web"), rule({"tls": said}), proxy=proxy).tls


def test_a_rule_decides_tls_before_auto_mtls() -> None:
    assert tls(mode="DISABLE") is None
    assert tls(mode="ISTIO_MUTUAL") == UpstreamTls(
        mode=TlsMode.ISTIO_MUTUAL, sni=f"outbound_.80_._.{WEB}", subject_alt_names=(IDENTITY,)
    )
    assert tls(mode="ISTIO_MUTUAL", sni="s", subjectAltNames=["b", "a"]) == UpstreamTls(
        mode=TlsMode.ISTIO_MUTUAL, sni="s", subject_alt_names=("a", "b")
    )
    assert tls(mode="SIMPLE") == UpstreamTls(mode=TlsMode.SIMPLE)
    assert tls(mode="SIMPLE", caCertificates="/ca", sni="a.com") == UpstreamTls(
        mode=TlsMode.SIMPLE, ca_certificates="/ca", sni="a.com"
    )
    assert tls(mode="SIMPLE", insecureSkipVerify=True) == UpstreamTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True)


@pytest.mark.parametrize(
    ("mode", "own", "expected"),
    [
        ("ISTIO_MUTUAL", {}, ("se-top", "spiffe://cluster.local/ns/default/sa/vm")),
        ("MUTUAL", {}, ("se-top", "spiffe://cluster.local/ns/default/sa/vm")),
        ("SIMPLE", {"subjectAltNames": ["rule"]}, ("rule",)),
    ],
)
def test_an_entry_may_say_whom_to_expect(mode: str, own: dict[str, object], expected: tuple[str, ...]) -> None:
    said = {
        "hosts": ["a.com"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "10.9.9.9", "serviceAccount": "vm"}],
        "subjectAltNames": ["se-top"],
    }
    policy = {"tls": {"mode": mode, "clientCertificate": "/c", "privateKey": "/k", **own}}
    ruled = fleet.istio("DestinationRule", "r", {"host": "a.com", "trafficPolicy": policy})
    found = build(fleet.istio("ServiceEntry", "a", said), ruled)["outbound|80||a.com"].tls
    assert found is not None
    assert found.subject_alt_names == expected


def test_credentials_by_name_are_for_routers() -> None:
    assert tls(mode="SIMPLE", credentialName="c") is None
    assert tls(NodeType.ROUTER, mode="SIMPLE", credentialName="c", caCrl="/crl") == UpstreamTls(
        mode=TlsMode.SIMPLE, credential_name="c"
    )


@pytest.mark.parametrize("proxy", [NodeType.SIDECAR, NodeType.ROUTER])
def test_what_is_said_of_certificates_does_not_change_mesh_mtls(proxy: NodeType) -> None:
    assert tls(proxy, mode="ISTIO_MUTUAL", credentialName="c", insecureSkipVerify=True, caCrl="/crl") == tls(
        proxy, mode="ISTIO_MUTUAL"
    )


def test_a_list_of_revoked_certificates_is_a_file() -> None:
    found = tls(mode="SIMPLE", caCertificates="/ca", caCrl="/crl")
    assert found == UpstreamTls(mode=TlsMode.SIMPLE, ca_certificates="/ca", ca_crl="/crl")


def test_locality_is_in_the_query_only_where_it_has_an_effect() -> None:
    found = web(fleet.kube_service("web"), rule({"outlierDetection": {}}))
    assert found.query is not None
    assert found.query.locality_lb == LocalityLb() == found.policy.load_balancer.locality
    found = web(fleet.kube_service("web", spec={"internalTrafficPolicy": "Local"}))
    assert found.query is not None
    assert (found.query.locality_lb, found.query.node_local) == (None, True)


def test_times_come_from_the_mesh_where_no_rule_says_them() -> None:
    mesh = fleet.mesh_config("{connectTimeout: 3s, tcpKeepalive: {probes: 4}}")
    pool = web(fleet.kube_service("web"), mesh).policy.connection_pool
    assert (pool.connect_timeout, pool.keepalive) == (timedelta(seconds=3), Keepalive(probes=4))
    said = {"connectionPool": {"tcp": {"connectTimeout": "1s", "tcpKeepalive": {"probes": 5}}}}
    pool = web(fleet.kube_service("web"), mesh, rule(said)).policy.connection_pool
    assert (pool.connect_timeout, pool.keepalive) == (timedelta(seconds=1), Keepalive(probes=5))


def test_of_two_services_of_one_name_the_first_has_the_cluster() -> None:
    model = fleet.Mesh(
        entry("DNS"),
        fleet.dump(
            "networking.istio.io/v1",
            "ServiceEntry",
            "b",
            "other",
            spec={"hosts": ["a.com"], "ports": [{"name": "http", "number": 80}], "resolution": "STATIC"},
        ),
    ).context.model
    found = clusters.outbound_clusters(model, "default", model.registry.services)
    assert found["outbound|80||a.com"].discovery is Discovery.STRICT_DNS


@pytest.mark.parametrize(
    ("said", "verified"),
    [
        ("{mode: SIMPLE}", False),
        ("{mode: SIMPLE, caCertificates: /roots.pem}", True),
        ("{mode: MUTUAL, clientCertificate: /a, privateKey: /b}", False),
        ("{mode: ISTIO_MUTUAL}", True),
        ("{mode: DISABLE}", None),
    ],
)
def test_a_mesh_may_leave_servers_unverified_where_a_rule_names_no_roots(said: str, verified: object) -> None:
    policy = {"host": "web", "trafficPolicy": {"tls": fleet.yaml.safe_load(said)}}
    texts = (fleet.kube_service("web"), fleet.istio("DestinationRule", "web", policy))

    def told_to_verify(word: str) -> bool | None:
        mesh = fleet.Mesh(*texts, fleet.mesh_config(f"verifyCertificateAtClient: {word}"))
        assert mesh.told() == []
        tls = mesh.scope(fleet.proxy()).outbound.clusters[f"outbound|80||{WEB}"].tls
        return None if tls is None else not tls.insecure_skip_verify

    assert told_to_verify("false") is verified
    assert told_to_verify("true") is (None if verified is None else True)
