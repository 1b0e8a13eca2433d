"""Certificates and roots change under load through real Envoys: no request is lost (faults FT34, FT35, FT36).

A connection between two Envoys carries ten requests, so that at 200 requests a second 20 pairs a second prove anew that
they trust each other (``ROTATION_REQUESTS=1``: each does). Lives of 20 s make in a minute what takes a day otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from istiod.ca import authority, keystore, place
from node.credentials import CA_FOLDER
from node.options import Options
from tests import figures
from tests.ca import chains
from tests.story import windows, worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
LIFE = 20
RATE = int(os.environ.get("ROTATION_RATE", "200"))
"""Requests per second, sent when they are due, whatever became of those before."""
REQUESTS = int(os.environ.get("ROTATION_REQUESTS", "10"))
"""Requests of one connection between Envoys: two busy cores have no room for 200 handshakes a second."""
WAIT = 5
RENEWED = "certificate until "
"""What an agent logs of each certificate."""
FROZEN = 8
"""Seconds without an agent: less than is left of a certificate at any time (half its life), or its proxy has none."""
MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig:
      concurrency: 1
      proxyMetadata: {SECRET_TTL: LIFE}
"""
RULES = f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: hello}}
spec:
  host: hello
  trafficPolicy: {{connectionPool: {{http: {{maxRequestsPerConnection: {REQUESTS}}}}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: in}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: hello}}
spec:
  hosts: ["*"]
  gateways: [in]
  http: [{{route: [{{destination: {{host: hello, port: {{number: 5000}}}}}}]}}]
"""
APP = """
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {selector: {app: hello}, ports: [{name: http, port: 5000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 2
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello, version: v1}}
    spec:
      containers: [{name: hello, image: istio/examples-helloworld-v1, ports: [{containerPort: 5000}]}]
"""


@dataclass
class Load:
    """Requests at a fixed rate, open loop."""

    url: str
    sent: int = 0
    took: list[tuple[float, float]] = field(default_factory=list)
    """When a request was sent, and the seconds until its answer."""
    failed: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            began, tasks = time.monotonic(), set[asyncio.Task[None]]()
            try:
                while True:
                    await asyncio.sleep(max(0.0, began + self.sent / RATE - time.monotonic()))
                    self.sent += 1
                    tasks.add(task := asyncio.create_task(self._ask(session)))
                    task.add_done_callback(tasks.discard)
            finally:
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        started = time.monotonic()
        try:
            async with session.get(self.url) as answer:
                body = await answer.read()
                if answer.status != 200:
                    self.failed.append(f"{time.strftime('%X')} {answer.status} {body[-160:]!r}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failed.append(f"{time.strftime('%X')} {error!r}")
        self.took.append((started, time.monotonic() - started))

    def said(self) -> str:
        """Delays of all, and p99 by second: what most seconds have, and the worst one."""
        by_second: dict[int, list[float]] = {}
        for at, took in self.took:
            by_second.setdefault(int(at), []).append(took * 1e3)
        seconds = sorted(map(_p99, by_second.values())) or [0.0]
        usual, worst = statistics.median(seconds), seconds[-1]
        whole = _p99([took * 1e3 for _, took in self.took])
        shown = f"p99 {whole:.0f} ms, of a second {usual:.0f} ms at the median and {worst:.0f} ms at most"
        return f"{self.sent} requests, {len(self.failed)} failed, {shown}"


@dataclass
class Running:
    """A mesh under load, and the folder of its CA."""

    mesh: worlds.Mesh
    ca: Path
    load: Load

    def roots(self) -> list[str]:
        return list(authority.split((self.ca / place.PUBLISHED).read_text()))

    def status(self) -> str:
        return (self.ca / place.STATUS).read_text().strip()

    async def renewals(self, seconds: float) -> list[float]:
        """When proxies got a new certificate (monotonic), for so long."""
        end, moments = time.monotonic() + seconds, list[float]()
        pods = [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in self.mesh.pods()]
        logs = [pod for pod in pods if "istio-proxy" in self.mesh.pod(pod).containers]
        known = sum(self.mesh.logs(pod, "istio-proxy").count(RENEWED) for pod in logs)
        while (now := time.monotonic()) < end:
            count = sum(self.mesh.logs(pod, "istio-proxy").count(RENEWED) for pod in logs)
            moments += [now] * (count - known)
            known = count
            await asyncio.sleep(0.02)
        return moments

    def agent(self, pod: str) -> int:
        return int(self.mesh.pod(pod).containers["istio-proxy"].pid)


@contextlib.asynccontextmanager
async def running(life: float = LIFE) -> AsyncIterator[Running]:
    """The mesh, its certificates living for so many seconds, under load until the block ends."""
    options = Options(variables={"PILOT_CA_ROTATION_WAIT": f"{WAIT}s"})
    async with worlds.world([MESH.replace("LIFE", f"{life:.0f}s"), RULES, APP], options) as book:
        ca = book.mesh.config.parent / CA_FOLDER
        url = str(book.client.base)
        found = Running(book.mesh, ca, Load(f"{url}/hello"))

        async def answers() -> bool:
            async with aiohttp.ClientSession() as session, session.get(found.load.url) as answer:
                return answer.status == 200

        await worlds.until("it answers", answers, 30)
        task = asyncio.create_task(found.load.run())
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.wait((task,))
            for line in found.load.failed[:5]:
                figures.say(line)
            figures.say(found.load.said())


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)] if times else 0.0


async def _becomes(what: str, holds: Callable[[], bool], seconds: float) -> float:
    async def asked() -> bool:
        return holds()

    return await worlds.until(what, asked, seconds)


@pytest.mark.long
async def test_a_root_is_replaced_under_load_with_an_agent_frozen_for_the_first_step() -> None:
    """FT36: 0 lost; what the steps took is printed."""
    new = authority.self_signed("cluster.local", chains.now())
    async with running() as found:
        (old,) = found.roots()
        frozen = found.agent("hello")
        os.kill(frozen, signal.SIGSTOP)
        try:
            keystore.Folder(found.ca).store(new)
            await _becomes("both roots are published", lambda: len(found.roots()) == 2, 10)
            await asyncio.sleep(FROZEN)
            assert "the new CA does not sign yet" in found.status()
            assert found.load.failed == []
        finally:
            os.kill(frozen, signal.SIGCONT)
        took = await _becomes("the new CA signs", lambda: "the old root is not removed" in found.status(), 60)
        figures.say(f"after it goes on: {took:.1f} s; {found.status()}")
        took = await _becomes("the old root goes", lambda: old not in found.roots(), 60)
        figures.say(f"until the old root is removed: {took:.1f} s")
        await asyncio.sleep(LIFE)  # all have certificates of the new root, and trust that one alone
        assert found.load.failed == []
        assert found.load.sent > 0


@pytest.mark.long
async def test_certificates_are_renewed_under_load() -> None:
    """FT34, with a life of 20 s: a dozen renewals of each of three proxies, and what one of them costs."""
    async with running() as found:
        renewed = await found.renewals(6 * LIFE)
        assert found.load.failed == []
        cost = windows.cost(found.load.took, renewed)
        figures.fault("FT34", f"0 of {found.load.sent} lost over {len(renewed)} renewals; {cost}")
        assert cost.most <= 10 + cost.chance


@pytest.mark.long
async def test_an_intermediate_is_swapped_under_load() -> None:
    """FT35."""
    async with running() as found:
        root = found.roots()[0]
        material = keystore.Folder(found.ca).load()
        assert material is not None
        keystore.Folder(found.ca).store(chains.intermediate(material))
        await asyncio.sleep(LIFE * 1.5)
        assert found.roots() == [root]
        assert found.load.failed == []
