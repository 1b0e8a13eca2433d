"""No parser of outside input is missing from the list of fuzz targets."""

from __future__ import annotations

import functools
import sys

import pytest

from tests.fuzz import decoders, target
from tests.fuzz.decoders import Place
from tests.fuzz.entered import entered
from tests.fuzz.target import CASES
from tests.fuzz.targets import TARGETS


@pytest.fixture(scope="module")
def reached() -> set[Place]:
    """Functions that the seeds of all targets enter, those too that another test of this process had answer before."""
    for module in [each for name, each in sys.modules.items() if name.partition(".")[0] in {"istiod", "crds", "wire"}]:
        for each in vars(module).values():
            if isinstance(each, functools._lru_cache_wrapper):
                each.cache_clear()
    with entered() as places:
        for target_ in TARGETS.values():
            for raw in target_.seeds:
                target_.judge(raw)
    return places


def test_every_function_that_decodes_something_is_fuzzed_or_has_a_reason(reached: set[Place]) -> None:
    """Whoever adds one gives a target a seed that reaches it, or says in decoders.REASONS why it needs none."""
    missing = (decoders.found() | decoders.BY_HAND) - reached
    assert not {place for place in missing if not decoders.reason(place)}


def test_no_reason_is_left_over(reached: set[Place]) -> None:
    used = {decoders.reason(place) for place in decoders.found() - reached}
    assert decoders.REASONS.keys() <= used


def test_a_decoder_is_found_wherever_it_stands() -> None:
    found = decoders.found()
    assert ("istiod/ads/request.py", "_parse") in found  # a method of a message
    assert ("istiod/ca/authority.py", "_proven_key") in found  # a function of a library
    assert ("wire/decimal.py", "number") not in found


def test_every_target_takes_some_seed_and_knows_its_cases() -> None:
    for each in TARGETS.values():
        assert any(each.judge(raw) for raw in each.seeds) or each.name == "ca-answer", each.name  # its key is new
    assert {each.name for each in CASES.iterdir()} <= TARGETS.keys()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    target.quiet()
