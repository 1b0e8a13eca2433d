from __future__ import annotations

import asyncio
import datetime as dt
import time

import pytest

from crds.diagnostic import Diagnostic
from istiod import expiry
from istiod.config.store import ConfigStore
from istiod.pipeline import Pipeline
from tests.mesh import fleet
from tests.mesh import test_credentials as made
from tests.waiting import until


async def test_a_certificate_that_ends_is_told_although_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "PERIOD", 0.01)
    today = made.START

    def now() -> dt.datetime:
        return today

    store, told = ConfigStore(), list[tuple[Diagnostic, ...]]()
    store.keep_time(now)
    pipeline = Pipeline(store, told.append, time.monotonic)
    watching = asyncio.create_task(expiry.watch(pipeline, now))
    running = asyncio.create_task(pipeline.run())
    for text in (made.SERVICE, made.gateway(), made.until(10)):
        store.apply(fleet.parsed(text))
    pipeline.open()
    try:
        await until(lambda: bool(told), "the mesh is built")
        assert told == [()]
        today += dt.timedelta(days=11)
        await until(lambda: len(told) > 1, "the mesh looks again")
        assert told[1][0].message == "the certificate has expired (2024-01-11T00:00:00Z)"
        await until(lambda: not pipeline.pending, "it is not asked to look again")
        assert pipeline.context is not None
        assert list(pipeline.context.model.credentials.over(now())) == []
    finally:
        for task in (watching, running):
            task.cancel()
        await asyncio.wait((watching, running))
