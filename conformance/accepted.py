"""The table of differences that we choose, and of cases that cannot be fed: accepted.toml, each with its reason.

A row of ``accepted`` has ``group``, ``case``, ``where`` and ``field``: regular expressions that match the whole text.
``where`` and ``case`` may be left out; ``wanted`` and ``given`` (of the JSON texts) make a row narrower. A row of
``left_out`` has ``group`` and ``case``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from conformance.difference import Difference

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Cases that are not run, and why they cannot be."""

    group: re.Pattern[str]
    case: re.Pattern[str]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Both lists, in the order of the file."""

    rows: tuple[Row, ...] = ()
    left_out: tuple[Absent, ...] = ()

    def runs(self, group: str, case: str) -> bool:
        """Whether a case can be fed."""
        return not any(each.group.fullmatch(group) and each.case.fullmatch(case) for each in self.left_out)


def read(text: str) -> Table:
    """A table.

    Raises:
        TableError: it is no TOML, or a row lacks what it needs, has more, or has a pattern that is none.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"accepted.toml: {error}") from error
    return Table(
        rows=tuple(map(_row, found.get("accepted", ()))),
        left_out=tuple(map(_absent, found.get("left_out", ()))),
    )


def _row(raw: Mapping[str, str]) -> Row:
    patterns = _patterns("a row of accepted", raw, ("group", "field"), ("case", "where", "wanted", "given"))
    return Row(**patterns, reason=raw["reason"])


def _absent(raw: Mapping[str, str]) -> Absent:
    return Absent(**_patterns("a row of left_out", raw, ("group", "case")), reason=raw["reason"])


def _patterns(
    kind: str, raw: Mapping[str, str], needed: Iterable[str], possible: Iterable[str] = ()
) -> dict[str, re.Pattern[str]]:
    where = f"accepted.toml, {kind} {dict(raw)}:"
    if missing := {*needed, "reason"} - raw.keys():
        raise TableError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown := raw.keys() - {*needed, *possible, "reason"}:
        raise TableError(f"{where} has {', '.join(sorted(unknown))}")
    try:
        return {name: re.compile(text, re.DOTALL) for name, text in raw.items() if name != "reason"}
    except re.error as error:
        raise TableError(f"{where} {error}") from error


@cache
def table() -> Table:
    """The project's own table."""
    return read(resources.files("conformance").joinpath("accepted.toml").read_text())
