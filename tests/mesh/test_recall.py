from __future__ import annotations

from datetime import timedelta

import pytest

from crds.meta import Object
from istiod.mesh import recall as recalling
from istiod.mesh.recall import Recall
from istiod.mesh.route import Retry
from istiod.mesh.scope import OutboundScope
from istiod.mesh.settings import MeshSettings, OutboundMode
from tests.mesh import fleet, world


class Thing:
    """Equal to every other one, so that only identity tells them apart."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    def __hash__(self) -> int:
        return 0


def test_a_value_is_made_once_for_the_same_inputs() -> None:
    recall, thing = Recall(), Thing()
    first = recall.of("x", (thing,), object)
    assert recall.of("x", (thing,), object) is first
    assert recall.of("y", (thing,), object) is not first
    assert recall.of("x", (Thing(),), object) is not first
    assert recall.of("x", (thing, None), object) is not first


def test_of_what_is_large_the_next_generation_keeps_what_this_one_used() -> None:
    recall, kept, lost = Recall(), Thing(), Thing()
    first, other = recall.of_many("x", (kept,), object), recall.of_many("x", (lost,), object)
    recall = recall.next()
    assert recall.of_many("x", (kept,), object) is first
    recall = recall.next()
    assert recall.of_many("x", (kept,), object) is first
    assert recall.of_many("x", (lost,), object) is not other


def test_of_each_who_comes_and_goes_the_newest_value_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault FT53: a proxy that comes back again and again, and jobs' pods, while the model stays as it is."""
    monkeypatch.setattr(recalling, "SLACK", 10)
    recall, thing = Recall(), Thing()
    first = recall.of_each("x", "pod", (thing,), object)
    assert recall.of_each("x", "pod", (thing,), object) is first
    assert recall.of_each("x", "pod", (thing, None), object) is not first
    for _ in range(50):
        recall.of_each("x", "pod", (Thing(),), object)
    assert len(recall._each) == 1
    for number in range(100):
        recall.of_each("x", number, (thing,), object)
        assert len(recall._each) <= 11 + 1
    kept = recall.of_each("x", 99, (thing,), object)
    assert recall.next().of_each("x", 99, (thing,), object) is kept
    assert len(recall.next()._each) == 1, "of the others nobody asked again"


def test_what_is_small_stays_until_there_is_much_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalling, "SLACK", 1)
    recall, kept, lost = Recall(), Thing(), Thing()
    first, other = recall.of("x", (kept,), object), recall.of("x", (lost,), object)
    recall = recall.next()
    assert len(recall._small) == 2, "more than the slack, but all of it is new"
    assert recall.of("x", (kept,), object) is first
    recall = recall.next()
    recall.of("y", (kept,), object)
    for name in range(3):
        recall.of(name, (kept,), object)
    recall = recall.next()
    assert recall.of("x", (kept,), object) is first
    assert recall.of("x", (lost,), object) is not other


def test_what_comes_and_goes_leaves_no_more_the_longer_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault FT57: each sweep left as much as the one before and what had come since."""
    monkeypatch.setattr(recalling, "SLACK", 0)
    recall, stays = Recall(), Thing()
    most = 0
    for number in range(2_000):
        recall.of("stays", (stays,), object)
        for each in range(5):
            recall.of((number, each), (Thing(),), object)
        recall = recall.next()
        most = max(most, len(recall._small))
    assert most <= 60


def test_a_generation_that_was_not_used_passes_everything_on() -> None:
    recall, thing = Recall(), Thing()
    first = recall.of_many("x", (thing,), object)
    assert recall.next().next().of_many("x", (thing,), object) is first


DETAILS = world.service("details", "http:80", "tcp:9000", ip="10.0.0.1")
REVIEWS = world.service("reviews", "http:80", "tcp:9000", ip="10.0.0.2")
SUBSETS = world.subsets("reviews", "v1")
RULES = world.rules(
    "details",
    """
    hosts: [details, x.example]
    http: [{route: [{destination: {host: reviews, subset: v1}}]}]
    tcp: [{route: [{destination: {host: reviews, subset: v1, port: {number: 9000}}}]}]
    """,
)
ALIAS = """
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: default}
spec: {type: ExternalName, externalName: reviews.default.svc.cluster.local}
"""
OBJECTS = tuple(world.objects(DETAILS, REVIEWS, SUBSETS, RULES, ALIAS))
MORE = tuple(
    world.objects(
        world.service("details", "http:80", "tcp:9000", ip="10.0.0.3"),
        world.service("reviews", "http:80", "http-x:81", "tcp:9000", ip="10.0.0.2"),
        world.subsets("reviews", "v1", policy="{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}"),
        world.rules("details", "{hosts: [details], http: [{route: [{destination: {host: reviews}}]}]}"),
        ALIAS.replace("reviews", "details"),
    )
)
Case = tuple[Object, ...]
CASES: list[tuple[Case, Case]] = []
for place, other in enumerate(MORE):
    less = OBJECTS[:place] + OBJECTS[place + 1 :]
    CASES += [(OBJECTS, less), (less, OBJECTS), (OBJECTS, (*less, other))]
for other in world.objects(
    world.subsets("reviews", "v1", policy="{connectionPool: {tcp: {idleTimeout: 10s}}}"),
    RULES.replace("http:\n  - ", "http:\n  - timeout: 1s\n    "),
):
    CASES.append((OBJECTS, (*(one for one in OBJECTS if one.key != other.key), other)))


def same(found: OutboundScope, fresh: OutboundScope) -> bool:
    return (found.clusters, found.listeners, found.routes) == (fresh.clusters, fresh.listeners, fresh.routes)


@pytest.mark.parametrize(("first", "then"), CASES)
def test_a_scope_follows_what_comes_goes_and_changes(first: Case, then: Case) -> None:
    before = world.of(world.holding(first))
    recall = Recall()
    known = before.sidecar(recall=recall)
    after = world.of(world.holding(then), previous=before)
    assert same(after.sidecar(before=known, recall=recall.next()), world.of(world.holding(then)).sidecar())


@pytest.mark.parametrize(
    "settings",
    [
        MeshSettings(outbound=OutboundMode.REGISTRY_ONLY),
        MeshSettings(auto_mtls=False),
        MeshSettings(default_retry=Retry(attempts=1, retry_on="5xx")),
        MeshSettings(protocol_detection_timeout=timedelta(seconds=1)),
    ],
)
def test_a_scope_follows_the_settings(settings: MeshSettings) -> None:
    recall = Recall()
    before = world.of(world.holding(OBJECTS))
    before.sidecar(recall=recall)
    after = world.of(world.holding(OBJECTS), settings, previous=before)
    fresh = world.of(world.holding(OBJECTS), settings).sidecar()
    assert same(after.sidecar(recall=recall.next()), fresh)


def test_a_change_of_one_host_makes_nothing_of_the_others_again() -> None:
    recall = Recall()
    before = world.of(world.holding(OBJECTS))
    known = before.sidecar(recall=recall)
    rule = world.rules("reviews", "{hosts: [reviews], http: [{timeout: 1s, route: [{destination: {host: reviews}}]}]}")
    after = world.of(world.holding((*OBJECTS, *world.objects(rule))), previous=before)
    found = after.sidecar(recall=recall.next())
    assert all(found.clusters[name] is one for name, one in known.clusters.items())
    changed = {name for name, one in known.listeners.items() if found.listeners[name] is not one}
    assert changed == {"virtualOutbound", "10.0.0.2_9000"}
    hosts = {one.name: one for one in known.routes["80"].virtual_hosts}
    changed = {one.name for one in found.routes["80"].virtual_hosts if hosts[one.name] is not one}
    assert changed == {"reviews.default.svc.cluster.local:80"}


def second_name(of: str) -> Object:
    spec = {"type": "ExternalName", "externalName": of, "ports": [{"name": "http", "port": 80}]}
    return fleet.parsed(fleet.dump("v1", "Service", "alias", spec=spec))


RULED = tuple(
    world.objects(
        DETAILS, world.rules("details", "{hosts: [details], http: [{route: [{destination: {host: alias}}]}]}")
    )
)


@pytest.mark.parametrize("then", [(*RULED, second_name("b.example")), RULED])
def test_a_rule_follows_a_second_name_of_a_host_that_nobody_declares(then: Case) -> None:
    recall = Recall()
    before = world.of(world.holding((*RULED, second_name("a.example"))))
    before.sidecar(recall=recall)
    after = world.of(world.holding(then), previous=before)
    assert same(after.sidecar(recall=recall.next()), world.of(world.holding(then)).sidecar())
