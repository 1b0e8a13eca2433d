"""How the guilty ones are found among thousands, and what a client costs that refuses everything (fault FT17)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest

from istiod.ads import search
from istiod.ads.send import Send
from istiod.config.resource import Resource
from tests.ads import made, model
from tests.ads.client import OTHER, Client

HOUR = 3_600.0


def resources(count: int, bad: Iterable[int] = (), revision: str = "1") -> list[Resource]:
    guilty = set(bad)
    return [model.make(OTHER, f"n{i:05}", model.BAD if i in guilty else revision) for i in range(count)]


class Refusing:
    """A client, what it got, and what it refused; it takes nothing of a response for which ``refuses``."""

    def __init__(self, client: Client, refuses: Callable[[Send], bool]) -> None:
        self.client = client
        self.refuses = refuses
        self.got: list[Send] = []
        self.refusals = 0

    def answer(self, sends: list[Send]) -> None:
        """Until nothing comes any more at this moment."""
        while sends:
            send = sends.pop(0)
            self.got.append(send)
            refused = self.refuses(send)
            self.refusals += refused
            sends += self.client.ack(send, error="no" if refused else None)

    def wait(self, seconds: float) -> None:
        """Be asked whenever the session wishes."""
        client, end = self.client, self.client.now + seconds
        while (wake := client.session.wake) is not None and wake <= end:
            self.answer(client.plan(max(0.0, wake - client.now)))
        client.now = end


def connected(before: list[Resource], refuses: Callable[[Send], bool], *, delta: bool = True) -> Refusing:
    client = Client(*before, delta=delta)
    found = Refusing(client, refuses)
    found.answer(client.ask(OTHER))
    return found


def some_bad(send: Send) -> bool:
    return any(map(model.bad, send.resources))


def blamed(client: Client) -> list[str]:
    return sorted(client.session._stream.subscriptions[OTHER].refused)


@pytest.mark.parametrize("guilty", [0, 1_234, 3_999])
def test_a_single_guilty_one_among_thousands_is_found_at_once(guilty: int) -> None:
    found = connected([], some_bad)
    found.answer(found.client.set(*resources(4_000, [guilty])))
    assert found.client.session.wake is None
    assert blamed(found.client) == [f"n{guilty:05}"]
    assert found.refusals <= 1 + math.ceil(math.log2(4_000))
    assert len(found.client.session._stream.subscriptions[OTHER].overlay) == 1, "it has all others"


def test_so_are_sixteen_that_are_spread_over_them() -> None:
    found = connected([], some_bad)
    found.answer(found.client.set(*resources(2_048, range(64, 2_048, 128))))
    assert found.client.session.wake is None
    assert len(blamed(found.client)) == 16
    assert len(found.client.session._stream.subscriptions[OTHER].overlay) == 16


def test_what_is_good_does_not_wait_until_all_that_is_bad_is_found() -> None:
    found = connected([], some_bad)
    found.answer(found.client.set(*resources(1_024, range(100))))
    good = {name for send in found.got if not some_bad(send) for name in made.named(send.resources)}
    assert len(good) > 800, "though there are more bad ones together than are looked for without a pause"
    found.wait(10 * HOUR)
    assert len(blamed(found.client)) == 100
    assert len(found.client.session._stream.subscriptions[OTHER].overlay) == 100


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
def test_who_refuses_everything_gets_little_more_than_one_part_a_minute(*, delta: bool) -> None:
    found = connected([], lambda send: bool(send.resources), delta=delta)
    found.answer(found.client.set(*resources(200)))
    assert len(found.got) <= search.FREE + 2
    assert found.client.session.wake is not None
    found.wait(HOUR)
    assert search.FREE + 55 <= len(found.got) <= search.FREE + 70
    found.wait(10 * HOUR)
    assert len(blamed(found.client)) == 200, "the search has an end"
    assert found.client.session.wake is None


def test_who_refuses_one_part_after_the_other_is_known_as_such_until_it_takes_one() -> None:
    refusing = True
    found = connected([], lambda send: refusing and bool(send.resources))
    found.answer(found.client.set(*resources(2)))
    assert not found.client.session.refuses, "few refusals are an honest client's"
    found.answer(found.client.set(*resources(1_000)))
    assert found.client.session.refuses
    refusing = False
    found.wait(search.LONGEST_PAUSE)
    assert not found.client.session.refuses


def test_what_changes_during_a_pause_is_sent_at_once_and_a_part_that_is_taken_ends_the_pauses() -> None:
    refusing = True
    found = connected([], lambda send: refusing and bool(send.resources))
    found.answer(found.client.set(*resources(1_000)))
    refusing = False
    mended = [*resources(999), model.make(OTHER, "n00999", "mended"), model.make(OTHER, "new", "1")]
    before = len(found.got)
    found.answer(found.client.set(*mended))
    assert [made.named(send.resources) for send in found.got[before:]] == [["n00999", "new"]]
    assert found.client.session.wake is not None
    found.wait(search.LONGEST_PAUSE)
    assert found.client.session.wake is None
    assert found.client.session.caught_up
