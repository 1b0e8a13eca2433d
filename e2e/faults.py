"""``python -m e2e.faults``: one fault after the other, and a table of what came of it; 1 where one was missed.

The tests that docs/faults.md names for a fault make it happen, under the load and with the truth that they have, and
judge it. What they measure they tell through tests.figures. A fault is missed where one of its tests fails, or is not
found. Without --long only the short forms run: a fault of which some test has none is kept in part, and skipped where
no test has one. With --full, durations are those of the list, not a twentieth.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from e2e import faults_page
from e2e.faults_page import Fault

ROOT: Final = Path(__file__).parents[1]
KEPT, PART, MISSED, SKIPPED, UNSHOWN = "kept", "in part", "MISSED", "skipped", "not shown"
_WORD: Final = 28  # characters of a fault's name in the table
_BAD: Final = ("failure", "error")
_NOTHING_CHOSEN: Final = 5  # pytest's status where tests are there, and none is of the asked form


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a fault: one of the five words, how long its tests ran, and what they measured."""

    fault: Fault
    word: str
    seconds: float = 0.0
    figures: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = "; ".join(self.figures) or (
            f"({self.fault.figure.replace(faults_page.LEFT, '; left: ')})" if self.word != MISSED else ""
        )
        return (
            f"FT{self.fault.number:<3} {self.word:9} {self.seconds:5.0f} s  {self.fault.name[:_WORD]:{_WORD}}  {said}"
        )


def numbers(text: str) -> frozenset[int]:
    """``1,8,33-37`` as numbers of faults.

    Raises:
        ValueError: it is no such list.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(?:FT)?(\d+)(?:-(?:FT)?(\d+))?", part.strip())
        if match is None:
            raise ValueError(f"{part!r} is no number of a fault")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= faults_page.COUNT:
            raise ValueError(f"{part.strip()}: faults are FT1 to FT{faults_page.COUNT}")
        found |= set(range(first, last + 1))
    return frozenset(found)


def judged(
    fault: Fault, cases: Iterable[ET.Element], figures: Sequence[str], seconds: float, status: int = 0
) -> Outcome:
    """The outcome of a fault whose tests are these of a JUnit report, from a run that ended with ``status``.

    A test that was skipped says nothing; all of the fault's tests have to have run and none may have failed.
    """
    results = list(cases)
    failed = any(case.find(kind) is not None for case in results for kind in _BAD)
    ran = {case.get("name", "").partition("[")[0] for case in results if case.find("skipped") is None}
    if failed or not (results or status == _NOTHING_CHOSEN):
        word = MISSED
    else:
        word = KEPT if ran >= {name for _, name in fault.tests} else PART if ran else SKIPPED
    return Outcome(fault=fault, word=word, seconds=seconds, figures=tuple(dict.fromkeys(figures)))


def run(fault: Fault, *, long: bool, full: bool, show: bool) -> Outcome:
    """Make a fault happen."""
    if not fault.tests:
        return Outcome(fault=fault, word=UNSHOWN)
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        report, figures = Path(place) / "report.xml", Path(place) / "figures"
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        command += ["-m", "long or not long" if long else "not long"]
        command += ["--timeout=36000" if full else "--timeout=3600"] if long else []
        command += [f"{file}::{name}" for file, name in fault.tests]
        environment = {**os.environ, "FAULT_FIGURES": str(figures), **({"FAULT_DURATIONS": "full"} if full else {})}
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, errors="replace"
        )
        seconds = time.monotonic() - began
        cases = list(ET.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314 (our own)
        said = [json.loads(line) for line in figures.read_text().splitlines()] if figures.exists() else []
    outcome = judged(
        fault,
        cases,
        [each["figure"] for each in said if each["row"] == f"FT{fault.number}"],
        seconds,
        done.returncode,
    )
    if show or outcome.word == MISSED:
        print(done.stdout[-6000:], done.stderr[-2000:], sep="\n", file=sys.stderr, flush=True)  # noqa: T201 (why)
    return outcome


def written(outcomes: Iterable[Outcome]) -> Mapping[int, list[str]]:
    """What docs/faults.md is told: the figures of those faults that were kept."""
    found: dict[int, list[str]] = defaultdict(list)
    for each in outcomes:
        if each.word == KEPT:
            found[each.fault.number].extend(each.figures)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 where a fault was missed."""
    top = argparse.ArgumentParser(prog="e2e.faults", description=__doc__)
    top.add_argument("rows", nargs="?", type=numbers, default=f"1-{faults_page.COUNT}", help="such as 1,8,33-37")
    top.add_argument("--long", action="store_true", help="also the long counts and durations")
    top.add_argument("--full", action="store_true", help="durations of the list, not a twentieth; with --long")
    top.add_argument("--write", action="store_true", help="put the figures into docs/faults.md")
    top.add_argument("--show", action="store_true", help="also show what tests say that pass")
    asked = top.parse_args(arguments)
    outcomes = []
    for fault in faults_page.read(faults_page.PAGE.read_text()):
        if fault.number in asked.rows:
            outcomes.append(run(fault, long=asked.long or asked.full, full=asked.full, show=asked.show))
            print(outcomes[-1], flush=True)  # noqa: T201 (the table is this program's answer)
    words = [each.word for each in outcomes]
    counts = ", ".join(f"{words.count(word)} {word}" for word in (KEPT, PART, MISSED, SKIPPED, UNSHOWN))
    print(counts)  # noqa: T201 (the end of the table)
    if asked.write:
        page = faults_page.PAGE.read_text()
        faults_page.PAGE.write_text(faults_page.rewritten(page, written(outcomes)))
    return 1 if MISSED in words else 0


if __name__ == "__main__":
    sys.exit(main())
