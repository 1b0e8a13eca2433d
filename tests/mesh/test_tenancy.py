"""What one namespace can do to another by its objects (SEC62, SEC64, SEC66-SEC68): nothing that is not said."""

from __future__ import annotations

import pytest

from istiod.config.resource import ResourceSet
from istiod.envoy.compiler import Compiler
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


def test_an_envoy_filter_of_a_tenant_changes_its_own_proxies_only() -> None:
    """Only the root namespace speaks for all (SEC68)."""
    patch = {"applyTo": "CLUSTER", "match": {}, "patch": {"operation": "REMOVE"}}
    text = fleet.dump("networking.istio.io/v1alpha3", "EnvoyFilter", "tenant", "other", spec={"configPatches": [patch]})
    mesh = fleet.Mesh(*BASE, text).context
    there = {namespace: compiled(mesh, namespace).get(names.CLUSTER, WEB) is not None for namespace in NAMESPACES}
    assert there == {"default": True, "other": False, "third": True}
