"""The folder of cases, and the tools beside it that judge traffic: imported at run time, never copied."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

_DEFAULT = Path(__file__).parents[2] / "shared" / "conformance"


def root() -> Path:
    """The folder of cases: variable CONFORMANCE (relative to the repository), else ../shared/conformance."""
    said = os.environ.get("CONFORMANCE")
    return Path(__file__).parents[1] / said if said else _DEFAULT


def tool(name: str) -> Any:
    """A module of the ``tools`` folder beside the cases, such as ``xdssim.compare``.

    Raises:
        ImportError: it is not there.
    """
    folder = str((root().parent / "tools").resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)
