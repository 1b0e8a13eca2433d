"""Judges cases, two at a time, and sorts their differences into accepted ones and others."""

from __future__ import annotations

import multiprocessing
import random
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from conformance import accepted, groups
from conformance.difference import Difference

PROCESSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One case to judge."""

    group: str
    path: Path
    judge: groups.Judge

    @property
    def case(self) -> str:
        """What the case is called."""
        return groups.name_of(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a case. ``crash`` is a traceback, "" where there is none; ``rows`` are the table's that served."""

    group: str
    case: str
    differences: tuple[Difference, ...] = ()
    rows: frozenset[int] = frozenset()
    crash: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing but accepted differences was found."""
        return not self.differences and not self.crash


def tasks(root: Path, names: Iterable[str]) -> list[Task]:
    """The cases of some groups that can be fed, group by group."""
    found = [
        Task(group=name, path=path, judge=judge) for name in names for path, judge in groups.BY_NAME[name].cases(root)
    ]
    return [task for task in found if accepted.table().runs(task.group, task.case)]


def sample(all_tasks: Sequence[Task], count: int, seed: int) -> list[Task]:
    """At most ``count`` cases of each group, the same ones for the same seed."""
    chosen: list[Task] = []
    for name in dict.fromkeys(task.group for task in all_tasks):
        mine = [task for task in all_tasks if task.group == name]
        picked = random.Random(f"{seed} {name}").sample(range(len(mine)), min(count, len(mine)))  # noqa: S311 (a sample)
        chosen += [mine[index] for index in sorted(picked)]
    return chosen


def judge(task: Task) -> Verdict:
    """One case against the table."""
    try:
        found = list(task.judge(task.path))
    except Exception:  # noqa: BLE001 (a case that breaks the product must not keep the others from being judged)
        return Verdict(group=task.group, case=task.case, crash=traceback.format_exc())
    left, rows = sort(task.group, task.case, found)
    return Verdict(group=task.group, case=task.case, differences=tuple(left), rows=rows)


def sort(group: str, case: str, found: Iterable[Difference]) -> tuple[list[Difference], frozenset[int]]:
    """The differences that no row of the table covers, and the rows (from 0) that cover the others."""
    left, rows = [], set()
    table = accepted.table().rows
    for each in found:
        row = next((index for index, row in enumerate(table) if row.covers(group, case, each)), None)
        if row is None:
            left.append(each)
        else:
            rows.add(row)
    return left, frozenset(rows)


def run(chosen: Sequence[Task]) -> Iterator[Verdict]:
    """The verdicts, in the order of the tasks."""
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(judge, chosen)
