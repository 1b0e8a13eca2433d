"""Which proxies a LocalRateLimit is for, and what changes touch (X1)."""

from __future__ import annotations

from typing import Any

from istiod.mesh.rate_limits import RateLimits
from tests.mesh import fleet

GROUP = "extensions.istiod.dev"
WEB = (fleet.kube_service("web"), fleet.pod("web-1", "10.1.0.1"))
PROXY = fleet.proxy("web-1", ip="10.1.0.1")
ROUTER = fleet.proxy("gw-1", kind="router", ip="10.1.0.3", LABELS={"app": "gw"})
SERVER = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
GATEWAY = (
    fleet.istio("Gateway", "gw", {"selector": {"app": "gw"}, "servers": [SERVER]}),
    fleet.pod("gw-1", "10.1.0.3"),
)


def limit(called: str, namespace: str = "default", app: str = "", requests: int = 10, **more: Any) -> str:
    spec: dict[str, Any] = {"rules": [{"limit": {"requests": requests, "per": "1s"}, **more}]}
    if app:
        spec["selector"] = {"matchLabels": {"app": app}}
    return fleet.dump(f"{GROUP}/v1alpha1", "LocalRateLimit", called, namespace, spec=spec)


def inbound(mesh: fleet.Mesh) -> RateLimits:
    """What holds on every way in; all must say the same."""
    scope = mesh.scope(PROXY).inbound
    assert scope is not None
    found = {chain.http.limits for one in scope.listeners.values() for chain in one.chains if chain.http}
    assert len(found) == 1
    return found.pop()


def outbound(mesh: fleet.Mesh) -> set[RateLimits]:
    listeners = mesh.scope(PROXY).outbound.listeners.values()
    return {chain.http.limits for one in listeners for chain in one.chains if chain.http}


def at_gateway(mesh: fleet.Mesh) -> RateLimits:
    (listener,) = mesh.scope(ROUTER).outbound.listeners.values()
    (found,) = {chain.http.limits for chain in listener.chains if chain.http}
    return found


def names(limits: RateLimits) -> list[str]:
    return [one.name for one in limits]


def test_limits_of_the_mesh_and_of_the_namespace_hold_for_selected_workloads_on_the_way_in() -> None:
    texts = (
        limit("b"),
        limit("a", app="web", name="first"),
        limit("c", app="other"),
        limit("d", "other"),
        limit("z", "istio-system"),
    )
    mesh = fleet.Mesh(*WEB, *texts)
    assert names(inbound(mesh)) == ["istio-system.z.0", "default.a.first", "default.b.0"]
    assert outbound(mesh) == {()}, "what an app calls is not limited"


def test_a_gateway_has_the_limits_that_select_its_pods() -> None:
    mesh = fleet.Mesh(*GATEWAY, limit("a", app="gw"), limit("b", app="web"), limit("c"))
    assert names(at_gateway(mesh)) == ["default.a.0", "default.c.0"]
    mesh.apply(limit("a", app="web"))
    assert names(at_gateway(mesh)) == ["default.c.0"]
    assert at_gateway(fleet.Mesh(*GATEWAY)) == ()


def test_the_burst_is_as_many_as_requests_unless_it_is_said() -> None:
    mesh = fleet.Mesh(*WEB, limit("a"))
    assert [one.burst for one in inbound(mesh)] == [10]


def test_a_change_is_followed_and_what_did_not_change_is_the_same() -> None:
    mesh = fleet.Mesh(*WEB, limit("a"), limit("b", "other"))
    index = mesh.context.model.rate_limits
    others = index.by_namespace["other"]
    scope = mesh.scope(PROXY)
    mesh.apply(fleet.pod("x-1", "10.1.0.9", "third"))
    assert mesh.context.model.rate_limits is index
    mesh.apply(limit("a", requests=20))
    assert mesh.context.model.rate_limits.by_namespace["other"] is others
    assert [one.requests for one in inbound(mesh)] == [20]
    assert mesh.scope(PROXY) is not scope
    mesh.remove(limit("a"))
    assert inbound(mesh) == ()


def test_a_read_again_without_a_change_is_the_same_index() -> None:
    mesh = fleet.Mesh(*WEB, limit("a"))
    index = mesh.context.model.rate_limits
    mesh.apply(fleet.mesh_config("enableTracing: false"))
    assert mesh.context.model.rate_limits is index


def test_what_a_rule_says_is_what_is_counted() -> None:
    header = {"name": "x-a", "values": ["b"], "notValues": ["c"]}
    said = {"methods": ["GET"], "paths": ["/a"], "hosts": ["h"], "headers": [header]}
    (found,) = inbound(
        fleet.Mesh(*WEB, limit("a", match=said, perConnection=True, responseHeaders={"b": "1", "a": "2"}))
    )
    assert found.match is not None
    assert (found.match.methods, found.match.paths, found.match.hosts) == (("GET",), ("/a",), ("h",))
    assert [(one.name, one.values, one.not_values) for one in found.match.headers] == [("x-a", ("b",), ("c",))]
    assert (found.per_connection, found.response_headers) == (True, (("a", "2"), ("b", "1")))
