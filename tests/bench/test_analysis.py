"""What the cost of the analyzers is measured with; it grows as the mesh does: calls are counted, not seconds."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from bench import analysis
from crds.parse import parse

MORE = 2.05
"""Times as many calls for twice as many Services; of what looks at all pairs it would be four."""


def calls(shape: str, count: int) -> int:
    """How many functions of Python's a run calls."""
    made = 0

    def note(_: FrameType, event: str, __: object) -> None:
        nonlocal made
        made += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        analysis.spent(shape, count)
    finally:
        sys.setprofile(before)
    return made


@pytest.mark.parametrize("shape", analysis.SHAPES)
def test_each_mesh_is_one_that_istiod_takes(shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    for document in analysis.documents(shape, 4):
        found = parse(document)
        assert found.object is not None, found.diagnostics
    analysis.run(4, [shape])
    assert capsys.readouterr().out.startswith(shape)


@pytest.mark.parametrize("shape", analysis.SHAPES)
def test_twice_as_many_rules_are_twice_the_work(shape: str) -> None:
    analysis.spent(shape, 80)  # what is made once
    assert calls(shape, 80) / calls(shape, 40) < MORE
