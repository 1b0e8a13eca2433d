"""Numbers as others write them."""

from __future__ import annotations

import pytest

from wire import decimal


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0080", 80), ("9" * 18, 10**18 - 1)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert decimal.number(text) == number


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1\n", "1_0", "9" * 5_000, "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_all_else_is_none_and_raises_nothing(text: str) -> None:
    assert decimal.number(text) is None
