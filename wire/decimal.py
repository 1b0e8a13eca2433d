"""Whole numbers in texts of others.

``str.isdigit`` takes digits that ``int`` does not know, and ``int`` raises for more than 4,300 of them.
"""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


def number(text: str) -> int | None:
    """What up to 18 ASCII digits say; None for anything else, a sign included."""
    return int(text) if _NUMBER.fullmatch(text) else None
