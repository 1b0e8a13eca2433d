"""How answers are printed: tables for people, JSON and YAML for programs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

FORMATS: Final = ("short", "json", "yaml")
_STYLES: Final = {
    "SYNCED": "green",
    "HEALTHY": "green",
    "ACTIVE": "green",
    "STALE": "red",
    "UNHEALTHY": "red",
    "FAILED": "red",
    "ERROR": "red",
    "NOT SENT": "yellow",
    "IGNORED": "dim",
}

Row = Sequence[str]


def table(header: Row, rows: Sequence[Row], padding: int = 5, *, colour: bool = False) -> str:
    """Columns as istioctl sets them: each as wide as its widest cell and ``padding`` blanks, never cut or wrapped."""
    made = Table(box=None, pad_edge=False, padding=(0, padding, 0, 0), header_style="bold", show_edge=False)
    for title in header:
        made.add_column(Text(title), no_wrap=True, overflow="ignore")
    for row in rows:
        made.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    width = sum(max(len(cell) for cell in column) + padding for column in zip(header, *rows, strict=True))
    written = io.StringIO()
    console = Console(file=written, width=width + 1, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(made, crop=False)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


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
    """Print an answer."""
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")
