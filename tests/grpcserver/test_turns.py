"""Whose turn it is, without sockets and clocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from istiod.grpcserver import turns
from istiod.grpcserver.turns import EASE, HURRIED, LONGEST_REST, REST, SLICE, Turns
from tests.waiting import until


class Loop:
    """An event loop whose time passes only where the test lets it; ``order`` is who was read, by round."""

    def __init__(self) -> None:
        self.now = 100.0
        self.soon: deque[tuple[float, Callable[[], None]]] = deque()
        self.hurried = False
        self.delays: list[float] = []
        self.turns = Turns(lambda: self.now, self._later, lambda: self.hurried)
        self.order: list[list[int]] = [[]]

    def _later(self, run: Callable[[], None], delay: float) -> None:
        self.delays.append(delay)
        self.soon.append((self.now + delay, run))

    def arrive(self, who: int, cost: float) -> None:
        """A client is readable; to read it takes so long."""

        def read() -> None:
            self.order[-1].append(who)
            self.now += cost

        began = self.turns.begin()
        if began is None:
            self.turns.wait(read, who)
        else:
            read()
            self.turns.spend(began)

    def go_round(self) -> None:
        self.order.append([])
        for _ in range(len(self.soon)):
            at, run = self.soon.popleft()
            self.now = max(self.now, at)
            run()

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


def test_a_crowd_of_one_address_has_one_turn_where_another_has_its_own() -> None:
    loop = Loop()
    order: list[str] = []
    for who in ["flood"] * 100 + ["one", "another"]:
        loop.turns.wait(lambda name=who: order.append(name), who)
    loop.finish()
    assert order[:6] == ["flood", "one", "another", "flood", "flood", "flood"]
    assert len(order) == 102


def test_while_the_served_wait_for_something_others_have_a_quarter_of_the_time() -> None:
    loop = Loop()
    loop.hurried = True
    for who in range(20):
        loop.arrive(who, HURRIED / 2)
    loop.finish()
    assert [len(one) for one in loop.order[1:]] == [2] * 10
    assert loop.delays[1:] == pytest.approx([REST * HURRIED] * 9)
    loop.delays.clear()
    for who in range(2):
        loop.arrive(who, 1.0)
    loop.finish()
    assert loop.delays[1:] == pytest.approx([LONGEST_REST]), "however long a turn was"
    assert loop.turns.begin(served=True) is not None, "who is served goes before"
    assert loop.turns.begin() is None


def test_a_crowd_rests_as_long_as_it_takes_though_nobody_is_known_to_wait() -> None:
    """What changed elsewhere goes round the loop some times before it is known as a change."""
    loop = Loop()
    for who in range(30):
        loop.arrive(who, SLICE / 4)
    loop.finish()
    assert [who for one in loop.order for who in one] == list(range(30))
    rests = [delay for delay in loop.delays if delay]
    assert rests[:4] == pytest.approx([EASE * SLICE] * 4)
    loop.now += 1.0
    loop.arrive(30, SLICE)
    loop.arrive(31, SLICE)
    loop.delays.clear()
    loop.finish()
    assert not any(loop.delays), "nobody else waits"


def test_who_asks_for_another_turn_in_its_own_takes_no_rest_away() -> None:
    loop = Loop()
    loop.hurried = True

    def again() -> None:
        loop.now += HURRIED
        loop.order[-1].append(0)
        if len(loop.delays) < 5:
            loop.turns.wait(again, 0)

    loop.turns.wait(again, 0)
    loop.finish()
    assert loop.delays == pytest.approx([0.0, *[REST * HURRIED] * 4])


def test_the_served_who_wait_go_first_and_rest_for_nobody() -> None:
    loop = Loop()
    loop.hurried = True
    order: list[str] = []

    def turn(who: str) -> Callable[[], None]:
        def read() -> None:
            loop.now += HURRIED
            order.append(who)

        return read

    for _ in range(3):
        loop.turns.wait(turn("flood"), "flood")
    loop.go_round()
    assert order == ["flood"], "the others rest now"
    for number in range(6):
        loop.turns.wait(turn("served"), number, served=True)
    assert loop.delays[-1] == 0.0, "who is served does not wait for that"
    loop.finish()
    assert order == ["flood", *["served"] * 4, "flood", *["served"] * 2, "flood"]


def test_the_served_have_no_more_than_their_time() -> None:
    loop = Loop()
    began = loop.turns.begin(served=True)
    assert began is not None
    loop.now += SLICE
    loop.turns.spend(began)
    assert loop.turns.begin(served=True) is None
    loop.now += 2 * SLICE
    assert loop.turns.begin(served=True) is not None


async def test_the_loop_calls_at_once_or_later() -> None:
    called: list[str] = []
    turns.of_loop(lambda: called.append("later"), 0.001)
    turns.of_loop(lambda: called.append("soon"), 0.0)
    await until(lambda: len(called) == 2, "both are called")
    assert called == ["soon", "later"]


def test_clients_that_are_few_never_wait() -> None:
    loop = Loop()
    for who in range(1_000):
        loop.arrive(who, SLICE / 4)
        loop.now += SLICE
    assert not loop.soon


def test_a_turn_that_fails_holds_nobody_up() -> None:
    loop = Loop()
    loop.arrive(1, SLICE)
    loop.turns.wait(lambda: {}["bug"], 99)
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
