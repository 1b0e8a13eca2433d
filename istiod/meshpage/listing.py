"""Long lists in pages: a thousand services have some thousands of rows, and a browser shows fifty at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

SIZE: Final = 50
"""Rows of one page."""
MOST_QUERY: Final = 256
"""Characters of a search that are looked at."""
_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[_T]):
    """One page of rows. ``total`` counts all that were found; ``page`` counts from 1 and exists even without rows."""

    rows: tuple[_T, ...]
    total: int
    page: int
    pages: int

    def with_rows(self, rows: Sequence[_U]) -> Listing[_U]:
        """The same page with other rows in place of these."""
        return Listing(rows=tuple(rows), total=self.total, page=self.page, pages=self.pages)


def paged(found: Sequence[_T], page: int) -> Listing[_T]:
    """A page of what was found; the last where there are fewer."""
    pages = max(1, -(-len(found) // SIZE))
    shown = min(max(page, 1), pages)
    return Listing(rows=tuple(found[(shown - 1) * SIZE : shown * SIZE]), total=len(found), page=shown, pages=pages)


def fits(query: str, *texts: str) -> bool:
    """Whether every word of a search stands in one of the texts, in any case."""
    every = "\n".join(texts).lower()
    return all(word in every for word in query[:MOST_QUERY].lower().split())
