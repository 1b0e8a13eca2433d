"""What starts an analysis and what keeps it waiting, on a simulated API (a real one: tests/kube/test_analysis.py)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from istiod import analysis_controller
from istiod.analysis import kinds
from istiod.analysis_controller import AnalysisController, kept
from istiod.config.kubernetes import FORBIDDEN, NOT_FOUND, ApiError, Event, Resource
from istiod.config.protocols import Stopper
from istiod.kube.collection import Collection
from tests.kube.test_writers import running
from tests.waiting import until
from tests.watch.cluster import ROOT, key_of, made
from tests.watch.test_kubernetes import Api

RULE = made("VirtualService", "web", spec={"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]})


class Refusing(Api):
    """An API that answers for some kinds with an error."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, int] = {}

    async def events(self, resource: Resource, stop: Stopper) -> AsyncGenerator[Event]:
        """See ObjectApi."""
        if (status := self.refused.get(resource.kind)) is not None:
            raise ApiError(f"{resource.plural}: {status}", status=status)
        async for each in super().events(resource, stop):
            yield each


class Leads:
    """A leader, as long as the test says so."""

    holds = True


class World:
    """A controller that analyses what a simulated API has."""

    def __init__(self) -> None:
        self.api = Refusing()
        self.leader = Leads()
        self.analysis = AnalysisController(self.api, ROOT, "default", (self.leader,))

    def codes(self) -> list[str] | None:
        """What is said of the rule; None where nothing is known."""
        said = self.analysis.said(key_of(RULE))
        return None if said is None else [one["type"]["code"] for one in said]


@pytest_asyncio.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(analysis_controller, "GATHER", 0.01)
    monkeypatch.setattr(analysis_controller, "PERIOD", 0.05)
    made_ = World()
    made_.api.put(RULE)
    yield made_


@pytest.mark.parametrize("status", [NOT_FOUND, FORBIDDEN])
async def test_a_kind_of_istio_that_is_not_served_keeps_nothing_waiting(world: World, status: int) -> None:
    """base.excludedCRDs, say."""
    world.api.refused["WasmPlugin"] = status
    async with running(*(run for _, run in world.analysis.parts())):
        await until(lambda: world.codes() == ["IST0101"], "it is analysed")


async def test_what_analysis_waits_for_is_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Without Services each host would be unknown: false advice is worse than none."""
    world.api.refused["Service"] = FORBIDDEN
    async with running(*(run for _, run in world.analysis.parts())):
        await until(lambda: "analysis waits for Services: services: 403" in caplog.messages, "it is said")
        assert world.codes() is None
        assert len(caplog.messages) <= 2  # once for each reason, not at each look
        del world.api.refused["Service"]
        await until(lambda: world.codes() == ["IST0101"], "it is analysed")


async def test_only_who_leads_holds_what_is_analysed(world: World) -> None:
    def held() -> bool:
        return any(each.items for each in world.analysis.collections)

    world.leader.holds = False
    async with running(*(run for _, run in world.analysis.parts())):
        assert (world.codes(), held()) == (None, False)
        world.leader.holds = True
        await until(lambda: world.codes() == ["IST0101"], "it is analysed")
        assert held()
        world.leader.holds = False
        await until(lambda: not held() and world.codes() is None, "all is forgotten")
        world.leader.holds = True
        await until(lambda: world.codes() == ["IST0101"], "it is analysed again")


def test_no_key_is_held() -> None:
    data = {"tls.crt": "Y2VydA==", "ca.crt": "cm9vdHM=", "tls.key": "c2VjcmV0", "password": "c2VjcmV0", "key": ""}
    found = kept(kinds.SECRET, {"metadata": {"name": "a"}, "type": "kubernetes.io/tls", "data": data})
    assert found["data"].keys() == data.keys()
    assert found["data"]["tls.crt"] == "Y2VydA=="
    assert "c2VjcmV0" not in str(found)
    assert (bool(found["data"]["tls.key"]), bool(found["data"]["key"])) == (
        True,
        False,
    )  # one that is empty is reported


async def test_what_no_analyzer_reads_starts_no_analysis(world: World) -> None:
    """A kubelet's word, or what we wrote into a status ourselves."""
    changes = list[str]()
    kind = kinds.VIRTUAL_SERVICE
    resource = Resource(group=kind.group, version="v1", plural="virtualservices", kind=kind.name)
    rules = Collection(world.api, resource, partial(kept, kind), lambda: changes.append(str(rules.items)))
    async with running(rules.follow):
        await until(lambda: rules.listed, "it is listed")
        assert len(changes) == 2  # the rule, and that this is all
        world.api.put({**RULE, "status": {"validationMessages": []}})
        world.api.put({**RULE, "spec": {}})
        await until(lambda: len(changes) > 2 and "hosts" not in changes[-1], "the last change is seen")
        assert len(changes) == 3
        world.api.delete(RULE)
        await until(lambda: not rules.items, "it is gone")
        assert len(changes) == 4


def test_of_a_status_only_addresses_are_kept() -> None:
    def of(status: object) -> object:
        return kept(kinds.SERVICE_ENTRY, made("ServiceEntry", "a", status=status)).get("status")

    addresses = {"addresses": [{"value": "240.240.0.1"}]}
    assert of({**addresses, "conditions": []}) == addresses
    assert {of(odd) for odd in (None, "odd", {"addresses": 5})} == {None}
