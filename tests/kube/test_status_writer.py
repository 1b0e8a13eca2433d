"""The statuses of a large mesh are looked at beside all else. What is written is held by test_writers.py."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import cast

from crds.key import NETWORKING, ConfigKey
from istiod.config.kubernetes import Resource
from istiod.kube.client import KubernetesClient
from istiod.kube.lease import Candidate, Leader
from istiod.kube.status_writer import AT_ONCE, Sources, StatusWriter
from istiod.status import conditions
from istiod.status.observed import Json, Observed

COUNT = 20 * AT_ONCE


def rule(status: Json) -> Observed:
    served = Resource(group=NETWORKING, version="v1", plural="virtualservices", kind="VirtualService")
    return Observed(resource=served, uid="u", generation=1, resource_version="1", status=status)


async def test_while_thousands_of_statuses_are_looked_at_everybody_else_has_a_turn() -> None:
    nobody = cast("KubernetesClient", None)  # all is as it should be, so nothing is asked for
    good = conditions.wanted(rule({}), (), "2026-01-01T00:00:00Z", serving=True)
    assert good is not None
    objects = {ConfigKey(NETWORKING, "VirtualService", "shop", f"r{turn}"): rule(good) for turn in range(COUNT)}
    sources = Sources(
        ready=lambda: True, version=lambda: 1, observed=objects.items, findings=tuple, serving=lambda _: True
    )
    leader = Leader(nobody, Candidate(namespace="istio-system", name="x", identity="me"), alone=True)
    statuses = StatusWriter(nobody, leader, sources, lambda: dt.datetime.now(dt.UTC))
    rounds = 0

    async def others() -> None:
        nonlocal rounds
        while statuses.writer.problem is None:
            rounds += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert await statuses.writer._write()
    task.cancel()
    assert rounds >= COUNT // AT_ONCE
    assert statuses.writes == 0
    assert list(statuses._step()) == [], "it is done until something changes"
