"""The product's promise, at length: four kinds of load over kept and fresh connections while everything changes.

No request fails, no proxy lacks a cluster, a route or a healthy host that it should have had (fault FT26, FT27).
"""

from __future__ import annotations

import os

import pytest

from tests.story import echo_changes, four_kinds, worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
SEED = int(os.environ.get("STORY_SEED", "3"))


async def _changed(count: int) -> None:
    async with four_kinds.opened() as street:
        await street.change(echo_changes.mixed(SEED, count))
        failed, story = street.failed(), street.story()
    assert not failed, f"seed {SEED}: {story}"


@pytest.mark.timeout(300)
async def test_a_sample_of_changes_under_four_kinds_of_load_fails_no_request() -> None:
    await _changed(25)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_300_changes_under_four_kinds_of_load_fail_no_request() -> None:
    await _changed(int(os.environ.get("STORY_CHANGES", "300")))
