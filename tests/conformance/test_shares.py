"""How much of each group passes at least. Raise a share when it has grown; it never falls.

Scenarios take longest: a seeded sample of those that pass is judged here, all of them in ``make test-long``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from conformance import accepted, groups, instruments, run

ROOT = instruments.root()
LEAST: Final[Mapping[str, float]] = {
    "simulation": 0.87,
    "xds": 0.91,
    "iptables": 1.0,
    "bootstrap": 1.0,
    "inject": 1.0,
    "inject_required": 1.0,
    "validation": 1.0,
    "envoyfilter": 1.0,
    "authn": 1.0,
    "authz": 1.0,
    "se_services": 1.0,
    "se_instances": 1.0,
    "analysis": 1.0,
}
NOT_YET: Final[Mapping[str, str]] = {}
SAMPLE: Final = 8
SEED: Final = 7

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no conformance cases at {ROOT}")


@pytest.mark.timeout(600)
def test_no_group_falls_below_its_share() -> None:
    verdicts = list(run.run(run.tasks(ROOT, LEAST)))
    assert [verdict.crash for verdict in verdicts if verdict.crash] == []
    for name, least in LEAST.items():
        mine = [verdict for verdict in verdicts if verdict.group == name]
        passed = sum(verdict.passed for verdict in mine)
        assert passed >= least * len(mine), f"{name}: {passed} of {len(mine)}"


def scenarios() -> list[run.Task]:
    return run.tasks(ROOT, ["scenarios"])


def failing(verdicts: list[run.Verdict]) -> dict[str, list[str]]:
    return {
        each.case: [str(one) for one in each.differences[:3]] or [each.crash] for each in verdicts if not each.passed
    }


@pytest.mark.timeout(600)
def test_a_sample_of_scenarios_is_as_recorded() -> None:
    known = [task for task in scenarios() if task.case not in NOT_YET]
    assert failing(list(run.run(run.sample(known, SAMPLE, SEED)))) == {}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_scenario_is_as_recorded_and_every_accepted_difference_still_exists() -> None:
    usual = [group.name for group in groups.GROUPS if group.usual]
    verdicts = list(run.run(run.tasks(ROOT, usual)))
    assert failing([each for each in verdicts if each.group == "scenarios"]).keys() == NOT_YET.keys()
    served = {row for verdict in verdicts for row in verdict.rows}
    rows = accepted.table().rows  # those of groups that run only when named cannot be seen here
    idle = [row for index, row in enumerate(rows) if index not in served and any(map(row.group.fullmatch, usual))]
    assert [row.reason for row in idle] == []
