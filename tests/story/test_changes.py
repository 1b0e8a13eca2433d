"""The product's promise: whatever is changed in a user's order, no request fails."""

from __future__ import annotations

import os

import pytest

from tests.story import changes, shop, worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
SEED = int(os.environ.get("STORY_SEED", "3"))


@pytest.mark.timeout(300)
async def test_50_random_changes_under_load_fail_no_request() -> None:
    async with shop.opened() as running:
        for number, change in enumerate(changes.changes(SEED, 50)):
            await running.apply(change)
            if number % 3:  # else the next change comes while this one is on its way
                await running.more(10)
        await running.settled()
        await running.more(100)
        failed = running.failed()
    told = "\n".join(failed[:20])
    assert not failed, f"{len(failed)} failures with seed {SEED}:\n{told}\n{running.story()}"
