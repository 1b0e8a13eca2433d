"""EnvoyFilters: which patches hold for whom, in which order, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from istiod.mesh import context
from istiod.mesh.envoy_filters import PatchSet
from tests.mesh import fleet

CLUSTER = {"operation": "MERGE", "value": {"connect_timeout": "1s"}}


def envoy_filter(name: str, namespace: str = "default", *patches: dict[str, Any], **spec: object) -> str:
    said = patches or ({"applyTo": "CLUSTER", "patch": CLUSTER},)
    more = {"creationTimestamp": spec.pop("created")} if "created" in spec else {}
    found = {"configPatches": list(said), **spec}
    return fleet.dump("networking.istio.io/v1alpha3", "EnvoyFilter", name, namespace, spec=found, **more)


def chosen(mesh: fleet.Mesh, **proxy: Any) -> PatchSet | None:
    return context.scope(mesh.context, fleet.proxy(**proxy)).patches


def names(mesh: fleet.Mesh, **proxy: Any) -> list[str]:
    found = chosen(mesh, **proxy)
    return [patch.key.name for patch in found.patches] if found else []


def test_lower_priorities_come_first_then_the_root_namespace_then_the_oldest() -> None:
    mesh = fleet.Mesh(
        envoy_filter("late", priority=10),
        envoy_filter("early", priority=-10),
        envoy_filter("young", created="2026-01-02T00:00:00Z"),
        envoy_filter("old", created="2026-01-01T00:00:00Z"),
        envoy_filter("root", "istio-system"),
        envoy_filter("other", "elsewhere"),
    )
    assert names(mesh) == ["early", "root", "old", "young", "late"]
    assert names(mesh, namespace="istio-system", kind="router") == ["root"]


def test_a_selector_wants_all_of_its_labels() -> None:
    mesh = fleet.Mesh(envoy_filter("web", workloadSelector={"labels": {"app": "web", "tier": "a"}}))
    assert names(mesh, LABELS={"app": "web", "tier": "a", "more": "x"}) == ["web"]
    assert names(mesh, LABELS={"app": "web"}) == []


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"proxyVersion": r"^1\.2[0-9].*"}, True),
        ({"proxyVersion": r"2[0-9]"}, True),
        ({"proxyVersion": r"^1\.1[0-9].*"}, False),
        ({"metadata": {"zone": "a"}}, True),
        ({"metadata": {"zone": "b"}}, False),
        ({"metadata": {"none": "a"}}, False),
    ],
)
def test_a_patch_may_be_for_some_versions_and_metadata_only(match: dict[str, Any], *, holds: bool) -> None:
    patch = {"applyTo": "CLUSTER", "match": {"proxy": match}, "patch": CLUSTER}
    mesh = fleet.Mesh(envoy_filter("some", "default", patch))
    assert names(mesh, ISTIO_VERSION="1.27.1", zone="a") == ["some"] * holds


def test_a_proxy_without_a_version_is_of_no_version() -> None:
    patch = {"applyTo": "CLUSTER", "match": {"proxy": {"proxyVersion": ".*"}}, "patch": CLUSTER}
    assert names(fleet.Mesh(envoy_filter("some", "default", patch))) == []


def test_equal_proxies_share_their_patches_and_follow_changes() -> None:
    mesh = fleet.Mesh(envoy_filter("one"), envoy_filter("two"))
    before, scope = chosen(mesh, name="a-1"), context.scope(mesh.context, fleet.proxy("a-1"))
    assert chosen(mesh, name="b-1") is before
    mesh.apply(fleet.kube_service("web"))
    assert chosen(mesh, name="a-1") is before
    proxy = fleet.proxy("a-1")
    assert mesh.scope(proxy).patches is before
    mesh.remove(envoy_filter("two"))
    left = mesh.scope(proxy).patches
    assert left is not None
    assert [patch.key.name for patch in left.patches] == ["one"]
    mesh.remove(envoy_filter("one"))
    assert mesh.scope(proxy).patches is None
    assert scope.patches is before


def test_nothing_is_patched_where_nobody_asks() -> None:
    assert chosen(fleet.Mesh()) is None
    assert chosen(fleet.Mesh(envoy_filter("other", "elsewhere"))) is None


@pytest.mark.parametrize(
    ("apply_to", "said", "meant"),
    [
        ("CLUSTER", "INSERT_FIRST", "ADD"),
        ("VIRTUAL_HOST", "INSERT_AFTER", "ADD"),
        ("HTTP_FILTER", "INSERT_FIRST", "INSERT_FIRST"),
        ("HTTP_ROUTE", "INSERT_BEFORE", "INSERT_BEFORE"),
    ],
)
def test_what_has_no_order_is_added(apply_to: str, said: str, meant: str) -> None:
    patch = {"applyTo": apply_to, "patch": {"operation": said, "value": {}}}
    found = chosen(fleet.Mesh(envoy_filter("one", "default", patch)))
    assert found is not None
    assert [one.operation for one in found.patches] == [meant]


def test_what_has_no_effect_is_said() -> None:
    waypoint = {"context": "WAYPOINT", "waypoint": {}}
    mesh = fleet.Mesh(
        envoy_filter("boot", "default", {"applyTo": "BOOTSTRAP", "patch": {"operation": "REMOVE"}}),
        envoy_filter("ext", "default", {"applyTo": "EXTENSION_CONFIG", "patch": {"operation": "MERGE", "value": {}}}),
        envoy_filter("way", "default", {"applyTo": "HTTP_FILTER", "match": waypoint, "patch": {"operation": "REMOVE"}}),
        envoy_filter("refs", targetRefs=[{"kind": "Gateway", "name": "g"}]),
        envoy_filter("works"),
    )
    assert names(mesh) == ["boot", "ext", "works"]
    assert mesh.told() == [
        ("NOT_SUPPORTED", "boot", "spec.configPatches[0].patch.operation"),
        ("NOT_SUPPORTED", "ext", "spec.configPatches[0].patch.operation"),
        ("NOT_SUPPORTED", "refs", "spec.targetRefs"),
        ("NOT_SUPPORTED", "way", "spec.configPatches[0].match.context"),
        ("NOT_SUPPORTED", "way", "spec.configPatches[0].match.waypoint"),
    ]


def test_what_istio_has_and_nobody_looks_at_is_said() -> None:
    listener = {"portName": "http", "filterChain": {"transportSocket": "tls"}}
    plain = {"operation": "MERGE", "value": {}}
    patch = {**plain, "filterClass": "AUTHN"}
    mesh = fleet.Mesh(
        envoy_filter("one", "default", {"applyTo": "LISTENER", "match": {"listener": listener}, "patch": patch}),
        envoy_filter(
            "two", "default", {"applyTo": "LISTENER", "match": {"listener": {"filterChain": {}}}, "patch": plain}
        ),
        envoy_filter("three", "default", {"applyTo": "LISTENER", "match": {}, "patch": plain}),
    )
    assert [field for code, name, field in mesh.told() if (code, name) == ("NOT_SUPPORTED", "one")] == [
        "spec.configPatches[0].match.listener.filterChain.transportSocket",
        "spec.configPatches[0].match.listener.portName",
        "spec.configPatches[0].patch.filterClass",
    ]
    assert not [name for _, name, _ in mesh.told() if name != "one"]


LIMITS = {
    "applyTo": "HTTP_FILTER",
    "match": {"context": "GATEWAY"},
    "patch": {
        "operation": "INSERT_FIRST",
        "value": {"name": "limits", "typed_config": {"cluster": "outbound|8081||limits.shop.svc.cluster.local"}},
    },
}
SCRIPT = {
    "applyTo": "HTTP_FILTER",
    "patch": {
        "operation": "INSERT_FIRST",
        "value": {"inline_code": 'handle:httpCall("outbound|8081|v1|limits.shop.svc.cluster.local", {}, "", 50)'},
    },
}
SERVICE = fleet.dump(
    "v1", "Service", "limits", "shop", spec={"clusterIP": "10.0.0.1", "ports": [{"port": 8081, "name": "grpc"}]}
)
VERSIONS = fleet.dump(
    "networking.istio.io/v1",
    "DestinationRule",
    "limits",
    "shop",
    spec={"host": "limits", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]},
)


def test_a_gateway_has_the_clusters_that_its_filters_name() -> None:
    """Nothing routes to a service of rate limits, while a filter at the gateway asks it."""
    of_it = {"workloadSelector": {"labels": {"istio": "gateway"}}}
    patched = envoy_filter("a", "istio-system", LIMITS, SCRIPT, **of_it)
    mesh = fleet.Mesh(SERVICE, VERSIONS, patched)

    def clusters(label: str) -> list[str]:
        gateway = fleet.proxy(f"gw-{label}", "istio-system", "router", LABELS={"istio": label})
        return sorted(mesh.scope(gateway).outbound.clusters)

    limits = ["outbound|8081|v1|limits.shop.svc.cluster.local", "outbound|8081||limits.shop.svc.cluster.local"]
    assert clusters("gateway") == ["BlackHoleCluster", *limits]
    assert clusters("other") == ["BlackHoleCluster"]
    mesh.apply(envoy_filter("a", "istio-system", LIMITS, **of_it))
    assert clusters("gateway") == ["BlackHoleCluster", limits[1]]
    mesh.apply(envoy_filter("a", "istio-system", **of_it))
    assert clusters("gateway") == ["BlackHoleCluster"]
