"""Many host patterns held against many: near to linear, since one object may hold tens of thousands of each.

A pattern is a name, or ``*`` and the end of names. An object comes from whoever may write one, so what it costs to
judge it must not grow with the square of its size (hostile-input SEC33).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
_LONGEST: Final = 255
"""Characters of a pattern that is looked at; a longer one is no domain, and is reported as such."""


def repeated(items: Iterable[T]) -> Iterator[tuple[int, T]]:
    """Each item that stood before, with its index."""
    seen: set[T] = set()
    for index, item in enumerate(items):
        if item in seen:
            yield index, item
        seen.add(item)


class Patterns:
    """The patterns of a list, without regard to case, and the index at which each stands first."""

    def __init__(self, hosts: Sequence[str]) -> None:
        """Sort them by kind."""
        self._hosts = [host.lower() for host in hosts]
        self._names: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        for index, host in enumerate(self._hosts):
            if len(host) <= _LONGEST:
                found, text = (self._ends, host[1:]) if host.startswith("*") else (self._names, host)
                found.setdefault(text, index)
        self._lengths = sorted({len(end) for end in self._ends})

    def covers(self, name: str) -> bool:
        """Whether one of them matches every host that ``name``, itself a pattern, matches."""
        text = name.lower()
        return text in self._names or any(True for _ in self._covering(text.removeprefix("*")))

    def overlaps(self) -> Iterator[tuple[int, int]]:
        """The index of each pattern that shares a host with an earlier one, and that of the first such."""
        under = self._under()
        for index, host in enumerate(self._hosts):
            if len(host) <= _LONGEST:
                text = host.removeprefix("*") if host.startswith("*") else host
                own = under[text] if host.startswith("*") else self._names[text]
                if (first := min((own, *self._covering(text)))) < index:
                    yield index, first

    def _covering(self, text: str) -> Iterator[int]:
        """Indices of the patterns with ``*`` whose end a text has."""
        for length in self._lengths:
            if length > len(text):
                return
            if (found := self._ends.get(text[len(text) - length :])) is not None:
                yield found

    def _under(self) -> dict[str, int]:
        """End of a pattern with ``*`` -> the first index of all patterns that end so."""
        backwards = sorted((text[::-1], index) for held in (self._names, self._ends) for text, index in held.items())
        found = {}
        for end in self._ends:
            start, place = end[::-1], bisect_left(backwards, (end[::-1],))
            found[end] = backwards[place][1]  # its own, or that of a name that equals its end
            while place < len(backwards) and backwards[place][0].startswith(start):
                found[end] = min(found[end], backwards[place][1])
                place += 1
        return found
