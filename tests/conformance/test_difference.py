from typing import Any

import pytest

from conformance import difference


def fields(wanted: Any, given: Any) -> list[str]:
    return [each.field for each in difference.leaves("", "x", wanted, given)]


@pytest.mark.parametrize(
    ("wanted", "given", "found"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["x.a.c"]),
        ({"a": 1}, {"b": 1}, ["x.a", "x.b"]),
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 3}], ["x[1].a"]),
        (["h2", "http/1.1"], ["h2", "istio"], ["x"]),
        ([{"a": 1}], [{"a": 1}, {"a": 2}], ["x"]),
        ({"a": None}, {}, []),
        (1, 1, []),
    ],
)
def test_a_difference_is_as_small_as_it_can_be_named(wanted: Any, given: Any, found: list[str]) -> None:
    assert fields(wanted, given) == found


def test_values_are_json_and_shown_short() -> None:
    one = difference.of("here", "x", {"b": 1, "a": None}, "y" * 200)
    assert one.wanted == '{"a": null, "b": 1}'
    assert str(one) == 'here: x: "' + "y" * 99 + '... for {"a": null, "b": 1}'
    assert str(difference.of("", "x", 1, 2)) == "x: 2 for 1"
