"""While policies change, a real Envoy is at no moment without any (issue 7; row SEC56 says the same of mTLS)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from e2e.harness.ports import free_ports
from istiod.ads.server import AdsService
from istiod.ads.session import Shared
from istiod.ads.stream import Timing
from istiod.config.resource import Resource
from istiod.envoy import listener
from istiod.mesh.scope import Chain, Direction, Http, Listener
from tests.ads import made, real_envoy
from tests.ads.serving import running
from tests.envoy import made as of_envoy
from tests.envoy.test_real_authorization import policy, said
from tests.waiting import until

pytestmark = pytest.mark.envoy

_CHANGES = 20


def guarded(port: int, *policies: object) -> Resource:
    """The listener of the hand-made configuration, with policies."""
    http = Http(stat_prefix="l1", rds="r1", authorization=said(*policies))
    whole = Listener(
        name="l1", address="127.0.0.1", port=port, direction=Direction.OUTBOUND, chains=(Chain(name="c", http=http),)
    )
    return listener.compile(whole, of_envoy.QUIET)


def policies(number: int) -> list[object]:
    """Each time others, that all refuse the same: by DENY, by what ALLOW leaves out, by both."""
    deny = policy(f"deny-{number}", action="DENY", rules=[{"to": [{"operation": {"paths": ["/secret"]}}]}])
    allow = policy(f"allow-{number}", rules=[{"to": [{"operation": {"notPaths": ["/secret"]}}]}])
    return [[deny], [allow], [deny, allow]][number % 3]


async def status(port: int, path: str) -> str:
    """Of a request on a connection of its own; the words of what went wrong where there is none."""
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
            found = (await reader.readline()).decode().split(" ", 2)
            writer.close()
    except OSError as error:
        return type(error).__name__
    return found[1] if len(found) > 1 else "nothing"


async def test_no_request_gets_by_while_policies_change(tmp_path: Path) -> None:
    configuration = made.Fixed()
    service = AdsService(configuration, time.monotonic, shared=Shared(timing=Timing(linger=1.0)))
    (port,) = free_ports(1)
    seen: Counter[tuple[str, str]] = Counter()
    changing = asyncio.Event()

    async def call(path: str) -> None:
        while not changing.is_set():
            seen[path, await status(port, path)] += 1

    async with (
        running(service) as served,
        real_envoy.app("one") as one,
        real_envoy.envoy(tmp_path, served.port, delta=True) as envoy,
    ):
        rest = (made.cluster("c1"), made.endpoints("c1", one), made.route("r1", "c1"))
        configuration.set(*rest, guarded(port, *policies(0)))
        await until(lambda: envoy.answers(port, "one"), "the first configuration")
        callers = [asyncio.create_task(call(path)) for path in ("/secret", "/open")]
        for number in range(1, _CHANGES):
            configuration.set(*rest, guarded(port, *policies(number)))
            await until(service.converged, "the change is ACKed")
        changing.set()
        await asyncio.gather(*callers)
    assert {key for key in seen if key[0] == "/secret"} == {("/secret", "403")}
    assert {key for key in seen if key[0] == "/open"} == {("/open", "200")}
    assert min(seen.values()) > _CHANGES
