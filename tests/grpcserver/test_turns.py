"""Whose turn it is, without sockets and clocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from istiod.grpcserver.turns import SLICE, Turns


class Loop:
    """An event loop whose time passes only where the test lets it; ``order`` is who was read, by round."""

    def __init__(self) -> None:
        self.now = 100.0
        self.soon: deque[Callable[[], None]] = deque()
        self.turns = Turns(lambda: self.now, self.soon.append)
        self.order: list[list[int]] = [[]]

    def arrive(self, who: int, cost: float) -> None:
        """A client is readable; to read it takes so long."""

        def read() -> None:
            self.order[-1].append(who)
            self.now += cost

        began = self.turns.begin()
        if began is None:
            self.turns.wait(read)
        else:
            read()
            self.turns.spend(began)

    def go_round(self) -> None:
        self.order.append([])
        for _ in range(len(self.soon)):
            self.soon.popleft()()

    def finish(self) -> None:
        while self.soon:
            self.go_round()


def test_a_thousand_at_once_are_read_in_order_and_in_slices() -> None:
    loop = Loop()
    for who in range(1_000):
        loop.arrive(who, SLICE / 10)
    loop.finish()
    assert [who for one in loop.order for who in one] == list(range(1_000))
    assert max(map(len, loop.order)) <= 11
    loop.now += 1.0
    loop.arrive(1_000, 0.0)
    assert loop.order[-1] == [*loop.order[-1][:-1], 1_000], "nobody waits: it is read at once"


def test_clients_that_are_few_never_wait() -> None:
    loop = Loop()
    for who in range(1_000):
        loop.arrive(who, SLICE / 4)
        loop.now += SLICE
    assert not loop.soon


def test_a_turn_that_fails_holds_nobody_up() -> None:
    loop = Loop()
    loop.arrive(1, SLICE)
    loop.turns.wait(lambda: {}["bug"])
    loop.arrive(2, SLICE)
    loop.arrive(3, SLICE)
    with pytest.raises(KeyError):
        loop.go_round()
    loop.finish()
    assert [who for one in loop.order for who in one] == [1, 2, 3]


@given(st.lists(st.one_of(st.floats(0.0, 3 * SLICE), st.none()), max_size=60))
def test_everybody_is_read_once_in_order_and_never_much_more_than_a_slice_at_a_time(
    events: list[float | None],
) -> None:
    """A number is a client and what it costs to read, None a round of the loop."""
    loop, costs = Loop(), [event for event in events if event is not None]
    spent = [0.0]
    who = 0
    for event in events:
        before = loop.now
        if event is None:
            loop.go_round()
            spent.append(0.0)
        else:
            loop.arrive(who, event)
            who += 1
        spent[-1] += loop.now - before
    loop.finish()
    assert [each for one in loop.order for each in one] == list(range(len(costs)))
    assert max(spent) <= 2 * SLICE + 2 * max(costs, default=0.0)
