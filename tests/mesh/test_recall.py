from __future__ import annotations

from istiod.mesh.recall import Recall


class Thing:
    """Equal to every other one, so that only identity tells them apart."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    def __hash__(self) -> int:
        return 0


def test_a_value_is_made_once_for_the_same_inputs() -> None:
    recall, thing = Recall(), Thing()
    first = recall.of("x", (thing,), object)
    assert recall.of("x", (thing,), object) is first
    assert recall.of("y", (thing,), object) is not first
    assert recall.of("x", (Thing(),), object) is not first
    assert recall.of("x", (thing, None), object) is not first


def test_the_next_generation_keeps_what_this_one_used() -> None:
    recall, kept, lost = Recall(), Thing(), Thing()
    first, other = recall.of("x", (kept,), object), recall.of("x", (lost,), object)
    second = recall.next()
    assert second.of("x", (kept,), object) is first
    third = second.next()
    assert third.of("x", (kept,), object) is first
    assert third.of("x", (lost,), object) is not other


def test_a_generation_that_was_not_used_passes_everything_on() -> None:
    recall, thing = Recall(), Thing()
    first = recall.of("x", (thing,), object)
    assert recall.next().next().of("x", (thing,), object) is first
