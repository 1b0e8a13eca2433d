"""The six traffic types (features rows S43 to S46) with real iptables and the real Envoy, in an injected pod.

And rules of which only captured traffic tells the effect: the address that an app wanted to go to is known (rows F1,
G4, H3, H8, R2).

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
  ports: [{name: http, port: 80, targetPort: 8080}, {name: http-files, port: 7000, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: outside, labels: {app: other}}
spec:
  containers:
    - {name: app, image: mccutchen/go-httpbin}
    - {name: files, image: python, command: [python3, -m, http.server, "7000"]}
    - name: tls
      image: python
      command:
        - sh
        - -c
        - openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /tmp/key -out /tmp/pem
          -subj /CN=any && exec openssl s_server -accept 7443 -key /tmp/key -cert /tmp/pem -www -quiet
"""
"""A pod of the mesh with four apps, and one that knows nothing of the mesh, with three."""


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

    async def asked(self, url: str, *more: str) -> str:
        """The status of an answer, and its text; "000" where there is none."""
        ask = ("curl", "-s", "-k", "-m", "5", "-w", "%{http_code}", *more, url)
        return (await self.world.mesh.exec(self.name, ask, "app"))[1]

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
            answers += [await other.asked(f"https://{other.address}:7443/"), await other.get("http://127.0.0.1:7000/")]
            return all(answers) and "000" not in answers and bool(await ours.get("http://127.0.0.1:7000/"))

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


@contextlib.asynccontextmanager
async def ruled(pod: Pod, text: str, *gone: tuple[str, str]) -> AsyncIterator[None]:
    """Objects of Istio that go afterwards, by kind and name."""
    await pod.world.converge(text)
    try:
        yield
    finally:
        for kind, name in gone:
            await pod.world.withdraw(kind, name)


async def until(pod: Pod, expected: str, url: str, *more: str) -> None:
    """Wait until an answer has this in its text or status: a change is known a moment after it was acknowledged."""
    answers: list[str] = []

    async def so() -> bool:
        answers.append(await pod.asked(url, *more))
        return expected in answers[-1]

    try:
        await worlds.until(f"{url} answers {expected}", so)
    except AssertionError:
        assert expected in answers[-1]
        raise


FILES = "Directory listing"
BALANCED = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: other}
spec: {host: other.outside.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}
"""


async def test_passthrough_leaves_the_choice_of_an_endpoint_to_the_app(pods: tuple[Pod, Pod]) -> None:
    """Its address and port count, though the Service leads to another port of the same pod (row G4)."""
    ours, other = pods
    said = f"http://{other.address}:7000/", "-H", "host: other.outside:7000"
    before = await ours.asked(*said)
    assert (before[-3:], FILES in before) == ("200", False)
    async with ruled(ours, BALANCED, ("DestinationRule", "other")):
        await until(ours, FILES, *said)


ADDRESS = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: address}}
spec: {{hosts: ["{address}"], http: [{{directResponse: {{status: 418}}}}]}}
"""


async def test_a_rule_may_be_for_an_address(pods: tuple[Pod, Pod]) -> None:
    """One that no service has, on port 80 (row F1)."""
    ours, other = pods
    url = f"http://{other.address}/"
    assert (await ours.asked(url))[-3:] != "418"
    async with ruled(ours, ADDRESS.format(address=other.address), ("VirtualService", "address")):
        await until(ours, "418", url)


STRICT = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: strict}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ["*/*"]}]}
"""
WILD = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild}
spec:
  hosts: ["*.wild.example"]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [{number: 7000, name: http, protocol: HTTP}, {number: 7443, name: tls, protocol: TLS}]
"""


async def test_hosts_without_resolution_are_where_the_app_says(pods: tuple[Pod, Pod]) -> None:
    """Only those of the pattern: by the request's host, and by the server name where it is TLS (rows H3, H8)."""
    ours, other = pods
    http = f"http://{other.address}:7000/"

    def tls(name: str) -> tuple[str, ...]:
        return f"https://{name}:7443/", "--resolve", f"{name}:7443:{other.address}"

    async with ruled(ours, STRICT, ("Sidecar", "strict")):
        await until(ours, "502", http, "-H", "host: a.wild.example")
        await until(ours, "000", *tls("a.wild.example"))
        async with ruled(ours, WILD, ("ServiceEntry", "wild")):
            await until(ours, FILES, http, "-H", "host: a.wild.example")
            assert await ours.asked(http, "-H", "host: a.tame.example") == "502"
            await until(ours, "200", *tls("a.wild.example"))
            assert await ours.asked(*tls("a.tame.example")) == "000"


LOCAL = """
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {selector: {app: ours}, ports: [{name: http-shy, port: 7000}, {name: http-bound, port: 7001}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    inboundTrafficPolicy: {mode: LOCALHOST}
"""


async def test_apps_of_a_mesh_may_be_asked_at_localhost(pods: tuple[Pod, Pod]) -> None:
    """Then one that listens there alone is reached, and one at the pod's address is not (row R2)."""
    ours, other = pods
    shy, bound = (f"http://{ours.address}:{port}/" for port in (7000, 7001))
    assert FILES not in await other.asked(shy)
    assert FILES in await other.asked(bound)
    try:
        await ours.world.converge(LOCAL)
        await until(other, FILES, shy)
        assert FILES not in await other.asked(bound)
    finally:
        await ours.world.converge(worlds.MESH_SETTINGS)
        await ours.world.withdraw("Service", "local")
