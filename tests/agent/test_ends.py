"""The end of a pod under requests that take three seconds, and Envoy's crash, on loopback (faults FT55 and FT53)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests import figures
from tests.agent import pod as support
from tests.waiting import until

pytestmark = pytest.mark.envoy
LENGTH = 3.0
"""Seconds that each request takes."""
SPAN = 2.0
"""Seconds over which requests begin: half of them before the pod is told to end."""
WAYS = {
    "a fixed time": {"TERMINATION_DRAIN_DURATION_SECONDS": "5"},
    "until nothing is under way": {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "1s"},
}
OUTAGE = 2.0


async def ask(port: int) -> str:
    """A request on a connection of its own; "" or what was wrong."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(5)
        writer.close()
    except (OSError, EOFError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if head.startswith(b"HTTP/1.1 200") and body == b"hello" else head.decode()


async def ended(folder: Path, environment: dict[str, str]) -> tuple[list[str], float]:
    """What went wrong with requests while a pod ended, and the seconds from SIGTERM to its end."""
    async with support.istiod() as control, support.pod(folder, control, **environment) as pod:
        control.delay = LENGTH
        control.serve.set()
        await until(pod.ready, "the proxy is ready")
        asked: list[asyncio.Task[str]] = []
        began = told = time.monotonic()
        while time.monotonic() - began < SPAN:
            asked.append(asyncio.create_task(ask(control.listener_port)))
            if told == began and time.monotonic() - began > SPAN / 2:
                pod.process.send_signal(signal.SIGTERM)
                told = time.monotonic()
            await asyncio.sleep(0.05)
        assert await asyncio.wait_for(pod.process.wait(), 20) == 0
        took = time.monotonic() - told
        return [wrong for wrong in await asyncio.gather(*asked) if wrong], took


async def test_requests_of_three_seconds_survive_the_end_of_their_pod(tmp_path: Path) -> None:
    for name in WAYS:
        (tmp_path / name).mkdir()
    found = await asyncio.gather(*(ended(tmp_path / name, given) for name, given in WAYS.items()))
    assert [wrong for wrong, _ in found] == [[], []]
    fixed, idle = (took for _, took in found)
    assert fixed >= 5
    assert idle >= SPAN / 2 + LENGTH, "what began after SIGTERM was waited for, too"


async def test_an_envoy_that_crashes_again_and_again_is_away_for_less_than_two_seconds_each_time(
    tmp_path: Path,
) -> None:
    async with support.istiod() as control, support.pod(tmp_path, control) as pod:
        control.serve.set()
        await until(pod.ready, "the proxy is ready")
        outages = []
        for _ in range(3):
            killed = pod.envoy_pid()
            os.kill(killed, signal.SIGKILL)
            began = time.monotonic()

            async def serves() -> bool:
                return not await ask(control.listener_port)

            await until(serves, "it serves again")
            outages.append(time.monotonic() - began)
            assert pod.envoy_pid() not in (0, killed)
        figures.say(f"Envoy killed three times: away for {', '.join(f'{each:.2f} s' for each in outages)}")
        assert min(outages) < OUTAGE, outages


async def test_an_envoy_whose_agent_was_killed_answers_on(tmp_path: Path) -> None:
    """Fault FT54. In a container both end then, and start again together: the agent is its first process."""
    async with support.istiod() as control, support.pod(tmp_path, control) as pod:
        control.serve.set()
        await until(pod.ready, "the proxy is ready")
        envoy = pod.envoy_pid()
        pod.process.kill()
        await pod.process.wait()
        assert [wrong for _ in range(20) if (wrong := await ask(control.listener_port))] == []
        certificates = (await pod.get(pod.admin, "/certs")).body
        assert b"spiffe://cluster.local/ns/default/sa/sleep" in certificates
        os.kill(envoy, signal.SIGTERM)
