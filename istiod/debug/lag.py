"""How late the event loop is: all of istiod waits as long as one part of it computes.

A sleep that ends late tells it. What is done about it is left to whoever reads the histogram.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

PERIOD: Final = 0.25
"""Seconds between two looks: a loop that is blocked as long cannot be missed; four wake-ups a second cost nothing."""


async def watch(observe: Callable[[float], None]) -> None:
    """Tell the seconds by which each look came too late, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PERIOD
        await asyncio.sleep(PERIOD)
        observe(max(0.0, loop.time() - due))
