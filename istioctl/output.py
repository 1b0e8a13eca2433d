"""How answers are printed: tables for people, JSON and YAML for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import yaml
from rich.cells import cell_len

FORMATS: Final = ("short", "json", "yaml")
_BOLD, _DIM, _RED, _GREEN, _YELLOW = 1, 2, 31, 32, 33
"""Parameters of the control sequence SGR (ECMA-48)."""
_STYLES: Final = {
    "SYNCED": _GREEN,
    "HEALTHY": _GREEN,
    "ACTIVE": _GREEN,
    "STALE": _RED,
    "UNHEALTHY": _RED,
    "FAILED": _RED,
    "ERROR": _RED,
    "NOT SENT": _YELLOW,
    "IGNORED": _DIM,
    "✔": _GREEN,
    "✘": _RED,
}

Row = Sequence[str]


def table(header: Row, rows: Sequence[Row], padding: int = 5, *, colour: bool = False) -> str:
    """Columns as istioctl sets them: each as wide as its widest cell and ``padding`` blanks, never cut or wrapped.

    What would steer a terminal is left out of the cells.
    """
    lines = [[_printable(cell) for cell in row] for row in (header, *rows)]
    *widths, _ = [max(map(cell_len, column)) + padding for column in zip(*lines, strict=True)]
    written = []
    for number, line in enumerate(lines):
        cells = [cell + " " * (width - cell_len(cell)) for cell, width in zip(line, (*widths, 0), strict=True)]
        if colour:
            styles = [_STYLES.get(cell) if number else _BOLD for cell in line]
            cells = [
                f"\x1b[{style}m{cell}\x1b[0m" if style else cell for cell, style in zip(cells, styles, strict=True)
            ]
        written.append(f"{''.join(cells).rstrip()}\n")
    return "".join(written)


def _printable(cell: str) -> str:
    return cell if cell.isprintable() else "".join(filter(str.isprintable, cell))


def structured(value: Any, form: str) -> str:
    """JSON with an indent of four, or YAML with sorted keys, as istioctl prints them."""
    if form == "yaml":
        return yaml.safe_dump(value, sort_keys=True, default_flow_style=False, allow_unicode=True)
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


def is_terminal() -> bool:
    """Whether a person watches."""
    return sys.stdout.isatty()


def complain(text: str, level: str = "Error") -> None:
    """A line beside the answer, or in its place: the answer itself may be piped into another program."""
    sys.stderr.write(f"{level}: {text}\n")


def say(text: str) -> None:
    """Print an answer, at once: a command that goes on (``dashboard``) may write into a file or a pipe."""
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")
    sys.stdout.flush()
