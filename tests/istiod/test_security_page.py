"""docs/security.md names tests that exist, for every row that it is about."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
ROWS = re.findall(r"^\| (SEC\d+) \|.*\| `(tests/.*\.py)::(\w+)` \|$", PAGE, re.MULTILINE)
ACCESS = {*range(1, 33), *range(48, 59), 69, 70, 71, 75, 76, 77, 79, 80}
PROMISED = {35, 41, 44, 45, 46, 47, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68} | ACCESS


@pytest.mark.parametrize(("row", "file", "name"), ROWS)
def test_the_test_of_a_row_exists_and_says_for_which_row_it_is(row: str, file: str, name: str) -> None:
    text = (ROOT / file).read_text()
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    assert name in {one.name for one in functions}
    numbers = {int(number) for number in re.findall(r"SEC(\d+)", text)}
    for first, last in re.findall(r"SEC(\d+)-SEC(\d+)", text):
        numbers |= set(range(int(first), int(last) + 1))
    assert int(row.removeprefix("SEC")) in numbers


def test_no_row_is_left_out() -> None:
    assert {int(row.removeprefix("SEC")) for row, _, _ in ROWS} == PROMISED
