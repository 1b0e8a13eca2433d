"""The last seconds of a pod of istiod; a whole upgrade of one is in tests/e2e/test_upgrade.py."""

from __future__ import annotations

import asyncio

import pytest

from istiod import supervision
from istiod.supervision import Leaving
from tests.waiting import until


async def test_a_pod_that_ends_is_not_ready_and_serves_on_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "LEAVE", 0.2)
    leaving = Leaving(awaited=True)
    assert leaving.waiting() == ()
    async with asyncio.timeout(10):
        over = asyncio.create_task(leaving.over(hurried=False))
        await until(lambda: leaving.waiting() == ("an end: this istiod was told to",), "not ready")
        assert not over.done()
        await over


@pytest.mark.parametrize(("awaited", "hurried"), [(False, False), (True, True)])
async def test_nobody_is_waited_for_outside_of_a_cluster_or_without_memory(*, awaited: bool, hurried: bool) -> None:
    leaving = Leaving(awaited=awaited)
    async with asyncio.timeout(supervision.LEAVE / 2):
        await leaving.over(hurried=hurried)
    assert leaving.waiting() == ()
