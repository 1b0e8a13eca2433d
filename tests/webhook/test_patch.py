"""webhook/patch.py: applying the difference gives the other value."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.webhook.reviews import apply
from webhook import patch

LEAF = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab/~", max_size=2)
JSON = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/~", max_size=2), inner),
    max_leaves=12,
)


@given(JSON, JSON)
def test_the_patch_turns_one_value_into_the_other(before: Any, after: Any) -> None:
    assert apply(before, list(patch.diff(before, after))) == after


@given(JSON)
def test_equal_values_need_no_patch(value: Any) -> None:
    assert list(patch.diff(value, copy.deepcopy(value))) == []


def test_what_was_added_at_an_end_of_a_list_is_added_and_not_rewritten() -> None:
    assert list(patch.diff({"c": [1]}, {"c": [1, 2]})) == [{"op": "add", "path": "/c/-", "value": 2}]
    assert list(patch.diff({"c": [1]}, {"c": [3, 2, 1]})) == [
        {"op": "add", "path": "/c/0", "value": 3},
        {"op": "add", "path": "/c/1", "value": 2},
    ]
    assert list(patch.diff({"c": [1, 2]}, {"c": [3]})) == [{"op": "replace", "path": "/c", "value": [3]}]
