"""Certificates of Secrets end although no object changes: the mesh is told to look at those again (fault FT58).

What comes of it is istiod.mesh.credentials'. Nobody is cut off: Envoy goes on showing what it has, and the finding says
why clients refuse it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Final

from istiod.pipeline import Pipeline

PERIOD: Final = 10.0
"""Seconds between two looks."""


async def watch(pipeline: Pipeline, now: Callable[[], dt.datetime]) -> None:
    """Look for ever."""
    while True:
        if (context := pipeline.context) is not None:
            for key in context.model.credentials.over(now()):
                pipeline.change(key)
        await asyncio.sleep(PERIOD)
