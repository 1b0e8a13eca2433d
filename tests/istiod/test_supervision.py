"""Parts of istiod that go on whatever becomes of one run of them."""

from __future__ import annotations

import asyncio

import pytest

from istiod import supervision


@pytest.mark.parametrize(
    ("error", "said"), [(ValueError("once"), "a part failed"), (asyncio.CancelledError(), "a part was cancelled")]
)
async def test_a_part_that_fails_starts_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException, said: str
) -> None:
    """Also one that waits for what is cancelled; who cancels the part itself ends it."""
    monkeypatch.setattr(supervision, "RESTART_DELAY", 0.001)
    runs = 0
    again = asyncio.Event()

    async def part() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise error
        again.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(supervision.supervise("a part", part))
    await asyncio.wait_for(again.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said in caplog.text
