"""What counts as flat, and a short soak of a real istiod (FT56, FT57)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from bench import soak
from tests import figures

MB = 2.0**20
REST = soak.Sample(at=0.0, rss=100 * MB, tasks=11, descriptors=33, kept=200, proxies=20)


def samples(length: float, growth: float = 0.0, tasks: int = 11) -> Iterator[soak.Sample]:
    """A hundred of them; ``growth`` in bytes a second, ``tasks`` at the end."""
    for at in range(101):
        now = at * length / 100
        yield replace(REST, at=now, changes=at, rss=100 * MB + growth * now, tasks=tasks if at > 90 else 11)


def judged(given: Sequence[soak.Sample], after: soak.Sample = REST) -> list[str]:
    return list(soak.judge(given, REST, after))


def test_what_stays_as_it_is_is_flat() -> None:
    assert judged(list(samples(600))) == []


def test_memory_that_grows_for_hours_is_told_by_its_slope() -> None:
    hours = 8 * 3600
    assert judged(list(samples(hours, growth=50))) == []
    assert judged(list(samples(hours, growth=150))) == ["memory grows by 150 bytes a second"]


def test_in_minutes_a_twentieth_is_much() -> None:
    assert judged(list(samples(600, growth=10_000))) == []
    assert judged(list(samples(600, growth=50_000))) == ["memory grew by 17.2% after the first third"]


def test_memory_of_the_first_third_is_for_caches() -> None:
    early = [replace(each, rss=50 * MB) if each.at < 150 else each for each in samples(600)]
    assert judged(early) == []


def test_caches_have_a_third_of_the_changes_to_fill_however_long_a_busy_machine_takes() -> None:
    early = [replace(each, rss=50 * MB) if each.at < 400 else each for each in samples(600)]
    assert [each[:11] for each in judged(early)] == ["memory grew"]
    late = [replace(each, changes=10 if each.at < 400 else int(each.at)) for each in early]
    assert judged(late) == []


def test_tasks_that_pile_up_are_told() -> None:
    assert judged(list(samples(600, tasks=14))) == []
    assert judged(list(samples(600, tasks=15))) == ["tasks: at most 11 in the middle, 15 later"]


def test_what_is_left_at_rest_is_told() -> None:
    after = replace(REST, tasks=12, descriptors=34, kept=201)
    assert judged(list(samples(600)), after) == [
        "tasks: 11 at rest before, 12 after",
        "descriptors: 33 at rest before, 34 after",
        "compiled resources: 200 before, 201 after",
    ]


async def test_what_a_busy_machine_does_not_come_to_does_not_make_a_run_longer() -> None:
    done: list[float] = []

    async def slow() -> None:
        await asyncio.sleep(0.05)
        done.append(time.monotonic())

    end = time.monotonic() + 0.3
    await soak.every(0.001, slow, end)
    assert 1 <= len(done) <= 6
    assert sum(each > end for each in done) <= 1


def test_lengths_are_read() -> None:
    assert [soak.seconds(text) for text in ("90s", "20m", "8h")] == [90, 1200, 28_800]
    for text in ("", "8", "0m", "1d", "-1s"):
        with pytest.raises(ValueError, match="is no time"):
            soak.seconds(text)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_minute_of_all_changes_leaves_nothing_behind_and_everybody_right() -> None:
    verdict = soak.run(60.0, 1, figures.say)
    figures.fault("FT56", "; ".join(verdict.lines))
    # In a minute caches still fill: memory is for the longer forms to judge
    assert [each for each in verdict.wrong if not each.startswith("memory grew")] == []
