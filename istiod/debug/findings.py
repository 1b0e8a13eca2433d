"""All findings about the user's configuration, in one place: printed once per change, listed at /debug/diagnosticsz.

Sources find what is wrong in one object, the mesh what is wrong between objects; both replace their own part whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from crds.diagnostic import Diagnostic, Position
from crds.key import ConfigKey

MOST_LINES: Final = 50
"""Lines about one object at a change: a large one may be wrong at thousands of places."""
Locate = Callable[[ConfigKey, str], Position | None]


class Findings:
    """The current findings by part (``source``, ``mesh``, ``proxies``, ...).

    ``locate`` gives the place of an object's field where the source is a file; ``emit`` gets each new finding as a
    line.
    """

    def __init__(self, locate: Locate, emit: Callable[[str], None]) -> None:
        self._locate = locate
        self._emit = emit
        self._parts: dict[str, tuple[Diagnostic, ...]] = {}
        self._given: dict[str, tuple[Diagnostic, ...]] = {}
        self.version = 0
        """Counts changes."""

    def replace(self, part: str, found: tuple[Diagnostic, ...]) -> None:
        """Take all findings of a part as they are now; emits those that were not there before.

        The same tuple again costs nothing: the mesh gives it at each push, and placing a finding reads YAML.
        """
        if found is self._given.get(part):
            return
        self._given[part] = found
        before = set(self._parts.get(part, ()))
        now = tuple(dict.fromkeys(self._placed(diagnostic) for diagnostic in found))
        self.version += now != self._parts.get(part, ())
        self._parts[part] = now
        new = [diagnostic for diagnostic in now if diagnostic not in before]
        many = Counter(diagnostic.key for diagnostic in new)
        told: Counter[ConfigKey | None] = Counter()
        for diagnostic in new:
            told[diagnostic.key] += 1
            if told[diagnostic.key] <= MOST_LINES:
                self._emit(str(diagnostic))
        for key, count in many.items():
            if count > MOST_LINES:
                self._emit(f"{key}: {count - MOST_LINES} more findings, see /debug/diagnosticsz")

    def current(self) -> tuple[Diagnostic, ...]:
        """All findings, by place."""
        found = [diagnostic for part in self._parts.values() for diagnostic in part]
        return tuple(sorted(found, key=str))

    def _placed(self, diagnostic: Diagnostic) -> Diagnostic:
        if diagnostic.position is not None or diagnostic.key is None:
            return diagnostic
        position = self._locate(diagnostic.key, diagnostic.field)
        return diagnostic.at(position) if position else diagnostic
