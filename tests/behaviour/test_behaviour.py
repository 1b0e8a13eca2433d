"""Each case through real Envoys, and each field that a case shows taken away: then the case must not hold.

A seeded sample of the cases in `make test`; all of them, and all without each of their fields, in `make test-long`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.behaviour import catalogue, rig
from tests.behaviour.case import Case, shown, without
from tests.behaviour.rig import Rig

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]
SEED = 1
SAMPLE = 40


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig.running(Path(tmp_path_factory.mktemp("rig"))) as made:
        yield made


def sampled() -> list[object]:
    """All cases; those that are not of the sample are long."""
    chosen = {id(case) for case in random.Random(SEED).sample(catalogue.CASES, min(SAMPLE, len(catalogue.CASES)))}
    return [
        pytest.param(case, id=case.name, marks=() if id(case) in chosen else (pytest.mark.long,))
        for case in catalogue.CASES
    ]


@pytest.mark.parametrize("case", sampled())
async def test_traffic_is_what_the_objects_say(case: Case, mesh: Rig) -> None:
    mesh.servers.forget()
    await mesh.settle(mesh.read(case.objects))
    await case.check(mesh)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in catalogue.CASES])
async def test_a_case_does_not_hold_without_a_field_that_it_shows(case: Case, mesh: Rig) -> None:
    documents = mesh.read(case.objects)
    needed: dict[str, bool] = {}
    for number, document in enumerate(documents):
        for one in shown(case, [document]):
            others = [*documents[:number], without(document, one.way), *documents[number + 1 :]]
            fails = not await holds(case, others, mesh)
            needed[one.folded] = needed.get(one.folded, False) or fails
    assert [field for field, fails in needed.items() if not fails] == []


async def holds(case: Case, documents: list[dict[str, object]], mesh: Rig) -> bool:
    """Whether a case holds with these objects."""
    mesh.servers.forget()
    try:
        await mesh.settle(documents, 6)
        await case.check(mesh)
    except (AssertionError, LookupError, ValueError):
        return False
    return True
