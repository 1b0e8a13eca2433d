"""Many requests at once: nobody is answered before all are where they have to be, however slow the machine is."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tests.behaviour.client import Reply
from tests.behaviour.rig import Rig
from tests.behaviour.servers import Answer, Seen, saying
from tests.waiting import until

_PATIENCE = 6.0
"""Seconds; below the client's own."""


async def crowd(rig: Rig, count: int, refused: int, **said: Any) -> Counter[int]:
    """Statuses of so many requests at once, of which so many are refused while the others wait for their answers."""
    gate = asyncio.Event()
    rig.servers.answer = saying(held=gate)
    tasks = [asyncio.create_task(rig.ask(**said)) for _ in range(count)]
    try:
        await until(lambda: sum(task.done() for task in tasks) == refused, f"{refused} are refused", _PATIENCE)
        await until(lambda: len(rig.servers.seen) == count - refused, "the others have come", _PATIENCE)
    finally:
        gate.set()
    return _statuses(await asyncio.gather(*tasks))


async def queue(rig: Rig, pending: str, count: int, envoy: str = "client", **said: Any) -> Counter[int]:
    """Statuses where there is one connection: of a request on it, one that waits for it, and as many as are left.

    ``pending``: the pattern of the gauge that counts those who wait.
    """
    gate = asyncio.Event()
    rig.servers.answer = saying(held=gate)
    tasks = [asyncio.create_task(rig.ask(**said))]
    try:
        await until(lambda: len(rig.servers.seen) == 1, "the first request has come", _PATIENCE)
        tasks.append(asyncio.create_task(rig.ask(**said)))

        async def waits() -> bool:
            return await rig.stat(pending, envoy) == 1

        await until(waits, "the second one waits", _PATIENCE)
        tasks += [asyncio.create_task(rig.ask(**said)) for _ in range(count - 2)]
        await asyncio.wait(tasks[2:], timeout=_PATIENCE)
    finally:
        gate.set()
    return _statuses(await asyncio.gather(*tasks))


async def tries(rig: Rig, count: int, status: int, **said: Any) -> int:
    """How often the servers are asked for so many requests at once, all of which fail with a status at one time.

    Second tries are answered once nobody is left who might begin one.
    """
    first, second = asyncio.Event(), asyncio.Event()
    rig.servers.seen.clear()

    def answer(seen: Seen) -> Answer:
        later = len(rig.servers.seen) > count
        return Answer(status=status, body=seen.name, held=second if later else first)

    rig.servers.answer = answer
    tasks = [asyncio.create_task(rig.ask(**said)) for _ in range(count)]
    try:
        await until(lambda: len(rig.servers.seen) == count, "all have come", _PATIENCE)
        first.set()
        await until(lambda: len(rig.servers.seen) + sum(t.done() for t in tasks) >= 2 * count, "all is said", _PATIENCE)
    finally:
        first.set()
        second.set()
    await asyncio.gather(*tasks)
    return len(rig.servers.seen)


def _statuses(replies: list[Reply]) -> Counter[int]:
    return Counter(one.status for one in replies)
