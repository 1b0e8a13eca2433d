from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bench import processes
from crds.key import ConfigKey
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.envoy.compiler import Compiler
from istiod.mesh import context, memo, recall
from istiod.mesh.inbound import Shape
from istiod.mesh.policy import MutualTls
from istiod.mesh.scope import Cluster, Direction, Discovery, InboundScope
from tests import figures
from tests.mesh import fleet, test_context
from wire import names

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


def test_the_streams_of_one_pod_do_not_make_each_other_forgotten() -> None:
    """Envoy's and the agent's are told one after the other, at each event of endpoints."""
    found = mesh()
    agent = replace(CLIENT)
    for _ in range(3):
        assert found.scope(CLIENT) is found.scope(agent)
    assert found.context.memo.built[memo.PROXY] == 2
    for _ in range(9):
        found.scope(replace(CLIENT))
    (kept,) = found.context.memo.proxies.values()
    assert len(kept) == 2, "each that comes back is another"


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


def resident() -> float:
    """This process's memory in MB."""
    return processes.rss(os.getpid())


class Follower:
    """A mesh and what one client of it is told; ``most`` is what was remembered at most: leaves, those on top of three
    times as many as are needed (twice as many stay, and those of one change come), and values."""

    def __init__(self) -> None:
        self._mesh, self._compiler = mesh(), Compiler()
        self.most = (0, 0, 0)

    def follow(self) -> ResourceSet:
        found = self._mesh.scope(CLIENT)
        kept = self._mesh.context.memo
        leaves = len(kept.leaves)
        now = (leaves, leaves - 3 * len(kept.needed()), len(kept.recall._small))
        self.most = tuple(map(max, zip(self.most, now, strict=True)))
        return self._compiler.compile(found, self._mesh.context.endpoints, context.view(self._mesh.context, CLIENT))

    def cycle(self, name: str) -> None:
        """A service comes and goes."""
        self._mesh.apply(fleet.kube_service(name))
        first = self.follow()
        self._mesh.remove(fleet.kube_service(name))
        self.follow()
        del first  # a proxy has it until it is told of the next

    def held(self) -> tuple[int, int, int]:
        """Resources, leaves and large values: what a model did not ask for goes with the one after the next."""
        for port in (80, 81, 80, 81, 80, 81):
            self._mesh.apply(fleet.kube_service("shop", ports=[{"name": "http", "port": port, "targetPort": 8080}]))
            last = self.follow()
        kept = self._mesh.context.memo
        assert last.count(names.CLUSTER)
        return self._compiler.kept, len(kept.needed()), len(kept.recall._large)


@pytest.mark.parametrize("cycles", [30, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(3_000)])])
def test_services_that_come_and_go_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch, cycles: int) -> None:
    """Fault FT57. In the long form memory is looked at, with the slack that the tables have, from a fifth of it on."""
    if short := cycles < memo._SLACK:
        monkeypatch.setattr(memo, "_SLACK", 0)
        monkeypatch.setattr(recall, "SLACK", 0)
    one = Follower()
    before, small = one.held(), one.most[2]
    for number in range(cycles // 5):
        one.cycle(f"early-{number}")
    early = processes.rss(os.getpid())
    for number in range(cycles - cycles // 5):
        one.cycle(f"more-{number}")
    late = processes.rss(os.getpid())
    leaves, spare, values = one.most
    after = one.held()
    figures.fault(
        "FT57",
        f"{cycles} services came and went: {before} resources, leaves and tables before, {after} after;"
        f" at most {leaves} leaves and {values} values remembered; {early:.1f} MB after a fifth, {late:.1f} at the end",
    )
    assert after == before
    assert spare <= memo._SLACK
    assert values <= 4 * small + 4 * recall.SLACK
    assert short or abs(late - early) <= 0.05 * early
