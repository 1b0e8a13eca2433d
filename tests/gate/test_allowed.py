"""What the gate allows, no Envoy refuses; what it refuses, Envoy would have refused: for EnvoyFilters by chance.

The gate sees resources that differ, with stubs for what they name; here the whole configurations of the same proxies,
made by the same compiler as what is served, go before Envoy.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from crds.diagnostic import Severity
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.envoy.trial import Trial
from istiod.gate import process
from istiod.gate.gate import Gate, Look, Outcome, Work
from istiod.mesh import context as mesh
from istiod.mesh.context import MeshContext
from tests import envoys
from tests.envoy import test_hostile_objects
from tests.generated import configurations, envoy_filters, test_generated

PATIENCE = 60.0


async def judged(seeds: range, folder: Path) -> tuple[Counter[Outcome], list[str]]:
    """How many came to which verdict, and where the gate and Envoy are not of one mind."""
    outcomes: Counter[Outcome] = Counter()
    allowed: list[tuple[str, list[ResourceSet]]] = []
    wrong: list[str] = []
    for seed in seeds:
        item, others = envoy_filters.drawn(seed)
        if item is None:
            continue
        store = ConfigStore()
        for one in (*test_generated.BASE, *others):
            store.apply(one)
        gate = Gate(process.Envoy(envoys.binary()), looking(mesh.build(store.snapshot())), PATIENCE)
        found = await gate.of(item)
        outcomes += gate.counts.outcomes
        case = (f"seed {seed}: {item.spec}", test_generated.resources([*others, item]))
        if any(each.severity is Severity.ERROR for each in found):
            if not list(test_hostile_objects.refused([case], folder)):
                wrong.append(f"refused, and Envoy takes it: {case[0]}: {found}")
        elif gate.counts.outcomes[Outcome.TAKEN]:
            allowed.append(case)
    return outcomes, [*wrong, *test_hostile_objects.refused(allowed, folder)]


def looking(context: MeshContext) -> Look:
    async def look(work: Work) -> tuple[Trial, ...]:
        return work(context, tuple(map(envoys.running, configurations.PROXIES)))

    return look


@pytest.mark.envoy
async def test_what_the_gate_allows_envoy_takes_and_nothing_else_of_a_dozen(tmp_path: Path) -> None:
    outcomes, wrong = await judged(range(20, 32), tmp_path)
    assert wrong == []
    assert min(outcomes[Outcome.TAKEN], outcomes[Outcome.REFUSED]) >= 4


@pytest.mark.envoy
@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_what_the_gate_allows_envoy_takes_and_nothing_else_of_500(tmp_path: Path) -> None:
    outcomes, wrong = await judged(range(1000, 1500), tmp_path)
    assert wrong == []
    assert min(outcomes[Outcome.TAKEN], outcomes[Outcome.REFUSED]) >= 100
