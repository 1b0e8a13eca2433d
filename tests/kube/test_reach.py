"""How old what a replica knows may be, while it does not reach the API server and another one does (FT47)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from crds.registry import KINDS
from e2e.harness.controlplane import Cluster, control_plane
from istiod.config.kubernetes import FORBIDDEN, ApiError
from istiod.kube.client import KubernetesClient
from istiod.kube.reach import Reach
from tests import figures
from tests.kube.conftest import install
from tests.kube.following import becomes, make, until
from tests.kube.test_discovery import Istiod
from tests.kube.test_replicas import SHOP, SYSTEM, replica

CUT_OFF = figures.lasting(12)
PATIENCE = 1.0
"""Seconds by which two looks at a busy machine may differ."""
AGE = re.compile(r"^pilot_source_age_seconds (\S+)$", re.MULTILINE)


class Answers:
    """An API server that answers as it is told, and how often it was asked."""

    def __init__(self) -> None:
        self.error: ApiError | None = None
        self.silent = False
        self.asked = 0

    async def request(self, method: str, path: str, *, deadline: float) -> object:
        assert (method, path) == ("get", "/api/v1/namespaces/istio-system")
        self.asked += 1
        if self.silent:
            await asyncio.sleep(deadline)
            raise ApiError("no answer")
        if self.error is not None:
            raise self.error
        return {}


async def asked_once_more(reach: Reach, answers: Answers) -> None:
    """Until one more question has been asked and answered."""
    before = answers.asked
    task = asyncio.create_task(reach.run())
    try:
        await until(lambda: answers.asked > before, "it asks")
        await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_age_counts_from_the_last_question_that_was_answered() -> None:
    clock, answers = [100.0], Answers()
    reach = Reach(answers, SYSTEM, lambda: clock[0])
    assert reach.age == 0
    await asked_once_more(reach, answers)
    clock[0] = 107.0
    assert reach.age == 0, "nothing says that it does not answer"
    answers.error = ApiError("no answer")
    await asked_once_more(reach, answers)
    assert reach.age == 7
    answers.error = None
    await asked_once_more(reach, answers)
    assert reach.age == 0


async def test_a_refusal_is_an_answer_and_silence_is_noticed_at_once() -> None:
    clock, answers = [100.0], Answers()
    reach = Reach(answers, SYSTEM, lambda: clock[0])
    answers.error = ApiError("refused", status=FORBIDDEN)
    await asked_once_more(reach, answers)
    clock[0] = 104.0
    assert reach.age == 0
    answers.silent = True
    task = asyncio.create_task(reach.run())
    await until(lambda: reach.age == 4, "silence is noticed before the deadline", 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with control_plane(controllers=False) as made:
        install(made, [info for info in KINDS.values() if info.group.endswith(".istio.io")])
        for name in (SYSTEM, SHOP):
            made.kubectl("create", "namespace", name)
        yield made


async def age(istiod: Istiod) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"http://{istiod.http}/metrics") as answer:
        found = AGE.search(await answer.text())
    assert found is not None
    return float(found[1])


@pytest.mark.apiserver
@pytest.mark.long
@pytest.mark.timeout(900, func_only=True)
async def test_a_replica_that_is_cut_off_serves_on_and_says_how_old_what_it_knows_is(
    client: KubernetesClient, kubeconfig: str, tmp_path: Path
) -> None:
    async with replica(kubeconfig, tmp_path, "sees") as sees, replica(kubeconfig, tmp_path, "blind") as blind:
        for each in (sees, blind):
            await becomes(each.istiod.ready, lambda said: said == (200, "ok"), 300)
        assert (await age(sees.istiod), await age(blind.istiod)) == (0, 0)
        blind.proxy.watching.clear()
        blind.proxy.open.clear()
        began = time.monotonic()
        await make(client, SHOP, ["late"])
        await asyncio.sleep(CUT_OFF)  # the fault lasts
        real = time.monotonic() - began
        said = await age(blind.istiod)
        assert await age(sees.istiod) == 0
        old, new = await blind.istiod.clusters(), await sees.istiod.clusters()
        assert isinstance(old, list)
        assert isinstance(new, list)
        assert len(new) == len(old) + 1, "one has the new Service, the other serves what it knew"
        figures.fault(
            "FT47", f"cut off for {real:.1f} s, its metric says {said:.1f} s; it serves on. Proxies do not move"
        )
        assert abs(said - real) <= 1.0 + PATIENCE
        blind.proxy.watching.set()
        blind.proxy.open.set()
        began = time.monotonic()
        while len(found if isinstance(found := await blind.istiod.clusters(), list) else []) != len(new):
            assert time.monotonic() - began < 60
        while await age(blind.istiod):
            assert time.monotonic() - began < 60
