"""What tests/ads/model.py promises, kept by a real Envoy."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.ads import random_streams

SAMPLE = 10
MANY = 200
AT_ONCE = 5

pytestmark = pytest.mark.envoy


async def play_all(seeds: range, folder: Path) -> None:
    """Several sequences side by side; every second one in state of the world."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> None:
        async with places:
            (home := folder / str(seed)).mkdir()
            await random_streams.play(seed, home, delta=seed % 2 == 0)

    async with asyncio.TaskGroup() as tasks:
        for seed in seeds:
            tasks.create_task(one(seed))


async def test_an_envoy_ends_with_its_target_and_never_without_a_cluster(tmp_path: Path) -> None:
    await play_all(range(SAMPLE), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3000)
async def test_two_hundred_sequences_end_with_their_target_and_never_without_a_cluster(tmp_path: Path) -> None:
    first = random.Random(0).randrange(1_000, 2_000)
    await play_all(range(first, first + MANY), tmp_path)
