from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from node.network import Inside

pytestmark = [pytest.mark.root]


def sockets() -> int:
    return sum(one.resolve().name.startswith("socket:") for one in Path("/proc/self/fd").iterdir())


async def test_a_socket_that_nobody_waits_for_any_more_is_closed() -> None:
    inside = Inside(Path("/proc/thread-self/ns/net"))
    await inside.call(lambda: None)
    before = sockets()
    asked = asyncio.create_task(inside.new_socket(socket.SOCK_STREAM))
    await asyncio.sleep(0)
    inside._pool.submit(lambda: None).result()  # the thread has made it, and the loop has not heard of it
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert sockets() == before
    inside.close()
