"""The measure of what an event costs finds a cost that is there, in noise, and none that is not."""

from __future__ import annotations

import random

import pytest

from tests.story import windows

RATE, SECONDS = 100, 120
EVENTS = [3.3 + 7 * n for n in range(16)]


def requests(chosen: random.Random, added: float) -> list[tuple[float, float]]:
    """Delays of some 20 ms, stretches of time that are slow for all, and more for a moment after events."""
    slow = [(begin, begin + chosen.uniform(1, 3)) for begin in (chosen.uniform(0, SECONDS) for _ in range(8))]
    found = []
    for number in range(RATE * SECONDS):
        at = number / RATE
        took = chosen.gammavariate(4, 0.005) + (0.2 if any(begin <= at < end for begin, end in slow) else 0.0)
        found.append((at, took + (added if any(0 <= at - each < 0.3 for each in EVENTS) else 0.0)))
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_an_event_costs_is_found_and_nothing_else(seed: int) -> None:
    dear = windows.cost(requests(random.Random(seed), 0.08), EVENTS)
    assert dear.most > 40
    assert dear.most > 10 + dear.chance
    free = windows.cost(requests(random.Random(seed), 0.0), EVENTS)
    assert abs(free.most) < 10
    assert free.seconds == (len(EVENTS), SECONDS - 1 - 2 * len(EVENTS))


def test_without_events_there_is_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="0 seconds with an event"):
        windows.cost(requests(random.Random(1), 0.0), [])
