"""What time does to a connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from istiod.grpcserver.deadlines import NOTHING, Deadlines, Do, Facts, Limits, Verdict
from istiod.grpcserver.status import Code
from istiod.grpcserver.stream import Stream
from tests.grpcserver.wire import Wire

LIMITS = Limits()


@dataclass
class Watched:
    """A connection that is asked for, second by second."""

    made: Deadlines = field(default_factory=lambda: Deadlines(limits=LIMITS, born=0.0, oldest=1_000.0))
    facts: dict[str, Any] = field(
        default_factory=lambda: {"heard": 0.0, "calls": 1, "shaken": True, "midway": False, "known": True}
    )

    def at(self, now: float, **facts: Any) -> Verdict:
        self.facts |= {"heard": now} | facts
        return self.made.due(now, Facts(**self.facts))


def test_an_ordinary_connection_is_left_alone() -> None:
    watched = Watched()
    assert all(watched.at(float(now)) is NOTHING for now in range(999))


@pytest.mark.parametrize("facts", [{"shaken": False}, {"midway": True}])
def test_handshakes_and_header_blocks_have_a_deadline(facts: dict[str, bool]) -> None:
    """Row SEC24 of the hostile inputs."""
    watched = Watched()
    assert watched.at(0.0, **facts) is NOTHING
    assert watched.at(9.9) is NOTHING
    assert watched.at(10.0).do is Do.CUT
    assert Watched().at(50.0, midway=True) is NOTHING


def test_a_header_block_that_ends_in_time_starts_no_clock_for_the_next() -> None:
    watched = Watched()
    watched.at(5.0, midway=True)
    watched.at(8.0, midway=False)
    assert watched.at(14.0, midway=True) is NOTHING
    assert watched.at(16.0) is NOTHING


@pytest.mark.parametrize(("known", "patience"), [(False, 20.0), (True, 300.0)])
def test_without_a_call_a_connection_ends(patience: float, *, known: bool) -> None:
    watched = Watched()
    watched.at(7.0, known=known)
    assert watched.at(7.0 + patience - 1, calls=0) is NOTHING
    assert watched.at(7.0 + patience).do is Do.CLOSE


def test_silence_is_asked_and_cut() -> None:
    watched = Watched()
    assert watched.at(29.0, heard=0.0) is NOTHING
    assert watched.at(30.0, heard=0.0).do is Do.PING
    assert watched.at(39.0, heard=0.0) is NOTHING
    assert watched.at(39.5, heard=39.0) is NOTHING
    assert watched.at(69.0, heard=39.0).do is Do.PING
    assert watched.at(79.0, heard=39.0) == Verdict(Do.CUT, "no answer to a ping")


def test_age_can_come_sooner_and_not_again_and_again() -> None:
    watched = Watched()
    watched.made.hasten(100.0, 10.0, 0.5)
    assert watched.at(104.0) is NOTHING
    watched.made.hasten(104.0, 10.0, 0.9)
    assert watched.at(105.0).do is Do.DRAIN


def test_age_drains_then_closes() -> None:
    watched = Watched()
    assert watched.at(1_000.0).do is Do.DRAIN
    assert watched.at(1_009.0) is NOTHING
    assert watched.at(1_010.0).do is Do.CLOSE
    left = Watched()
    left.at(1_000.0)
    assert left.at(1_001.0, calls=0).do is Do.CLOSE


def test_a_certificate_ends_its_connection() -> None:
    watched = Watched()
    watched.made.over = 50.0
    assert watched.at(49.0) is NOTHING
    assert watched.at(50.0).code is Code.UNAUTHENTICATED


def waiting() -> Stream:
    wire = Wire()
    wire.say(wire.headers())
    stream = wire.calls[0].stream
    stream.send(b"x" * 1_000_000)
    return stream


def test_a_client_that_takes_nothing_is_cut() -> None:
    watched, stream = Watched(), waiting()
    assert watched.at(100.0, waiting=[stream]) is NOTHING
    assert watched.at(119.0) is NOTHING
    assert watched.at(120.0) == Verdict(Do.CUT, "nothing was read for 20 s", Code.DEADLINE_EXCEEDED)


def test_one_that_takes_a_little_or_got_all_is_not() -> None:
    watched, stream = Watched(), waiting()
    for now in range(0, 100, 10):
        stream.taken += 1_024
        assert watched.at(float(now), waiting=[stream]) is NOTHING
    for now in range(100, 200, 10):
        stream.turn += 1
        assert watched.at(float(now)) is NOTHING
    watched.at(201.0, waiting=[])
    watched.at(219.0, waiting=[stream])
    assert watched.at(222.0) is NOTHING, "it waits for something else by now"


def test_what_the_machine_acknowledges_counts_unless_its_own_window_is_shut() -> None:
    watched, stream = Watched(), waiting()
    for now in range(0, 100, 10):
        assert watched.at(float(now), waiting=[stream], acked=now * 200) is NOTHING
    stream.window = 0
    watched.at(100.0, acked=50_000)
    verdicts = [watched.at(float(now), acked=now * 1_000).do for now in range(110, 130, 10)]
    assert verdicts[-1] is Do.CUT


def test_who_speaks_and_whose_machine_acknowledges_nothing_is_cut_unless_its_window_is_shut() -> None:
    """Row FT48: packets are lost on one way only."""
    watched = Watched()
    for now in range(0, 100, 10):
        assert watched.at(float(now), acked=now, under_way=True) is NOTHING, "each time a bit more"
    assert watched.at(104.0) is NOTHING
    assert watched.at(105.0) == Verdict(Do.CUT, "its machine acknowledged nothing for 15 s")
    shut = Watched()
    shut.at(0.0, under_way=True)
    shut.at(14.0, under_way=False)
    assert shut.at(15.0, under_way=True) is NOTHING
    assert shut.at(29.0) is NOTHING
    assert shut.at(30.0).do is Do.CUT


def test_a_client_that_asks_for_the_last_time_and_hears_no_answer_is_gone_within_40_s() -> None:
    watched, asked = Watched(), 23.0  # every 20 s, and up to 15 % of them later, which is Envoy's default
    ends = next(n for n in range(100) if watched.at(float(n), heard=min(n, asked), under_way=n >= asked) is not NOTHING)
    assert ends <= 40
