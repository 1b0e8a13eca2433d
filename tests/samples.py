"""Istio's own sample YAML, where the folder with the conformance material exists; its tests are skipped elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = _REPOSITORY / os.environ.get("CONFORMANCE", "../shared/conformance") / "samples" / "files"


def path(name: str) -> Path:
    """A file of the samples; skips the test where there is none."""
    found = FOLDER / name
    if not found.exists():
        pytest.skip(f"no {name} below CONFORMANCE")
    return found
