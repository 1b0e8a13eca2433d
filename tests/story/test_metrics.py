"""Istio's metrics after known traffic, label by label, from both proxies' real scrapes (features rows Q1, Q2).

Every case asks a number of times and says which series its labels make; all that is scraped has to be in some case.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from examples.demo.mesh import BookInfo
from tests.charts import prometheus
from tests.story import panels, worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]

HELD = "{proxy.istio.io/config: '{\"holdApplicationUntilProxyStarts\": true}'}"
SLEEP = '{name: app, image: python, command: [sleep, "10000"]}'
ECHO = f'{{name: app, image: python, command: [{sys.executable}, -m, examples.echo, "7001,7003,7004,7009", v1]}}'
WORLD = f"""
apiVersion: v1
kind: Service
metadata: {{name: echo}}
spec:
  selector: {{app: echo}}
  ports: [{{name: http, port: 7001}}, {{name: grpc, port: 7003}}, {{name: tcp, port: 7004}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: echo-v1}}
spec:
  selector: {{matchLabels: {{app: echo, version: v1}}}}
  template:
    metadata: {{labels: {{app: echo, version: v1}}}}
    spec: {{serviceAccountName: server, containers: [{ECHO}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, labels: {{app: client, version: v7}}, annotations: {HELD}}}
spec: {{serviceAccountName: caller, containers: [{SLEEP}]}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: outside}}
---
apiVersion: v1
kind: Pod
metadata: {{name: stranger, namespace: outside, labels: {{app: stranger}}}}
spec: {{containers: [{SLEEP}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: other, namespace: outside}}
spec: {{clusterIP: None, selector: {{app: other}}, ports: [{{name: http, port: 7001}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: other, namespace: outside, labels: {{app: other}}}}
spec: {{containers: [{ECHO}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: all}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: ingress}}
spec:
  hosts: ["*"]
  gateways: [all]
  http: [{{route: [{{destination: {{host: echo, port: {{number: 7001}}}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo}}
spec:
  hosts: [echo]
  http:
    - match: [{{headers: {{fail: {{exact: "yes"}}}}}}]
      fault: {{abort: {{percentage: {{value: 100}}, httpStatus: 418}}}}
      route: [{{destination: {{host: echo}}}}]
    - match: [{{headers: {{fail: {{exact: "badly"}}}}}}]
      fault: {{abort: {{percentage: {{value: 100}}, httpStatus: 503}}}}
      route: [{{destination: {{host: echo}}}}]
    - route: [{{destination: {{host: echo}}}}]
"""
SAY: Final = (
    "import grpc; c = grpc.insecure_channel('echo:7003'); call = c.stream_stream('/echo.Echo/Say');"
    "print(list(call(iter([b'one', b'two', b'three']))))"
)
HELLO: Final = (
    "import socket; s = socket.create_connection(('echo', 7004)); s.sendall(b'hello\\n'); print(s.recv(100)); s.close()"
)
UNKNOWN: Final = "unknown"
_SAMPLE: Final = re.compile(r"(?P<name>istio_(?!agent|build)\w+)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
HTTP_METRICS: Final = (
    "istio_requests_total",
    "istio_request_duration_milliseconds_count",
    "istio_request_bytes_count",
    "istio_response_bytes_count",
)
OPENED, CLOSED = "istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"


def side(name: str, **parts: str) -> dict[str, str]:
    """The labels of one side; what is not given is unknown."""
    labels = {
        "workload": "workload",
        "namespace": "workload_namespace",
        "app": "app",
        "version": "version",
        "service": "canonical_service",
        "revision": "canonical_revision",
        "cluster": "cluster",
        "principal": "principal",
    }
    return {f"{name}_{label}": parts.get(part, UNKNOWN) for part, label in labels.items()}


def service(host: str = UNKNOWN, name: str = UNKNOWN, namespace: str = UNKNOWN) -> dict[str, str]:
    """The labels of a destination's service."""
    labels = ("destination_service", "destination_service_name", "destination_service_namespace")
    return dict(zip(labels, (host, name, namespace), strict=True))


def workload(name: str, service_name: str, version: str, **more: str) -> dict[str, str]:
    """What is known of a workload of namespace default."""
    known = {"workload": name, "namespace": "default", "app": service_name, "version": version}
    return known | {"service": service_name, "revision": version, "cluster": "Kubernetes"} | more


CALLER: Final = "spiffe://cluster.local/ns/default/sa/caller"
SERVER: Final = "spiffe://cluster.local/ns/default/sa/server"
INGRESS: Final = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway"
CLIENT: Final = workload("client", "client", "v7")
AS_ECHO: Final = workload("echo-v1", "echo", "v1")
ECHO_SERVICE: Final = service("echo.default.svc.cluster.local", "echo", "default")


def request(protocol: str = "http", code: str = "200", flags: str = "-", status: str = "") -> dict[str, str]:
    """The labels of a request."""
    said = {"request_protocol": protocol, "response_code": code, "response_flags": flags}
    return said | {"grpc_response_status": status}


def at_client(whom: Mapping[str, str], **more: str) -> dict[str, str]:
    """The labels that the client's proxy gives a call of the pod ``client``."""
    known = side("source", **CLIENT, principal=more.pop("principal", CALLER))
    return {"reporter": "source", "connection_security_policy": UNKNOWN, **known, **whom, **more}


def at_server(whom: Mapping[str, str], policy: str, **more: str) -> dict[str, str]:
    """The labels that echo's proxy gives a call."""
    principal = SERVER if policy == "mutual_tls" else UNKNOWN
    own = side("destination", **AS_ECHO, principal=principal)
    return {"reporter": "destination", "connection_security_policy": policy, **whom, **own, **more}


TO_ECHO: Final = {**side("destination", **AS_ECHO, principal=SERVER), **ECHO_SERVICE}
FROM_CLIENT: Final = side("source", **CLIENT, principal=CALLER)
TCP: Final = {"request_protocol": "tcp", "response_flags": "-"}

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(slots=True)
class World:
    """The running mesh, and what the pods' proxies have counted."""

    book: BookInfo

    def pod(self, app: str) -> str:
        """The one pod whose name begins so."""
        (found,) = [n for p in self.book.mesh.pods() if (n := p["metadata"]["name"]).startswith(app)]
        return str(found)

    async def run(self, pod: str, *command: str) -> str:
        code, out, err = await self.book.mesh.exec(pod, command, "app")
        assert code == 0, f"{command}: {code} {out}{err}"
        return out

    async def curl(self, pod: str, *arguments: str) -> str:
        return await self.run(pod, "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", *arguments)

    async def said(self, pod: str, port: int = 15090) -> str:
        """What a pod's proxy says to Prometheus."""
        command = ("curl", "-s", "-m", "5", f"http://127.0.0.1:{port}/stats/prometheus")
        code, out, err = await self.book.mesh.exec(self.pod(pod), command, "istio-proxy")
        assert code == 0, err
        return out

    async def scraped(self, pod: str, port: int = 15090) -> dict[Series, float]:
        """Series of Istio's metrics but for buckets and sums -> value."""
        found = {}
        for sample in _SAMPLE.finditer(await self.said(pod, port)):
            if not sample["name"].endswith(("_bucket", "_sum")):
                labels = frozenset(_LABEL.findall(sample["labels"]))
                assert (sample["name"], labels) not in found
                found[sample["name"], labels] = float(sample["value"])
        return found

    async def counted(self, pod: str, expected: Mapping[Series, float], before: Mapping[Series, float]) -> None:
        """Wait until a pod's proxy has counted this since, and nothing else."""
        grown: dict[Series, float] = {}

        async def equal() -> bool:
            now = await self.scraped(pod)
            grown.clear()
            grown.update((key, value - before.get(key, 0)) for key, value in now.items() if value != before.get(key))
            return grown == expected

        try:
            await worlds.until("the expected series", equal, deadline=15)
        except AssertionError:
            assert told(grown) == told(expected)
            raise


def told(series: Mapping[Series, float]) -> dict[str, float]:
    """As text that pytest compares line by line."""
    return {f"{name} {sorted(labels)}": value for (name, labels), value in series.items()}


def http(labels: Mapping[str, str], count: int) -> dict[Series, float]:
    """The series of so many requests."""
    return {(name, frozenset(labels.items())): count for name in HTTP_METRICS}


def tcp(labels: Mapping[str, str], sent: int, received: int) -> dict[Series, float]:
    """The series of a connection that has ended."""
    values = {OPENED: 1, CLOSED: 1, "istio_tcp_sent_bytes_total": sent, "istio_tcp_received_bytes_total": received}
    return {(name, frozenset(labels.items())): value for name, value in values.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    async with worlds.world([worlds.MESH_SETTINGS, WORLD]) as book:
        yield World(book)


@contextlib.asynccontextmanager
async def counting(world: World, **expected: Mapping[Series, float]) -> AsyncIterator[None]:
    """What is done in here makes these series grow, pod by pod; no other."""
    before = {pod: await world.scraped(pod) for pod in expected}
    yield
    await asyncio.gather(*(world.counted(pod, expected[pod], before[pod]) for pod in expected))


async def test_http_by_mesh_mtls(world: World) -> None:
    labels = request()
    client = http(at_client(TO_ECHO, **labels), 3)
    server = http(at_server(FROM_CLIENT | ECHO_SERVICE, "mutual_tls", **labels), 3)
    async with counting(world, client=client, echo=server):
        for _ in range(3):
            assert await world.curl("client", "http://echo:7001/") == "200"


def messages(labels: Mapping[str, str], asked: int, answered: int) -> dict[Series, float]:
    """The series of so many gRPC messages: of the other side they know the service only, and nothing of a request."""
    counts = {"istio_request_messages_total": asked, "istio_response_messages_total": answered}
    return {(name, frozenset(labels.items())): count for name, count in counts.items()}


async def test_grpc_has_its_status_and_its_messages(world: World) -> None:
    labels = request("grpc", status="0")
    client = http(at_client(TO_ECHO, **labels), 1)
    nobody = {"reporter": "source", **side("source", **CLIENT), **side("destination"), **ECHO_SERVICE}
    client |= messages(nobody, 3, 3)
    server = http(at_server(FROM_CLIENT | ECHO_SERVICE, "mutual_tls", **labels), 1)
    anybody = {"reporter": "destination", **side("source"), **side("destination", **AS_ECHO), **service()}
    server |= messages(anybody, 3, 3)
    async with counting(world, client=client, echo=server):
        assert "three" in await world.run("client", sys.executable, "-c", SAY)


async def test_tcp_counts_bytes_when_a_connection_ends(world: World) -> None:
    client = tcp(at_client(TO_ECHO, **TCP), 6, 6)
    proven = side("source", namespace="default", principal=CALLER)
    server = tcp(at_server(proven | ECHO_SERVICE, "mutual_tls", **TCP), 6, 6)
    async with counting(world, client=client, echo=server):
        assert "hello" in await world.run("client", sys.executable, "-c", HELLO)


async def test_a_stranger_in_plaintext_is_unknown_whatever_it_says(world: World) -> None:
    address = world.book.mesh.pod(world.pod("echo")).state.address
    server = http(at_server(side("source") | ECHO_SERVICE, "none", **request()), 2)
    lie = "x-envoy-peer-metadata: admin;kube-system;admin;v9;admin;v9;Kubernetes"
    async with counting(world, echo=server):
        for _ in range(2):
            assert await world.curl("stranger", "-H", lie, f"http://{address}:7001/") == "200"


async def test_a_port_that_no_service_declares(world: World) -> None:
    address = world.book.mesh.pod(world.pod("echo")).state.address
    passing = service(name="InboundPassthroughCluster")
    server = http(at_server(side("source") | passing, "none", **request()), 1)
    async with counting(world, echo=server):
        assert await world.curl("stranger", f"http://{address}:7009/") == "200"


async def test_passthrough_names_its_cluster_and_not_the_host(world: World) -> None:
    address = world.book.mesh.pod("other").state.address
    nobody = {**side("destination"), **service(name="PassthroughCluster")}
    client = http(at_client(nobody, **request(), principal=UNKNOWN), 2)
    async with counting(world, client=client):
        for host in ("a.example", "b.example"):
            assert await world.curl("client", "-H", f"Host: {host}", f"http://{address}:7001/") == "200"


async def test_an_injected_fault_is_the_services_and_no_servers(world: World) -> None:
    labels = request(code="418", flags="FI")
    client = http(at_client({**side("destination"), **ECHO_SERVICE}, **labels, principal=UNKNOWN), 2)
    async with counting(world, client=client, echo={}):
        for _ in range(2):
            assert await world.curl("client", "-H", "fail: yes", "http://echo:7001/") == "418"


async def test_a_gateway_is_a_source(world: World) -> None:
    gateway = workload("istio-ingressgateway", "istio-ingressgateway", UNKNOWN, namespace="istio-system")
    gateway |= {"service": "istio-ingressgateway", "revision": "latest", "principal": INGRESS}
    server = http(at_server(side("source", **gateway) | ECHO_SERVICE, "mutual_tls", **request()), 2)
    async with counting(world, echo=server):
        for _ in range(2):
            assert (await world.book.client.get("/")).status == 200


async def test_both_ports_give_the_same_names(world: World) -> None:
    merged = await world.scraped("client", 15020)
    assert merged.keys() == (await world.scraped("client")).keys()


async def traffic(world: World) -> None:
    """A call of each kind that something counts."""
    for headers in ((), ("-H", "fail: yes"), ("-H", "fail: badly")):
        await world.curl("client", *headers, "http://echo:7001/")
    await world.run("client", sys.executable, "-c", SAY)
    await world.run("client", sys.executable, "-c", HELLO)
    address = world.book.mesh.pod(world.pod("echo")).state.address
    for port in (7001, 7010):  # where nobody listens the server's proxy says so
        await world.curl("stranger", f"http://{address}:{port}/")
    await world.book.client.get("/")


@pytest.mark.long
@pytest.mark.timeout(900)
@prometheus.NEEDS_GO
async def test_every_query_of_a_dashboard_finds_a_number(world: World, tmp_path: Path) -> None:
    asker = panels.Asker(program=await asyncio.to_thread(prometheus.built, tmp_path))
    ports, silent = itertools.count(8000), list[str]()
    moments = itertools.count(time.time(), 15)  # as Prometheus scrapes, however long a busy machine takes

    async def found() -> bool:
        moment = next(moments)
        await traffic(world)
        await world.book.converge(panels.CHANGE.format(port=next(ports)))
        for pod in ("client", "echo", "istio-ingressgateway"):
            space = "istio-system" if pod.startswith("istio") else "default"
            asker.add(moment, await world.said(pod, 15020), pod=world.pod(pod), namespace=space)
        asker.add(moment, await world.book.metrics(), pod="istiod", namespace="istio-system", app="istiod")
        silent[:] = await asyncio.to_thread(asker.silent)
        return not panels.unexpected(silent)

    with contextlib.suppress(AssertionError):  # it says what was waited for, and not what is missing
        await worlds.until("numbers", found, deadline=300)
    assert panels.unexpected(silent) == []
    assert [part for part in panels.SILENT if not any(part in each for each in silent)] == []
