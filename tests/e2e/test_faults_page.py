"""docs/faults.md has every fault once, with tests that exist, or the reason why there is none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from e2e import faults_page

ROOT = Path(__file__).parents[2]
TEXT = faults_page.PAGE.read_text()
FAULTS = faults_page.read(TEXT)


def test_every_fault_is_there_once_and_in_order() -> None:
    assert [fault.number for fault in FAULTS] == list(range(1, faults_page.COUNT + 1))


def test_every_row_that_the_page_has_was_read() -> None:
    assert "".join(f"{fault}\n" for fault in FAULTS) in TEXT


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"FT{fault.number}")
def test_a_row_has_tests_that_exist_or_says_why_it_has_none(fault: faults_page.Fault) -> None:
    assert bool(fault.tests) != fault.figure.startswith(faults_page.NOT_SHOWN)
    for file, name in fault.tests:
        functions = (
            each
            for each in ast.parse((ROOT / file).read_text()).body
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        assert name in {each.name for each in functions}


def test_new_figures_take_the_place_of_old_ones() -> None:
    found = faults_page.read(faults_page.rewritten(TEXT, {1: ["a|b", "c", "c"]}))
    assert found[0].figure == "a/b; c"
    assert found[1:] == FAULTS[1:]


def test_new_figures_leave_what_a_row_says_is_left() -> None:
    row = "| FT1 | a fault | `tests/a.py::test_a` | nothing lost | 3 lost<br>left: an hour is not shown |"
    assert faults_page.rewritten(row, {1: ["0 lost"]}) == row.replace("3 lost", "0 lost") + "\n"
