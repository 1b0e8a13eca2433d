"""Which objects are so large that reading them would keep everybody else waiting (fault FT21). Pure."""

from __future__ import annotations

from typing import Any, Final

from istiod.config.kubernetes import Raw

MOST: Final = 2_000
"""So many values are read in about 10 ms."""


def heavy(raw: Raw) -> bool:
    """Whether an object has more than MOST values, at any depth. Long texts do not count: they are read fast."""
    left = MOST
    rest: list[Any] = [raw]
    while rest:
        part = rest.pop()
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        left -= len(inner)
        if left < 0:
            return True
        rest.extend(inner)
    return False
