"""Values of documents that nobody has checked: each reader gives its type, or an empty value of it, and never raises.

Analysis looks at objects that no API server would admit, too; their models (crds) would not read those at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Record = Mapping[str, Any]
NOTHING: Final[Record] = {}


def dig(value: Any, *steps: str | int) -> Any:
    """What stands behind the steps (fields by name, items by number); None where a step leads nowhere."""
    for step in steps:
        if isinstance(step, int):
            if not isinstance(value, Sequence) or isinstance(value, str) or step >= len(value):
                return None
            value = value[step]
        elif isinstance(value, Mapping):
            value = value.get(step)
        else:
            return None
    return value


def record(value: Any, *steps: str | int) -> Record:
    """An object; an empty one where there is none."""
    found = dig(value, *steps)
    return found if isinstance(found, Mapping) else NOTHING


def records(value: Any, *steps: str | int) -> list[Record]:
    """A list of objects. What is no object counts as an empty one, so that numbers of items stay right."""
    found = dig(value, *steps)
    return [each if isinstance(each, Mapping) else NOTHING for each in found] if isinstance(found, list) else []


def text(value: Any, *steps: str | int) -> str:
    """A string; "" where there is none."""
    found = dig(value, *steps)
    return found if isinstance(found, str) else ""


def texts(value: Any, *steps: str | int) -> list[str]:
    """The strings of a list."""
    found = dig(value, *steps)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def number(value: Any, *steps: str | int) -> int:
    """A whole number, also where it is written as text; 0 where there is none."""
    found = dig(value, *steps)
    if isinstance(found, bool):
        return 0
    if isinstance(found, str):
        return int(found) if found.isascii() and found.isdigit() and len(found) < 10 else 0  # noqa: PLR2004 (no port or UID is longer)
    return found if isinstance(found, int) else 0


def labels(value: Any, *steps: str | int) -> dict[str, str]:
    """A map of text to text; entries of other types are left out."""
    return {key: each for key, each in record(value, *steps).items() if isinstance(each, str)}
