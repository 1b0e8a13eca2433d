"""Istio's own samples: all are read and analysed, and nothing of the schema is wrong with any."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import instruments
from istiod.analysis import analyzers, documents
from istiod.analysis.resources import Collection

FOLDER = instruments.root() / "samples" / "files"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no samples at {FOLDER}")


def texts() -> list[tuple[str, str]]:
    found: list[Path] = sorted(each for each in FOLDER.rglob("*.y*ml") if each.is_file())
    return [(each.name, each.read_text()) for each in found]


def test_samples_are_analysed_without_an_error_of_ours() -> None:
    for file in texts():
        read = documents.read([file], "default")
        wrong = [
            str(each) for each in analyzers.run(analyzers.ALL, Collection(read.resources)) if "IST0106" in str(each)
        ]
        assert wrong == []


def test_all_samples_together_are_analysed() -> None:
    read = documents.read(texts(), "default")
    assert len(read.resources) > 100
    assert analyzers.run(analyzers.ALL, Collection(read.resources))
