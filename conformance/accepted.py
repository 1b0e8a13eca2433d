"""The table of differences that we choose: accepted.toml, rows of patterns with the reason of each.

A row has ``group``, ``case``, ``where`` and ``field`` (regular expressions that match the whole text; ``where`` and
``case`` may be left out), and for narrower rows ``wanted`` and ``given`` (of the JSON texts).
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from conformance.difference import Difference

_PATTERNS = ("group", "case", "where", "field", "wanted", "given")
_ANYTHING = re.compile(".*", re.DOTALL)


class TableError(Exception):
    """The table is not as it should be; the message says which row and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of difference, and why it stays."""

    group: re.Pattern[str]
    case: re.Pattern[str] = _ANYTHING
    where: re.Pattern[str] = _ANYTHING
    field: re.Pattern[str]
    wanted: re.Pattern[str] = _ANYTHING
    given: re.Pattern[str] = _ANYTHING
    reason: str

    def covers(self, group: str, case: str, found: Difference) -> bool:
        """Whether a difference is one of this row's."""
        texts = {
            "group": group,
            "case": case,
            "where": found.where,
            "field": found.field,
            "wanted": found.wanted,
            "given": found.given,
        }
        return all(getattr(self, name).fullmatch(text) for name, text in texts.items())


def read(text: str) -> tuple[Row, ...]:
    """The rows of a table.

    Raises:
        TableError: it is no TOML, or a row lacks group, field or reason, or has a pattern that is none.
    """
    try:
        rows = tomllib.loads(text).get("accepted", [])
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"accepted.toml: {error}") from error
    return tuple(_row(index, raw) for index, raw in enumerate(rows, 1))


def _row(index: int, raw: dict[str, str]) -> Row:
    unknown = raw.keys() - {*_PATTERNS, "reason"}
    if missing := {"group", "field", "reason"} - raw.keys():
        raise TableError(f"row {index} of accepted.toml lacks {', '.join(sorted(missing))}")
    if unknown:
        raise TableError(f"row {index} of accepted.toml has {', '.join(sorted(unknown))}")
    try:
        patterns = {name: re.compile(raw[name], re.DOTALL) for name in _PATTERNS if name in raw}
    except re.error as error:
        raise TableError(f"row {index} of accepted.toml: {error}") from error
    return Row(**patterns, reason=raw["reason"])


@cache
def table() -> tuple[Row, ...]:
    """The project's own table."""
    return read(resources.files("conformance").joinpath("accepted.toml").read_text())
