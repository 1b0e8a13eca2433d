"""Every parser of outside input against inputs near good ones: an answer or a refusal of its own, in bounded time.

Here a few of each, the same in every run; ``make fuzz`` looks for more, guided by coverage (CONTRIBUTING.md).
"""

from __future__ import annotations

import os
import pathlib
import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.target import Target, TooSlowError, mutated
from tests.fuzz.targets import TARGETS

DEAR = {
    "mesh",
    "folder",
    "mesh-config",
    "pages",
    "analyze",
    "config-dump",
    "kube-inject",
    "log-line",
    "diff",
    "test-files",
    "trial",
}
"""Targets that take more than 10 ms of CPU for an input."""
EVERY = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
ROOT = pathlib.Path(__file__).parents[2]


@EVERY
def test_nothing_but_an_answer_or_a_refusal(target: Target) -> None:
    @settings(
        max_examples=2 if target.name in DEAR else 12,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32).map(lambda seed: mutated(target.seeds, random.Random(seed))))
    def judged(raw: bytes) -> None:
        target.judge(raw)

    judged()


@EVERY
def test_what_it_once_failed_at_is_mended(target: Target) -> None:
    for case in target.cases():
        target.judge(case.read_bytes())


def test_a_parser_that_raises_or_takes_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.target.LONGEST", 0.05)

    def slow(_: bytes) -> None:
        sum(range(20_000_000))

    broken = Target(name="broken", call=lambda raw: raw.decode(), seeds=(b"",))
    with pytest.raises(UnicodeDecodeError):
        broken.judge(b"\xff")
    assert broken.judge(b"a")
    with pytest.raises(TooSlowError):
        Target(name="slow", call=slow).judge(b"")


@pytest.mark.long
def test_coverage_guided_fuzzing_finds_nothing() -> None:
    """FUZZ_SECONDS for each target, 20 by default; what is found is in build/fuzz."""
    seconds = os.environ.get("FUZZ_SECONDS", "20")
    done = subprocess.run([sys.executable, "-m", "tools.fuzz", seconds], cwd=ROOT, check=False, timeout=3_500)
    assert done.returncode == 0
