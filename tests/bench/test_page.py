"""Each page of a mesh of many Services is answered, by the benchmark that says how long it takes with a thousand."""

from __future__ import annotations

import pytest

from bench import page


def test_every_page_of_a_large_mesh_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    page.run(60)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in lines] == list(page.PAGES)
