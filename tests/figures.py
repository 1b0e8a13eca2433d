"""Figures that a test measured: said where `pytest -s` shows them, and kept for the table of faults.

`make faults` names a file in FAULT_FIGURES, of which e2e.faults makes the last column of docs/faults.md. Durations of
more than a minute are a twentieth of what the list of faults asks for, unless FAULT_DURATIONS says ``full``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

FIGURES = "FAULT_FIGURES"
DURATIONS = "FAULT_DURATIONS"
SHORT, SCALE = 60.0, 20


def say(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(f"{text}\n")


def fault(row: str, text: str) -> None:
    """What was measured of a fault, such as ``FT8``."""
    say(f"{row}: {text}")
    if path := os.environ.get(FIGURES):
        with Path(path).open("a") as file:
            file.write(json.dumps({"row": row, "figure": text}) + "\n")


def lasting(seconds: float) -> float:
    """How long something goes on that the list of faults wants for so many seconds."""
    return seconds if seconds <= SHORT or os.environ.get(DURATIONS) == "full" else seconds / SCALE
