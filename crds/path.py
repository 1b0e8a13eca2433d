"""Field paths as findings show them: ``spec.http[0].match[1].headers["x-user"].exact``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")

Step = str | int


def child(path: str, step: Step) -> str:
    """The path of a field (a string) or an item (a number) below ``path``."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    if not _PLAIN.match(step):
        return f'{path}["{step}"]'
    return f"{path}.{step}" if path else step


def join(steps: Iterable[Step]) -> str:
    """The path that leads through all ``steps`` from the object's root."""
    path = ""
    for step in steps:
        path = child(path, step)
    return path


def parent(path: str) -> str:
    """The path one step up; "" at the root."""
    if path.endswith('"]'):
        return path[: path.rindex('["')]
    return path[: max(path.rfind("."), path.rfind("["), 0)]
