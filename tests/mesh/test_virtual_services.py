from __future__ import annotations

import pytest

from istiod.mesh import virtual_services
from istiod.mesh.settings import MeshSettings
from tests.mesh import world

ROUTE = "http: [{route: [{destination: {host: reviews}}]}]"


def names(found: world.World, host: str, namespace: str = "default") -> list[str]:
    return [one.key.name for one in found.index.for_requests(host, namespace)]


def rule(name: str, hosts: str, more: str = "", **at: str) -> str:
    return world.rules(name, f"{{hosts: {hosts}, {ROUTE} {', ' + more if more else ''}}}", **at)


REVIEWS = "reviews.default.svc.cluster.local"


def test_a_short_host_is_one_of_the_own_namespace() -> None:
    found = world.build(rule("a", "[reviews]"))
    assert names(found, REVIEWS) == ["a"]
    assert names(found, "reviews.other.svc.cluster.local") == []


def test_the_oldest_of_several_comes_first_then_the_name_decides() -> None:
    found = world.build(
        rule("b", "[reviews]", created="2024-01-02T00:00:00Z"),
        rule("a", "[reviews]", created="2024-01-02T00:00:00Z"),
        rule("z", "[reviews]", created="2024-01-01T00:00:00Z"),
    )
    assert names(found, REVIEWS) == ["z", "a", "b"]


def test_the_most_specific_host_is_the_only_one() -> None:
    texts = [rule("all", "['*']"), rule("some", "['*.default.svc.cluster.local']"), rule("one", "[reviews]")]
    assert names(world.build(*texts), REVIEWS) == ["one"]
    assert names(world.build(*texts), "*.default.svc.cluster.local") == ["some"]
    assert names(world.build(*texts[:2], rule("young", "['*.default.svc.cluster.local']")), REVIEWS) == ["some"]
    hidden = rule("some", "['*.default.svc.cluster.local']", "exportTo: [other]")
    assert names(world.build(texts[0], hidden), REVIEWS) == ["all"]


def test_for_connections_all_with_a_host_in_common_count_in_their_order() -> None:
    found = world.build(
        rule("wide", "['*.com']", created="2024-01-01T00:00:00Z"),
        rule("one", "[a.x.com]", created="2024-01-02T00:00:00Z"),
        rule("other", "[a.com]", created="2024-01-03T00:00:00Z"),
    )

    def several(host: str) -> list[str]:
        return [one.key.name for one in found.index.for_connections(host, "default")]

    assert several("a.x.com") == ["wide", "one"]
    assert several("*.x.com") == ["wide", "one"]
    assert several("*.org") == []


@pytest.mark.parametrize(
    ("namespace", "first"), [("default", ["own", "shared", "old"]), ("other", ["shared", "old"]), ("third", ["old"])]
)
def test_those_that_are_not_for_everybody_come_first(namespace: str, first: list[str]) -> None:
    old = rule("old", "[a.com]", "gateways: [mesh, edge/gw]", created="2024-01-01T00:00:00Z")
    own = rule("own", "[a.com]", "gateways: [mesh, edge/gw], exportTo: ['.']", created="2024-01-02T00:00:00Z")
    shared = rule(
        "shared",
        "[a.com]",
        "gateways: [mesh, edge/gw], exportTo: [other, default]",
        namespace="else",
        created="2024-01-03T00:00:00Z",
    )
    index = world.build(shared, old, own).index
    assert [one.key.name for one in index.for_requests("a.com", namespace)] == first
    assert [one.key.name for one in index.in_mesh(namespace)] == first
    assert [one.key.name for one in index.for_gateway("edge/gw", namespace)] == first


@pytest.mark.parametrize(
    ("export_to", "seen_by"),
    [("[]", ["default", "other"]), ("['.']", ["default"]), ("[other]", ["other"]), ("['*']", ["default", "other"])],
)
def test_it_is_seen_where_it_is_exported_to(export_to: str, seen_by: list[str]) -> None:
    found = world.build(rule("a", "[reviews]", f"exportTo: {export_to}"))
    assert [ns for ns in ("default", "other") if names(found, REVIEWS, ns)] == seen_by
    assert [ns for ns in ("default", "other") if list(found.index.in_mesh(ns))] == seen_by


def test_one_for_gateways_only_is_not_for_sidecars() -> None:
    found = world.build(rule("a", "[reviews]", "gateways: [gw]"), rule("b", "[reviews]", "gateways: [edge/gw, mesh]"))
    assert names(found, REVIEWS) == ["b"]
    assert [one.key.name for one in found.index.in_mesh("default")] == ["b"]
    assert [one.key.name for one in found.index.for_gateway("default/gw", "default")] == ["a"]
    assert [one.key.name for one in found.index.for_gateway("edge/gw", "default")] == ["b"]
    assert list(found.index.for_gateway("none/gw", "default")) == []


def test_labels_leave_a_trace_only_where_a_rule_looks_at_them() -> None:
    found = world.build(
        world.rules(
            "a",
            """
            hosts: [reviews]
            http: [{match: [{sourceLabels: {app: web, version: v1}}, {sourceLabels: {}}], route: []}]
            """.replace("route: []", "route: [{destination: {host: reviews}}]"),
        ),
        world.rules(
            "b", "{hosts: [db], tcp: [{match: [{sourceLabels: {app: web}}], route: [{destination: {host: db}}]}]}"
        ),
    )
    assert found.index.matched({"app": "web", "version": "v1", "more": "x"}) == ("app=web", "app=web,version=v1")
    assert found.index.matched({"app": "web"}) == ("app=web",)
    assert found.index.matched({"version": "v1"}) == ()


def test_an_object_is_read_again_only_when_it_or_the_settings_changed() -> None:
    before = world.build(rule("a", "[reviews]"), rule("b", "[ratings]"))
    keys = {key.name: key for key in before.index.by_key}
    after = world.build(rule("a", "[reviews]"), rule("b", "[ratings]"), rule("c", "[details]"))
    same = virtual_services.build(before.snapshot, before.model.settings, before.index)
    assert same.by_key[keys["a"]] is before.index.by_key[keys["a"]]
    other = virtual_services.build(after.snapshot, before.model.settings, before.index)
    assert other.by_key[keys["a"]] is not before.index.by_key[keys["a"]]
    assert other.by_key[keys["a"]] == before.index.by_key[keys["a"]]
    moved = virtual_services.build(before.snapshot, MeshSettings(dns_domain="mesh.local"), before.index)
    assert moved.by_key[keys["a"]].hosts == ("reviews.default.svc.mesh.local",)


def test_the_order_of_objects_plays_no_part() -> None:
    texts = [rule("a", "[reviews]"), rule("b", "[reviews]"), rule("c", "['*']")]
    one, other = world.build(*texts), world.build(*reversed(texts))
    assert list(one.index.by_key.items()) == list(other.index.by_key.items())
    assert one.index.by_host == other.index.by_host
