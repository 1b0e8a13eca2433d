"""The six traffic types (features rows S43 to S46) with real iptables and the real Envoy, in an injected pod.

Rules of the nat table count connections, so the difference of their counters is a connection's path: TO_15001 and
TO_15006 are Envoy's doors. The app is asked who it saw.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from examples.demo.mesh import BookInfo
from node import network
from node.options import Options
from tests.story import worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]

OUT = "-A ISTIO_OUTPUT "
FROM_INBOUND = OUT + "-s 127.0.0.6/32 -o lo -j RETURN"
TO_SELF = OUT + "! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT"
APP_ON_LO = OUT + "-o lo -m owner ! --uid-owner 1337 -j RETURN"
PROXY_OUT = OUT + "-m owner --uid-owner 1337 -j RETURN"
CAPTURED = OUT + "-j ISTIO_REDIRECT"
TO_15001 = "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001"
TO_15006 = "-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006"
INBOUND = "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT"
TELLING = frozenset({FROM_INBOUND, TO_SELF, APP_ON_LO, CAPTURED, TO_15001, TO_15006, INBOUND})
"""Rules that nothing in the background meets. Probes go to 15020, and the proxy's own connections meet PROXY_OUT."""

PODS = """
apiVersion: v1
kind: Service
metadata: {name: ours}
spec:
  selector: {app: ours}
  ports: [{name: http, port: 8000, targetPort: 8081}]
---
apiVersion: v1
kind: Pod
metadata: {name: ours, labels: {app: ours}}
spec:
  containers:
    - {name: app, image: mccutchen/go-httpbin}
    - {name: second, image: mccutchen/go-httpbin, args: ["8081"]}
    - {name: shy, image: python, command: [python3, -m, http.server, "7000", --bind, 127.0.0.1]}
    - name: bound
      image: python
      command: [sh, -c, exec python3 -m http.server 7001 --bind $ADDRESS]
      env: [{name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
---
apiVersion: v1
kind: Namespace
metadata: {name: outside}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: outside}
spec:
  selector: {app: other}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: outside, labels: {app: other}}
spec:
  containers:
    - {name: app, image: mccutchen/go-httpbin}
"""
"""A pod of the mesh with four apps, and one that knows nothing of the mesh."""


@dataclass(slots=True)
class Pod:
    """A pod of the mesh, seen from the inside."""

    world: BookInfo
    name: str

    @property
    def address(self) -> str:
        return self.world.mesh.pod(self.name).state.address

    def vip(self, service: str, namespace: str = "") -> str:
        """A Service's address: a name would add connections to the name server."""
        return self.world.mesh.service_address(service, namespace)

    async def run(self, *command: str, container: str = "") -> str:
        code, out, err = await self.world.mesh.exec(self.name, command, container)
        assert code == 0, f"{command}: {code} {out}{err}"
        return out

    async def get(self, url: str, container: str = "") -> str:
        """What a URL answers; "" if nobody does."""
        ask = ("curl", "-s", "-m", "5", url)
        code, out, _ = await self.world.mesh.exec(self.name, ask, container or "app")
        return out if code == 0 else ""

    async def counters(self) -> dict[str, int]:
        """Rule -> connections, of the pod's nat table."""
        pid = self.world.mesh.pod(self.name).containers["istio-proxy"].pid
        text = await network.command("nsenter", "-t", str(pid), "-n", "iptables-save", "-c", "-t", "nat")
        lines = [line for line in text.splitlines() if " -A " in line]
        return {line.partition("] ")[2]: int(line[1:].partition(":")[0]) for line in lines}


@contextlib.asynccontextmanager
async def path(pod: Pod) -> AsyncIterator[dict[str, int]]:
    """Filled at the end with the TELLING rules that counted, and how many connections."""
    before = await pod.counters()
    hit: dict[str, int] = {}
    yield hit
    after = await pod.counters()
    hit |= {rule: count - before[rule] for rule, count in after.items() if rule in TELLING and count != before[rule]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pods() -> AsyncIterator[tuple[Pod, Pod]]:
    """Our pod, and the one outside."""
    async with worlds.world([worlds.MESH_SETTINGS, PODS], Options(gateway=False)) as world:
        ours, other = Pod(world, "ours"), Pod(world, "outside/other")

        async def up() -> bool:
            answers = [await ours.get(f"http://{ours.address}:{port}/") for port in (8080, 8081, 7001)]
            return all(answers) and bool(await ours.get("http://127.0.0.1:7000/"))

        await worlds.until("all apps listen", up)
        yield ours, other


async def test_type_1_remote_to_local_comes_in_at_15006_and_the_app_sees_127_0_0_6(pods: tuple[Pod, Pod]) -> None:
    ours, other = pods
    async with path(ours) as hit:
        answer = await other.get(f"http://{ours.address}:8080/ip")
    assert json.loads(answer) == {"origin": "127.0.0.6"}
    assert hit == {INBOUND: 1, TO_15006: 1, FROM_INBOUND: 1}


async def test_type_2_local_to_remote_leaves_through_15001_alone(pods: tuple[Pod, Pod]) -> None:
    ours, _ = pods
    before = (await ours.counters())[PROXY_OUT]
    async with path(ours) as hit:
        answer = await ours.get(f"http://{ours.vip('other', 'outside')}/ip")
    assert json.loads(answer) == {"origin": ours.address}
    assert hit == {CAPTURED: 1, TO_15001: 1}
    assert (await ours.counters())[PROXY_OUT] > before


@pytest.mark.parametrize("url", ["15090/stats/prometheus", "15020/stats/prometheus", "15021/healthz/ready"])
async def test_type_3_prometheus_and_probes_pass_capture_by(pods: tuple[Pod, Pod], url: str) -> None:
    ours, other = pods
    rule = f"-A ISTIO_INBOUND -p tcp -m tcp --dport {url[:5]} -j RETURN"
    before = (await ours.counters())[rule]
    async with path(ours) as hit:
        code, out, _ = await ours.world.mesh.exec(
            other.name, ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{ours.address}:{url}"]
        )
    assert (code, out) == (0, "200")
    assert hit == {}
    assert (await ours.counters())[rule] > before


async def test_type_4_local_to_local_by_the_service_crosses_15001_then_15006(pods: tuple[Pod, Pod]) -> None:
    ours, _ = pods
    async with path(ours) as hit:
        answer = await ours.get(f"http://{ours.vip('ours')}:8000/ip")
    assert json.loads(answer) == {"origin": "127.0.0.6"}
    assert hit == {CAPTURED: 1, TO_15001: 1, TO_SELF: 1, TO_15006: 1, FROM_INBOUND: 1}


async def test_type_5_what_envoy_does_on_lo_stays_there(pods: tuple[Pod, Pod]) -> None:
    """15090 is a listener of Envoy that asks Envoy's admin port over lo; the agent asks the same port."""
    ours, _ = pods
    before = (await ours.counters())[PROXY_OUT]
    async with path(ours) as hit:
        answer = await ours.run("curl", "-s", "127.0.0.1:15090/stats/prometheus", container="istio-proxy")
        assert "envoy_server_live" in answer
    assert hit == {}
    assert (await ours.counters())[PROXY_OUT] > before


async def test_type_6_the_sidecar_reaches_istiod_without_itself(pods: tuple[Pod, Pod]) -> None:
    ours, _ = pods
    address = ours.world.mesh.service_address("istiod", "istio-system")
    before = (await ours.counters())[PROXY_OUT]
    async with path(ours) as hit:
        await ours.run("curl", "-s", f"http://{address}:15014/ready", container="istio-proxy")
    assert hit == {}
    assert (await ours.counters())[PROXY_OUT] > before
    (seen,) = [proxy for proxy in await ours.world.proxies() if proxy["proxy"] == "ours.default"]
    assert seen["settled"]
    assert seen["identity"] == "spiffe://cluster.local/ns/default/sa/default"


async def test_a_pod_that_calls_itself_by_its_address_or_localhost_meets_no_envoy(pods: tuple[Pod, Pod]) -> None:
    ours, _ = pods
    async with path(ours) as hit:
        by_address = await ours.get(f"http://{ours.address}:8080/ip")
        by_localhost = await ours.get("http://127.0.0.1:8080/ip")
    assert json.loads(by_address) == {"origin": ours.address}
    assert json.loads(by_localhost) == {"origin": "127.0.0.1"}
    assert set(hit) == {APP_ON_LO}


async def test_an_app_on_the_pods_address_is_reached_and_one_on_lo_alone_is_not(pods: tuple[Pod, Pod]) -> None:
    ours, other = pods
    assert "Directory listing" in await other.get(f"http://{ours.address}:7001/")
    assert "Directory listing" in await ours.get("http://127.0.0.1:7000/")
    assert "Directory listing" not in await other.get(f"http://{ours.address}:7000/")
