"""Statuses, messages and budgets."""

from __future__ import annotations

import pytest

from istiod.grpcserver import frames
from istiod.grpcserver.budget import Budget
from istiod.grpcserver.messages import Assembler
from istiod.grpcserver.status import Code, RpcError, percent_encoded
from istiod.grpcserver.stream import DEAF
from tests.grpcserver.wire import Wire, message, parse


@pytest.mark.parametrize(
    ("details", "encoded"), [("plain", b"plain"), ("50%\n", b"50%25%0A"), ("ä", b"%C3%A4"), ("\ud800", b"?")]
)
def test_details_are_percent_encoded(details: str, encoded: bytes) -> None:
    assert percent_encoded(details) == encoded


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 1_999, 5_000])
def test_details_of_any_length_arrive(length: int) -> None:
    wire = Wire()
    (frame,), _ = parse(frames.trailers(1, Code.INTERNAL, "x" * length))
    assert wire.status(frame) == ("13", "x" * min(length, 2_000))


def test_a_budget_empties_fills_and_is_earned() -> None:
    budget = Budget(burst=2, rate=1, now=0.0)
    assert [budget.spend(0.0) for _ in range(3)] == [True, True, False]
    assert budget.spend(3.0)
    budget.earn(10)
    assert [budget.spend(3.0) for _ in range(3)] == [True, True, False]


def test_messages_are_put_together() -> None:
    assembler = Assembler(10)
    whole = message(b"one") + message(b"") + message(b"three")
    assert assembler.feed(whole[:7]) == []
    with pytest.raises(RpcError):
        assembler.end()
    assert assembler.feed(whole[7:]) == [b"one", b"", b"three"]
    assembler.end()
    with pytest.raises(RpcError, match="11 bytes; the limit is 10"):
        assembler.feed(message(b"x" * 11))


def test_nobody_hears_a_call_that_is_over() -> None:
    DEAF.message(b"x")
    DEAF.done()
    DEAF.drained()
    DEAF.lost()
