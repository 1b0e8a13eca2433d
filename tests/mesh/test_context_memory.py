from __future__ import annotations

import pytest

from crds.key import ConfigKey
from istiod.config.store import ConfigStore
from istiod.mesh import context, memo, recall
from istiod.mesh.inbound import Shape
from istiod.mesh.policy import MutualTls
from istiod.mesh.scope import Cluster, Direction, Discovery, InboundScope
from tests import figures
from tests.mesh import fleet, test_context

CLIENT, GATEWAY, mesh = test_context.CLIENT, test_context.GATEWAY, test_context.mesh


def cluster(name: str) -> Cluster:
    return Cluster(name=name, discovery=Discovery.STATIC, direction=Direction.OUTBOUND)


def test_leaves_that_nobody_uses_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "_SLACK", 0)
    found = mesh()
    found.scope(CLIENT)
    found.scope(GATEWAY)
    used = len(found.context.memo.leaves)
    for port in range(81, 90):
        found.apply(fleet.kube_service("shop", ports=[{"name": "http", "port": port, "targetPort": 8080}]))
        found.scope(CLIENT)
    assert len(found.context.memo.leaves) < 3 * used


def test_a_full_table_of_proxies_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "_MOST_PROXIES", 1)
    found = mesh()
    scope = found.scope(CLIENT)
    found.scope(GATEWAY)
    assert len(found.context.memo.proxies) == 1
    assert found.scope(CLIENT) is scope


def test_what_nobody_asked_for_in_a_generation_is_gone() -> None:
    found = mesh()
    model = found.context.model
    first = memo.Memo()
    one = first.of_shape(Shape(), model.settings, lambda: InboundScope(clusters={}, listeners={}))
    second = first.next()
    third = second.next()
    assert third.of_shape(Shape(), model.settings, lambda: InboundScope(clusters={}, listeners={})) is one
    used = third.next()
    used.of_shape(Shape(mtls=MutualTls.STRICT), model.settings, lambda: InboundScope(clusters={}, listeners={}))
    assert (
        used.next().of_shape(Shape(), model.settings, lambda: InboundScope(clusters={"c": cluster("c")}, listeners={}))
        is not one
    )


def test_an_object_that_is_none_of_ours_is_passed_over() -> None:
    store = ConfigStore()
    other = fleet.parsed(fleet.dump("v1", "Namespace", "default", ""))
    store.apply(other)
    assert context.build(store.snapshot(), None, frozenset({ConfigKey("", "Namespace", "", "x")})).diagnostics == ()


@pytest.mark.parametrize("cycles", [30, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(3_000)])])
def test_services_that_come_and_go_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch, cycles: int) -> None:
    """Fault FT57, with the slack taken away that the tables have."""
    monkeypatch.setattr(memo, "_SLACK", 0)
    monkeypatch.setattr(recall, "SLACK", 0)
    found = mesh()

    def held() -> tuple[int, int]:
        for _ in range(3):  # what a model did not ask for goes with the one after the next
            found.apply(fleet.kube_service("shop", ports=[{"name": "http", "port": 80, "targetPort": 8080}]))
            found.scope(CLIENT)
            found.apply(fleet.kube_service("shop", ports=[{"name": "http", "port": 81, "targetPort": 8080}]))
            found.scope(CLIENT)
        kept = found.context.memo
        return len(kept.leaves), len(kept.recall._small)

    before = held()
    most = 0
    for number in range(cycles):
        name = f"more-{number}"
        found.apply(fleet.kube_service(name))
        found.scope(CLIENT)
        most = max(most, len(found.context.memo.leaves))
        found.remove(fleet.kube_service(name))
        found.scope(CLIENT)
    after = held()
    figures.fault("FT57", f"{cycles} services came and went: {before} leaves and values before, {after} after")
    assert all(now <= then * 4 for now, then in zip(after, before, strict=True))
    assert most < 10 * before[0]
