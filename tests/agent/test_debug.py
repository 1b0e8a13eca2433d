"""The debug pages of the status port: who may see them, and that they tell what the process does."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent import httpwire
from protos import nds_pb2
from tests.agent.test_status import fetch, own_address, running, serving

PPROF = "/debug/pprof"


async def text(path: str, status: int = 200) -> str:
    """What a user gets who asks in the pod."""
    async with serving({}) as envoy, running(envoy) as (agent, _):
        answer = await fetch(agent, path)
        assert answer.status == status, answer.body
        return answer.body.decode()


async def test_names_are_shown_as_istios_agent_prints_them() -> None:
    assert await text("/debug/ndsz") == "{}\n"
    info = nds_pb2.NameTable.NameInfo(ips=["10.0.0.1"], registry="Kubernetes", shortname="web", namespace="shop")
    table = nds_pb2.NameTable(table={"web.shop.svc.cluster.local": info}).SerializeToString()
    async with serving({}) as envoy, running(envoy, table=table) as (agent, _):
        found = json.loads((await fetch(agent, "/debug/ndsz")).body)
    said = {"ips": ["10.0.0.1"], "registry": "Kubernetes", "shortname": "web", "namespace": "shop"}
    assert found == {"table": {"web.shop.svc.cluster.local": said}}


async def test_pages_are_for_the_pod_itself() -> None:
    """Row SEC31 of the hostile inputs."""
    async with serving({}) as envoy, running(envoy) as (agent, _):
        for path in ("/debug/ndsz", f"{PPROF}/goroutine", f"{PPROF}/cmdline"):
            from_afar = await httpwire.request(httpwire.Target(own_address(), agent.port), "GET", path)
            assert (from_afar.status, b"within the pod" in from_afar.body) == (403, True)
            assert (await httpwire.request(httpwire.Target("127.0.0.1", agent.port), "POST", path)).status == 405


async def test_tasks_and_threads_are_shown_with_what_they_wait_for() -> None:
    over = asyncio.Event()
    held = threading.Event()

    async def innermost() -> None:
        await over.wait()

    async def outer() -> None:
        await innermost()

    task = asyncio.create_task(outer(), name="waits for the end")
    thread = threading.Thread(target=held.wait, name="holds on")
    thread.start()
    await asyncio.sleep(0)
    said = await text(f"{PPROF}/goroutine?debug=1")
    over.set()
    held.set()
    thread.join()
    await task
    head, _, rest = said.partition("\n")
    assert re.fullmatch(r"goroutine profile: \d+ asyncio tasks and \d+ threads of Python, no goroutines", head)
    (stack,) = (part for part in rest.split("\n\n") if "task waits for the end" in part)
    assert [line.split()[0].rpartition(".")[2] for line in stack.strip().splitlines()[1:]] == [
        "outer",
        "innermost",
        "wait",
    ]
    assert f"{Path(__file__).name}:" in stack
    assert "\nthread holds on:\n" in rest


class Held:
    """What a test keeps."""


async def test_memory_is_shown_by_kernel_and_by_types() -> None:
    kept = [Held() for _ in range(20_000)]
    said = await text(f"{PPROF}/heap?gc=1")
    (resident,) = re.findall(r"^VmRSS:\s+(\d+) kB$", said, re.MULTILINE)
    assert int(resident) > 10_000
    assert re.search(rf"^ *\d+ bytes +{len(kept)} tests\.agent\.test_debug\.Held$", said, re.MULTILINE)
    assert "allocated" not in said


async def test_what_is_allocated_meanwhile_is_shown_by_line() -> None:
    asked = asyncio.create_task(text(f"{PPROF}/allocs?seconds=1"))
    kept: list[bytearray] = []
    while not asked.done():
        kept.append(bytearray(10_000))
        await asyncio.sleep(0.01)
    said = await asked
    assert re.search(rf"^ *\d+ bytes +\d+ .*{Path(__file__).name}:\d+$", said, re.MULTILINE)


def busy(over: threading.Event) -> None:
    while not over.is_set():
        sum(range(1_000))


async def test_a_profile_says_where_time_went_and_one_is_taken_at_a_time() -> None:
    over = threading.Event()
    thread = threading.Thread(target=busy, args=(over,), name="works")
    thread.start()
    async with serving({}) as envoy, running(envoy) as (agent, _):
        first = asyncio.create_task(fetch(agent, f"{PPROF}/profile?seconds=1"))
        await asyncio.sleep(0.2)
        second = await fetch(agent, f"{PPROF}/profile?seconds=1")
        said = (await first).body.decode()
    over.set()
    thread.join()
    assert second.status == 409
    head = re.match(r"# profile of 1 s: (\d+) samples, (\S+) s of CPU", said)
    assert head
    assert int(head[1]) > 5
    assert float(head[2]) > 0.1
    stacks = [line for line in said.splitlines() if line.startswith("works;")]
    assert sum(int(line.rpartition(" ")[2]) for line in stacks if ";tests.agent.test_debug.busy" in line) > 3


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        (f"{PPROF}/", 200, "asyncio's tasks"),
        (f"{PPROF}/trace?seconds=5", 501, "no execution trace"),
        (f"{PPROF}/mutex", 501, "no contention"),
        (f"{PPROF}/other", 404, "there is no /debug/pprof/other"),
        (f"{PPROF}/profile?seconds=61", 400, "a number up to 60"),
        (f"{PPROF}/heap?seconds=-1", 400, "a number up to 60"),
        ("/debug/other", 404, "there are /debug/ndsz and /debug/pprof/"),
    ],
)
async def test_what_is_not_there_is_said(path: str, status: int, reason: str) -> None:
    assert reason in await text(path, status)


async def test_the_command_line_is_as_go_gives_it() -> None:
    assert (await text(f"{PPROF}/cmdline")).strip().split("\0") == sys.orig_argv


def test_an_agent_that_nobody_looks_at_loads_none_of_it() -> None:
    code = (
        "import sys, agent.status; print(sorted({'agent.pprof', 'tracemalloc', 'protos.nds_pb2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
