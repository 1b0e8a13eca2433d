"""Figures that a test measured, said where `pytest -s` shows them: the long forms run so (make test-long)."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(f"{text}\n")
