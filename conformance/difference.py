"""What a case wanted and what we gave, leaf by leaf, so that an accepted difference can be as narrow as one value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One leaf that is not as the case wants it. ``where`` names the proxy and call, "" where a case has only one.

    ``wanted`` and ``given`` are JSON texts with sorted keys; null is a leaf that is not there.
    """

    where: str
    field: str
    wanted: str
    given: str

    def __str__(self) -> str:
        """For people: short, on one line."""
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.field}: {_short(self.given)} for {_short(self.wanted)}"


def of(where: str, field: str, wanted: Any, given: Any) -> Difference:
    """The difference of two JSON-like values."""
    return Difference(where=where, field=field, wanted=_text(wanted), given=_text(given))


def leaves(where: str, field: str, wanted: Any, given: Any) -> Iterator[Difference]:
    """The leaves in which two JSON-like values differ. Lists of plain values, and of different length, are one leaf."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        for key in sorted(wanted.keys() | given.keys(), key=str):
            yield from leaves(where, f"{field}.{key}", wanted.get(key), given.get(key))
    elif isinstance(wanted, list) and isinstance(given, list) and _alike(wanted, given):
        for index, (one, other) in enumerate(zip(wanted, given, strict=True)):
            yield from leaves(where, f"{field}[{index}]", one, other)
    elif wanted != given:
        yield of(where, field, wanted, given)


def _alike(wanted: list[Any], given: list[Any]) -> bool:
    return len(wanted) == len(given) and any(isinstance(each, dict | list) for each in wanted)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
