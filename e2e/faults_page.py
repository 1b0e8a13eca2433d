"""docs/faults.md as data: the list of faults, the tests that show each, and what they measured.

The page is the only list there is; who shows a fault edits its row. Running the tests is e2e.faults'.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[1] / "docs/faults.md"
COUNT: Final = 60
"""Rows that the list has."""
NOT_SHOWN: Final = "not shown: "
"""What a row without tests begins its last column with; the reason follows."""
LEFT: Final = "<br>left: "
"""After it a last column says what is not shown, which no run can know: new figures leave it as it is."""
_ROW: Final = re.compile(r"^\| FT(\d+) \| (.+?) \| (.+?) \| (.+?) \| (.+) \|$")
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row. ``tests``: file and function of each. ``figure``: what was measured, and after LEFT what is left."""

    number: int
    name: str
    tests: tuple[tuple[str, str], ...]
    must: str
    figure: str

    def __str__(self) -> str:
        tests = "<br>".join(f"`{file}::{name}`" for file, name in self.tests) or "none"
        return f"| FT{self.number} | {self.name} | {tests} | {self.must} | {self.figure} |"


def read(text: str) -> tuple[Fault, ...]:
    """All rows of a page, in its order."""
    found = (_ROW.match(line) for line in text.splitlines())
    return tuple(
        Fault(number=int(row[1]), name=row[2], tests=tuple(_TEST.findall(row[3])), must=row[4], figure=row[5])
        for row in found
        if row is not None
    )


def rewritten(text: str, figures: Mapping[int, Iterable[str]]) -> str:
    """The page with new figures (by number) in its last column, before what it says is left."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        for fault in read(line):
            if said := "; ".join(dict.fromkeys(figures.get(fault.number, ()))):
                _, mark, left = fault.figure.partition(LEFT)
                lines[at] = str(dataclasses.replace(fault, figure=f"{said.replace('|', '/')}{mark}{left}"))
    return "\n".join(lines) + "\n"
