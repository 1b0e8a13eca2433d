"""Waiting for what happens elsewhere: a condition and a deadline in place of a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool], what: str, seconds: float = 30.0
) -> None:
    """Wait for a condition; ``what`` says what it means.

    Raises:
        AssertionError: it did not come true in time.
    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                held = condition()
                if held if isinstance(held, bool) else await held:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise AssertionError(f"not in {seconds:g} s: {what}") from error
