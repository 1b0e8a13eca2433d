"""The table of faults: what a run comes to, and what of it is written into the page."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from e2e import faults, faults_page
from tests import figures

FAULT = faults_page.Fault(number=8, name="a fault", tests=(("tests/x.py", "test_x"),), must="0", figure="old")
PASSED, FAILED, BROKEN, SKIPPED = (
    ET.fromstring(f'<testcase name="test_x[1]">{inner}</testcase>')  # noqa: S314 (text of ours)
    for inner in ("", "<failure/>", "<error/>", "<skipped/>")
)


@pytest.mark.parametrize(
    ("cases", "word"),
    [
        ([PASSED], faults.KEPT),
        ([PASSED, SKIPPED], faults.KEPT),
        ([PASSED, FAILED], faults.MISSED),
        ([PASSED, BROKEN], faults.MISSED),
        ([SKIPPED], faults.SKIPPED),
        ([], faults.MISSED),
    ],
)
def test_a_fault_is_kept_where_something_ran_and_nothing_failed(cases: list[ET.Element], word: str) -> None:
    assert faults.judged(FAULT, cases, [], 1.0).word == word


def test_a_fault_of_which_no_test_has_a_short_form_is_skipped_and_of_which_one_has_none_kept_in_part() -> None:
    assert faults.judged(FAULT, [], [], 1.0, status=5).word == faults.SKIPPED
    two = faults_page.Fault(
        number=8, name="a fault", tests=(*FAULT.tests, ("tests/x.py", "test_y")), must="0", figure=""
    )
    found = faults.judged(two, [PASSED], ["3 s"], 1.0)
    assert found.word == faults.PART
    assert faults.written([found]) == {}


def test_a_fault_without_tests_is_not_shown_and_nothing_runs() -> None:
    bare = faults_page.Fault(number=7, name="a fault", tests=(), must="0", figure="not shown: why")
    assert faults.run(bare, long=False, full=False, show=False) == faults.Outcome(fault=bare, word=faults.UNSHOWN)


def test_only_figures_of_faults_that_were_kept_are_written() -> None:
    kept = faults.judged(FAULT, [PASSED], ["3 s", "3 s", "0 lost"], 1.0)
    missed = faults.judged(FAULT, [FAILED], ["9 s"], 1.0)
    assert faults.written([kept, missed]) == {8: ["3 s", "0 lost"]}
    assert "3 s; 0 lost" in str(kept)


def test_faults_are_named_by_number() -> None:
    assert faults.numbers("1, FT8,33-35") == {1, 8, 33, 34, 35}


@pytest.mark.parametrize("text", ["", "0", "61", "8-7", "x", "1;2"])
def test_what_names_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no number|FT1 to"):
        faults.numbers(text)


def test_a_figure_is_kept_where_a_run_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(figures.FIGURES, str(tmp_path / "f"))
    figures.fault("FT8", "0 lost")
    assert json.loads((tmp_path / "f").read_text()) == {"row": "FT8", "figure": "0 lost"}


def test_long_durations_are_a_twentieth_unless_they_are_wanted_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(figures.DURATIONS, raising=False)
    assert (figures.lasting(60), figures.lasting(600)) == (60, 30)
    monkeypatch.setenv(figures.DURATIONS, "full")
    assert figures.lasting(600) == 600
