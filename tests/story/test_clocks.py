"""Pods whose clocks are five minutes wrong, agent and Envoy alike (fault FT33).

All shake hands with all, each request anew, under STRICT, while certificates are renewed every few seconds: whoever
waited for a time of day would renew five minutes early or late. The clock is datefudge's: under libfaketime Envoy hangs
at its start, and Python cannot sleep.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from examples.demo.mesh import PATIENCE
from node.mesh import Mesh
from node.options import Options
from tests import figures
from tests.story import changes, shop, worlds
from tests.story.changes import Raw

LIBRARIES = sorted(Path("/usr/lib").glob("*/datefudge/datefudge.so"))
pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.timeout(180, func_only=True),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
CLOCKS = {"right": 0, "slow": -300, "fast": 300}
"""Name of a pod -> seconds by which the clock of its sidecar is ahead."""
RATE = 9
"""Requests per second of each pod."""
RENEWALS = 2
LIFE, LEFT = 3600, 0.999
PERIOD = LIFE * (1 - LEFT)
"""Seconds from one renewal to the next."""
MESH = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    accessLogFile: /dev/stdout
    defaultConfig:
      concurrency: 1
      holdApplicationUntilProxyStarts: true
      proxyStatsMatcher: {{inclusionRegexps: [".*[.]ssl[.].*"]}}
      proxyMetadata:
        SECRET_TTL: {LIFE}s
        SECRET_GRACE_PERIOD_RATIO: "{LEFT}"
        SECRET_GRACE_PERIOD_RATIO_JITTER: "0"
"""
RULES = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""
GOT = re.compile(r"certificate until (?P<end>.+?), next in ")
LOGGED = re.compile(r"^\[(?P<at>[^\]]+)\] \"GET ", re.MULTILINE)
FAILED = re.compile(r"\.ssl\.(?:connection_error|fail_\w+): [1-9]")
FULL, RESUMED = (re.compile(rf"\.ssl\.{what}: (\d+)$", re.MULTILINE) for what in ("handshake", "session_reused"))


def pod(name: str) -> Raw:
    """A pod that answers and asks all others."""
    asked = [f"{other}=http://{other}:8000/get" for other in CLOCKS if other != name]
    answering = {"name": "app", "image": "mccutchen/go-httpbin", "ports": [{"containerPort": 8080}]}
    asking = {"name": "asker", "image": shop.LOAD, "args": [f"--rate={RATE}", *asked]}
    library = str(LIBRARIES[0])
    variables = {"LD_PRELOAD": library, "DATEFUDGE": str(-CLOCKS[name])} if CLOCKS[name] else {}
    annotations = {"proxy.istio.io/config": json.dumps({"proxyMetadata": variables})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": annotations},
        "spec": {"containers": [answering, asking]},
    }


def service(name: str) -> list[Raw]:
    """A service that is asked once for each request, over a connection of its own."""
    pool = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
    route = {"route": [{"destination": {"host": name}}], "retries": {"attempts": 0}}
    return [
        changes.service(name, 8000, 8080),
        changes.istio("DestinationRule", name, {"host": name, "trafficPolicy": pool}),
        changes.istio("VirtualService", name, {"hosts": [name], "http": [route]}),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    """The pods, asking each other."""
    assert LIBRARIES, "datefudge is not installed (make test-packages)"
    options = Options(images={shop.LOAD: shop.program(shop.LOAD)}, gateway=False)
    async with Mesh((), options) as made:
        await made.apply(MESH)
        await made.apply(RULES + "---\n" + changes.text(each for name in CLOCKS for each in service(name)))
        await made.apply(changes.text(pod(name) for name in CLOCKS))
        await made.ready(PATIENCE)
        yield made


def got(mesh: Mesh, name: str) -> list[str]:
    """When each certificate of a pod ends, by what its agent says."""
    return GOT.findall(mesh.logs(name, "istio-proxy"))


def told(mesh: Mesh, name: str) -> tuple[int, list[str]]:
    """Good answers that a pod has had, and what it did not."""
    lines = mesh.logs(name, "asker").splitlines()
    counts = [int(line[3:]) for line in lines if line.startswith("ok ")]
    return max(counts, default=0), [line for line in lines if line.startswith("FAIL")]


async def asked(mesh: Mesh, name: str, path: str) -> str:
    """A page of Envoy's own."""
    code, out, err = await mesh.exec(name, ["curl", "-sg", f"localhost:15000/{path}"], "istio-proxy")
    assert code == 0, err
    return out


async def handshakes(mesh: Mesh) -> tuple[int, int]:
    """All that these Envoys made, and how many of them only resumed a session. None has failed."""
    pages = {name: await asked(mesh, name, "stats?filter=[.]ssl[.]") for name in CLOCKS}
    assert [line for page in pages.values() for line in page.splitlines() if FAILED.search(line)] == []
    made, resumed = (sum(int(n) for page in pages.values() for n in what.findall(page)) for what in (FULL, RESUMED))
    return made, resumed


async def steady(mesh: Mesh) -> None:
    """Wait until all pods answer all."""

    async def holds() -> bool:
        before = {name: told(mesh, name) for name in CLOCKS}

        async def more() -> bool:
            return all(told(mesh, name)[0] > before[name][0] + 2 * RATE for name in CLOCKS)

        await worlds.until("more answers", more, 60)
        return all(told(mesh, name)[1] == before[name][1] for name in CLOCKS)

    await worlds.until("all pods answer all", holds, 60)


async def off(mesh: Mesh, name: str) -> float:
    """Seconds by which the clock is ahead of which an Envoy took the time of its newest request."""
    before = len(LOGGED.findall(mesh.logs(name, "istio-proxy")))

    async def more() -> bool:
        return len(LOGGED.findall(mesh.logs(name, "istio-proxy"))) > before + 1

    await worlds.until("another request", more)
    said = dt.datetime.fromisoformat(LOGGED.findall(mesh.logs(name, "istio-proxy"))[-1])
    return (said - dt.datetime.now(dt.UTC)).total_seconds()


async def test_clocks_that_are_five_minutes_wrong_fail_no_handshake_and_renew_in_time(mesh: Mesh) -> None:
    await steady(mesh)
    for name, ahead in CLOCKS.items():
        assert abs(await off(mesh, name) - ahead) < 60, "Envoy has another clock"
    before = {name: len(got(mesh, name)) for name in CLOCKS}
    failed = {name: told(mesh, name)[1] for name in CLOCKS}
    earlier = await handshakes(mesh)

    async def renewed() -> bool:
        return all(len(got(mesh, name)) >= before[name] + RENEWALS for name in CLOCKS)

    took = await worlds.until(f"{RENEWALS} renewals of each", renewed, 60)
    await steady(mesh)
    counts = {name: len(got(mesh, name)) - before[name] for name in CLOCKS}
    assert max(counts.values()) - min(counts.values()) <= 1, "all renew equally often"
    assert took > (RENEWALS - 1) * PERIOD
    assert {name: told(mesh, name)[1] for name in CLOCKS} == failed
    made, resumed = (now - then for now, then in zip(await handshakes(mesh), earlier, strict=True))
    assert made - resumed > 0
    for name in CLOCKS:
        assert "ALARM" not in mesh.logs(name, "istio-proxy"), "five minutes are nothing"
        for each in json.loads(await asked(mesh, name, "certs"))["certificates"]:
            for leaf in each["cert_chain"]:
                begins, ends = (dt.datetime.fromisoformat(leaf[key]) for key in ("valid_from", "expiration_time"))
                assert ends - begins == dt.timedelta(seconds=LIFE, minutes=10), "it is dated back"
    figures.fault("FT33", f"0 of {made} handshakes failed ({resumed} resumed), {sum(counts.values())} renewals")
