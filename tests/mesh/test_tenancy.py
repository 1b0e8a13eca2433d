"""What one namespace can do to another by its objects (SEC62, SEC64-SEC68): nothing that is not said."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.route.v3 import route_pb2

from crds.diagnostic import Code
from istiod.config.resource import ResourceSet
from istiod.envoy.compiler import Compiler
from istiod.features import Features
from istiod.mesh import context
from istiod.mesh.context import MeshContext
from tests.envoy import made
from tests.mesh import fleet, test_credentials
from wire import names

NAMESPACES = ("default", "other", "third")
WEB = "outbound|80||web.default.svc.cluster.local"
PORT = [{"number": 80, "name": "http", "protocol": "HTTP"}]
BASE = (
    fleet.kube_service("web"),
    fleet.pod("web-1", "10.1.0.1"),
    fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1")),
)


def compiled(mesh: MeshContext, namespace: str) -> ResourceSet:
    proxy = fleet.proxy("client-1", namespace)
    return Compiler().compile(context.scope(mesh, proxy), mesh.endpoints, context.view(mesh, proxy))


def entry(*hosts: str, namespace: str = "other", **more: object) -> str:
    spec = {"hosts": list(hosts), "ports": PORT, "resolution": "STATIC", "endpoints": [{"address": "6.6.6.6"}], **more}
    return fleet.istio("ServiceEntry", "foreign", spec, namespace)


@pytest.mark.parametrize("host", ["web.default.svc.cluster.local", "*.default.svc.cluster.local", "*.local"])
def test_an_entry_for_anothers_service_takes_nobody_elses_calls(host: str) -> None:
    """Its own namespace apart, the Service goes on being the Service (SEC64)."""
    mesh = fleet.Mesh(*BASE, entry(host)).context
    for namespace in ("default", "third"):
        target = compiled(mesh, namespace)
        addresses = target.get(names.ENDPOINT, WEB)
        assert addresses is not None
        assert b"10.1.0.1" in addresses.any_frame
        assert b"6.6.6.6" not in addresses.any_frame


@pytest.mark.parametrize(
    ("export_to", "seen"),
    [
        (["*"], {"default", "other", "third"}),
        (["."], {"other"}),
        (["~"], set()),
        (["third"], {"third"}),
        ([".", "third"], {"other", "third"}),
        ([], {"default", "other", "third"}),
    ],
)
def test_what_is_not_exported_is_in_no_resource_of_others(export_to: list[str], seen: set[str]) -> None:
    """Neither name nor address, in none of the types (SEC66)."""
    mesh = fleet.Mesh(*BASE, entry("secret.example", exportTo=export_to)).context
    kinds = (names.CLUSTER, names.ENDPOINT, names.LISTENER, names.ROUTE)
    found = {
        namespace
        for namespace in NAMESPACES
        for target in (compiled(mesh, namespace),)
        if any(
            b"secret.example" in each.any_frame or b"6.6.6.6" in each.any_frame for k in kinds for each in target.of(k)
        )
    }
    assert found == seen


@pytest.mark.parametrize(
    ("home", "served"),
    [
        ("other/", False),
        ("kubernetes://other/", False),
        ("kubernetes-gateway://other/", False),
        ("istio-system/", True),
    ],
)
def test_a_gateway_gets_no_secret_of_another_namespace(home: str, *, served: bool) -> None:
    """There is no grant that would allow it, and the server does not listen (SEC62)."""
    secrets = (test_credentials.secret(namespace=one) for one in ("other", "istio-system"))
    gateway = test_credentials.gateway(credentialName=f"{home}web-cert")
    mesh = fleet.Mesh(test_credentials.SERVICE, test_credentials.POD, *secrets, gateway)
    target = Compiler().compile(mesh.scope(test_credentials.ROUTER), mesh.context.endpoints, made.VIEW)
    listens = target.get(names.LISTENER, "0.0.0.0_443") is not None
    assert (listens, len(list(target.of(names.SECRET)))) == (served, int(served))


@pytest.mark.parametrize(("home", "served"), [("other/", False), ("kubernetes-gateway://other/", False), ("", True)])
def test_a_client_gets_no_secret_of_another_namespace(home: str, *, served: bool) -> None:
    """By a rule that selects it, its host has no cluster then, so that nothing leaves in plaintext (SEC62)."""
    spec = {
        "host": "web",
        "trafficPolicy": {"tls": {"mode": "MUTUAL", "credentialName": f"{home}web-cert"}},
        "workloadSelector": {"matchLabels": {"app": "client"}},
    }
    secrets = (test_credentials.secret(namespace=one) for one in ("other", "default"))
    mesh = fleet.Mesh(*BASE, fleet.pod("client-1", "10.1.9.9"), fleet.istio("DestinationRule", "web", spec), *secrets)
    proxy = fleet.proxy(LABELS={"app": "client"})
    target = Compiler().compile(mesh.scope(proxy), mesh.context.endpoints, made.VIEW)
    found = target.get(names.CLUSTER, WEB) is not None, any(True for _ in target.of(names.SECRET))
    assert found == (served, served)


def test_an_envoy_filter_of_a_tenant_changes_its_own_proxies_only() -> None:
    """Only the root namespace speaks for all (SEC68)."""
    patch = {"applyTo": "CLUSTER", "match": {}, "patch": {"operation": "REMOVE"}}
    text = fleet.dump("networking.istio.io/v1alpha3", "EnvoyFilter", "tenant", "other", spec={"configPatches": [patch]})
    mesh = fleet.Mesh(*BASE, text).context
    there = {namespace: compiled(mesh, namespace).get(names.CLUSTER, WEB) is not None for namespace in NAMESPACES}
    assert there == {"default": True, "other": False, "third": True}


def rule(namespace: str, *hosts: str, status: int = 418, **more: object) -> str:
    spec = {"hosts": list(hosts), "http": [{"directResponse": {"status": status}}], **more}
    return fleet.istio("VirtualService", "foreign", spec, namespace)


def answered(target: ResourceSet, status: int) -> bool:
    """Whether some route answers by itself with this status."""
    tables = (made.parsed(one, route_pb2.RouteConfiguration) for one in target.of(names.ROUTE))
    return any(r.direct_response.status == status for t in tables for host in t.virtual_hosts for r in host.routes)


@pytest.mark.parametrize("host", ["web.default.svc.cluster.local", "*.default.svc.cluster.local"])
@pytest.mark.parametrize(
    ("said", "of_mesh", "struck"),
    [
        ({"exportTo": ["."]}, "{}", {"other"}),
        ({"exportTo": ["third"]}, "{}", {"third"}),
        ({}, "defaultVirtualServiceExportTo: ['.']", {"other"}),
        ({}, "{}", {"default", "other", "third"}),
    ],
    ids=["own", "named", "own by the mesh's default", "as Istio's default"],
)
def test_a_foreign_rule_strikes_those_it_is_exported_to(
    host: str, said: dict[str, Any], of_mesh: str, struck: set[str]
) -> None:
    """For calls within the mesh (SEC65)."""
    mesh = fleet.Mesh(*BASE, rule("other", host, **said), fleet.mesh_config(of_mesh)).context
    assert {namespace for namespace in NAMESPACES if answered(compiled(mesh, namespace), 418)} == struck


def entrance(namespace: str, *hosts: str, created: str = "2024-01-01T00:00:00Z") -> str:
    servers = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": list(hosts)}]
    spec = {"selector": {"app": "gw"}, "servers": servers}
    return fleet.istio("Gateway", "gw", spec, namespace, creationTimestamp=created)


@pytest.mark.parametrize(
    ("bound", "let_in"),
    [("other/*", True), ("*/*", True), ("*", True), ("third/*", False), ("./*", False), ("third/web.example", False)],
)
def test_a_gateway_takes_rules_of_the_namespaces_that_it_names(bound: str, *, let_in: bool) -> None:
    """A rule binds itself to another namespace's Gateway only where that one's hosts let it (SEC65)."""
    texts = (entrance("default", bound), rule("other", "web.example", gateways=["default/gw"]))
    mesh = fleet.Mesh(test_credentials.SERVICE, test_credentials.POD, *texts)
    target = Compiler().compile(mesh.scope(test_credentials.ROUTER), mesh.context.endpoints, made.VIEW)
    assert answered(target, 418) is let_in


@pytest.mark.parametrize(("default", "other", "wins"), [("2024", "2025", 410), ("2025", "2024", 420)])
def test_of_two_namespaces_that_claim_a_host_on_a_port_the_older_has_it(default: str, other: str, wins: int) -> None:
    """On plain HTTP Gateways of several namespaces share a listener, as on Istio; a host is one rule's (SEC67)."""
    texts = (
        entrance("default", "default/web.example", created=f"{default}-01-01T00:00:00Z"),
        entrance("other", "other/web.example", created=f"{other}-01-01T00:00:00Z"),
        rule("default", "web.example", status=410, gateways=["gw"]).replace(
            "  namespace:", f"  creationTimestamp: '{default}-01-01T00:00:00Z'\n  namespace:"
        ),
        rule("other", "web.example", status=420, gateways=["gw"]).replace(
            "  namespace:", f"  creationTimestamp: '{other}-01-01T00:00:00Z'\n  namespace:"
        ),
    )
    mesh = fleet.Mesh(test_credentials.SERVICE, test_credentials.POD, *texts)
    target = Compiler().compile(mesh.scope(test_credentials.ROUTER), mesh.context.endpoints, made.VIEW)
    hosts = [
        host
        for one in target.of(names.ROUTE)
        for host in made.parsed(one, route_pb2.RouteConfiguration).virtual_hosts
        if "web.example" in host.domains
    ]
    assert len(hosts) == 1
    assert hosts[0].routes[0].direct_response.status == wins


@pytest.mark.parametrize("scoped", [False, True])
def test_no_gateway_of_another_namespace_is_merged_where_that_is_asked_for(*, scoped: bool) -> None:
    """With PILOT_SCOPE_GATEWAY_TO_NAMESPACE, which is off as on Istio, however old it is (SEC67)."""
    texts = (
        entrance("other", "other/web.example", created="2023-01-01T00:00:00Z"),
        entrance("istio-system", "istio-system/web.example"),
        rule("other", "web.example", status=420, gateways=["gw"]),
        rule("istio-system", "web.example", status=410, gateways=["gw"]),
    )
    of_mesh = Features(scope_gateways=scoped)
    mesh = fleet.Mesh(test_credentials.SERVICE, test_credentials.POD, *texts, features=of_mesh)
    target = Compiler().compile(mesh.scope(test_credentials.ROUTER), mesh.context.endpoints, made.VIEW)
    assert answered(target, 410)
    assert answered(target, 420) is not scoped


def test_a_certificate_for_a_name_is_the_older_gateways() -> None:
    """A younger Gateway of another namespace takes no connection for a name that is served (SEC67)."""
    young = test_credentials.gateway().replace("namespace: default", "namespace: other").replace("web-cert", "evil")
    texts = (
        test_credentials.gateway().replace("metadata:", "metadata:\n  creationTimestamp: '2024-01-01T00:00:00Z'"),
        young.replace("metadata:", "metadata:\n  creationTimestamp: '2025-01-01T00:00:00Z'").replace(
            "web-cert", "evil"
        ),
    )
    secrets = (test_credentials.secret(), test_credentials.secret("evil"))
    mesh = fleet.Mesh(test_credentials.SERVICE, test_credentials.POD, *texts, *secrets)
    assert set(mesh.scope(test_credentials.ROUTER).outbound.secrets) == {"kubernetes://web-cert"}
    assert any(
        one.code is Code.DUPLICATE_HOST and one.key and one.key.namespace == "other" for one in mesh.context.diagnostics
    )
