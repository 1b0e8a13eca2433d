"""What an event costs in delay, on a machine that others use too: seconds with one against those without, of one run.

A p99 means little there by itself. But whatever else goes on does not know when the events are, so that it makes
seconds of both sorts slow alike; what it may do by chance is seen by calling other seconds those of the events.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BEFORE, AFTER = 0.1, 0.9
"""The second of an event: it is noticed a moment after it began."""
FEWEST = 20
"""Requests that a second needs to have a p99 worth the name."""
DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds: the median p99 of seconds with an event and of those without, and what chance makes of no cost."""

    beside: float
    without: float
    chance: float
    """Of a hundred drawn sets of seconds, five and no more differ by more than this."""
    seconds: tuple[int, int]

    @property
    def most(self) -> float:
        """By how much an event raises the p99 as far as was seen."""
        return self.beside - self.without

    def __str__(self) -> str:
        with_, others = self.seconds
        return (
            f"p99 of a second {self.beside:.1f} ms in {with_} with one, {self.without:.1f} ms in {others} without "
            f"({self.most:+.1f}; chance alone makes up to {self.chance:.1f})"
        )


def p99(times: Iterable[float]) -> float:
    """Of at least one."""
    found = sorted(times)
    return found[int(len(found) * 0.99)]


def cost(took: Sequence[tuple[float, float]], events: Sequence[float], seed: int = 34) -> Cost:
    """Of requests, as (when sent, seconds until the answer), and the times of events, by the same clock.

    Raises:
        ValueError: there are no seconds with an event, or none without.
    """
    grid = sorted({round(each - BEFORE, 3) for each in events})
    beside = [found for start in grid if (found := _window(took, start, start + BEFORE + AFTER))]
    first, last = min(at for at, _ in took), max(at for at, _ in took)
    quiet = (first + n for n in range(int(last - first)))
    free = (start for start in quiet if not any(start - AFTER < each < start + 1 + BEFORE for each in events))
    without = [found for start in free if (found := _window(took, start, start + 1))]
    if not beside or not without:
        raise ValueError(f"{len(beside)} seconds with an event, {len(without)} without")
    chosen, both = random.Random(seed), beside + without
    drawn = sorted(_difference(chosen.sample(both, len(both)), len(beside)) for _ in range(DRAWS))
    return Cost(
        beside=statistics.median(beside),
        without=statistics.median(without),
        chance=drawn[DRAWS * 95 // 100],
        seconds=(len(beside), len(without)),
    )


def _difference(each: Sequence[float], first: int) -> float:
    return statistics.median(each[:first]) - statistics.median(each[first:])


def _window(took: Sequence[tuple[float, float]], start: float, end: float) -> float | None:
    """The p99 in milliseconds of what was sent in this time; None of too few."""
    found = [seconds * 1e3 for at, seconds in took if start <= at < end]
    return p99(found) if len(found) >= FEWEST else None
