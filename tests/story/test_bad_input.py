"""What users get wrong: each mistake is one line that names file, line, object and field, and costs nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
import pytest_asyncio
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from e2e.harness.ports import free_ports
from tests.story import worlds
from wire import names

pytestmark = pytest.mark.asyncio(loop_scope="module")
REPOSITORY = Path(__file__).resolve().parent.parent.parent
DEADLINE = 20.0
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
BASE = """
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 5000}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: default}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 5000}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: default}
spec:
  host: shop
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: other, namespace: default}
spec:
  hosts: [other]
  http: [{name: untouched, route: [{destination: {host: other}}]}]
"""
GOOD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: default}
spec:
  hosts: [shop]
  http:
    - name: good
      route:
        - destination: {host: shop, subset: v1}
"""
HEAD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: default}
spec:
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A mistake: the file with ``# <--`` on the line that the finding has to name, and the finding without its place.

    ``serves`` is the name of shop's first rule afterwards: "good" where the last good version goes on.
    """

    name: str
    text: str
    finding: str
    serves: str = "good"

    @property
    def line(self) -> int:
        """The marked line, from 1."""
        return next(number for number, line in enumerate(self.text.splitlines(), 1) if "# <--" in line)


CASES = (
    Case("malformed YAML", HEAD + "  hosts: [shop\n  http: [] # <--\n", "M0001 - -: "),
    Case(
        "unknown kind",
        "apiVersion: networking.istio.io/v1\nkind: VirtualServce # <--\nmetadata: {name: shop}\n" + "---" + GOOD,
        "M0003 VirtualServce/shop kind: ",
    ),
    Case(
        "a weight sum of 0",
        HEAD
        + """  hosts: [shop]
  http:
    - name: bad
      route: # <--
        - destination: {host: shop, subset: v1}
          weight: 0
        - destination: {host: shop}
          weight: 0
""",
        "M0101 VirtualService/default/shop spec.http[0].route: ",
    ),
    Case(
        "a missing subset",
        HEAD
        + """  hosts: [shop]
  http:
    - name: bad
      route:
        - destination:
            host: shop
            subset: v9 # <--
""",
        "M0102 VirtualService/default/shop spec.http[0].route[0].destination.subset: ",
        "bad",
    ),
    Case(
        "duplicate hosts",
        GOOD.lstrip()
        + """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: zweiter, namespace: default}
spec:
  hosts: # <--
    - shop
  http: [{route: [{destination: {host: shop}}]}]
""",
        "M0104 VirtualService/default/zweiter spec.hosts: ",
    ),
    Case(
        "an unknown field",
        GOOD + "      timeOut: 5s # <--\n",
        "M0004 VirtualService/default/shop spec.http[0].timeOut: ",
    ),
    Case(
        "a bad regular expression",
        HEAD
        + """  hosts: [shop]
  http:
    - name: bad
      match:
        - uri:
            regex: "a((" # <--
      route: [{destination: {host: shop}}]
""",
        "M0107 VirtualService/default/shop spec.http[0].match[0].uri.regex: ",
    ),
    Case(
        "an unknown gateway",
        GOOD.replace(
            "  hosts: [shop]\n", "  hosts: [shop]\n  gateways: # <--\n    - mesh\n    - nosuch\n"
        ),
        "M0105 VirtualService/default/shop spec.gateways: ",
    ),
)  # fmt: skip


@dataclass(slots=True)
class Istiod:
    """A running ``istiod discovery`` over a folder, and what it has written to standard error."""

    folder: Path
    grpc_address: str
    debug: str
    lines: list[str] = field(default_factory=list)

    async def says(self, start: str) -> str:
        """The line that starts so."""

        async def said() -> bool:
            return any(line.startswith(start) for line in self.lines)

        await worlds.until(f"a line {start}", said)
        return next(line for line in self.lines if line.startswith(start))

    async def page(self, path: str) -> Any:
        """A debug page."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.debug}{path}") as answer:
            return await answer.json()

    async def findings(self) -> list[str]:
        """The findings of /debug/diagnosticsz as FILE:LINE CODE."""
        return [f"{each['file']}:{each['line']} {each['code']}" for each in await self.page("/debug/diagnosticsz")]

    async def clear(self) -> None:
        """Wait until there is no finding."""

        async def nothing() -> bool:
            return not await self.findings()

        await worlds.until("no finding", nothing)

    async def rules(self) -> dict[str, list[str]]:
        """Host -> names of its routes, as a sidecar of the namespace default is served on port 5000."""
        async with grpc.aio.insecure_channel(self.grpc_address) as channel, asyncio.timeout(DEADLINE):
            call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(METHOD)()
            request = discovery_pb2.DiscoveryRequest(type_url=names.ROUTE, resource_names=["5000"])
            request.node.id = "sidecar~10.0.0.9~asker.default~default.svc.cluster.local"
            json_format.ParseDict({"NAMESPACE": "default"}, request.node.metadata)
            await call.write(request.SerializeToString())
            read = await call.read()
            assert isinstance(read, bytes)
            answer = discovery_pb2.DiscoveryResponse.FromString(read)
            call.cancel()
        table = route_pb2.RouteConfiguration()
        assert answer.resources[0].Unpack(table)
        hosts = [host for host in table.virtual_hosts if host.name != "allow_any"]
        return {host.name.split(".")[0]: [route.name for route in host.routes] for host in hosts}


def free_address() -> str:
    """A free port of the loopback."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@contextlib.asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`istiod discovery` with these arguments; ended at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "istiod", "discovery", *arguments), cwd=REPOSITORY, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def istiod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Istiod]:
    folder = tmp_path_factory.mktemp("config")
    (folder / "base.yaml").write_text(BASE)
    (folder / "case.yaml").write_text(GOOD)
    xds, debug = free_address(), free_address()
    found = Istiod(folder, xds, f"http://{debug}")
    flags = (f"--configDir={folder}", f"--grpcAddr={xds}", f"--monitoringAddr={debug}")
    async with program(*flags) as process:

        async def read() -> None:
            assert process.stderr is not None
            async for line in process.stderr:
                found.lines.append(line.decode().rstrip())

        reading = asyncio.create_task(read())
        await found.says("istiod: ready")
        yield found
        process.terminate()
        # Before anything else asks: whoever polls a dead child takes its exit code away from asyncio.
        await process.wait()
        await reading
    assert process.returncode == 0
    assert not [line for line in found.lines if "Traceback" in line]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_mistake_is_one_line_and_costs_nobody_else(istiod: Istiod, case: Case) -> None:
    file = istiod.folder / "case.yaml"
    istiod.lines.clear()
    file.write_text(case.text)
    place = f"{file}:{case.line} "
    line = await istiod.says(str(file))
    assert line.startswith(place + case.finding), line
    assert line.removeprefix(place + case.finding)
    assert await istiod.findings() == [place + case.finding[:5]]
    assert (await istiod.rules()) == {"other": ["untouched"], "shop": [case.serves]}
    file.write_text(GOOD)
    await istiod.clear()
    assert (await istiod.rules()) == {"other": ["untouched"], "shop": ["good"]}
    assert istiod.lines == [line]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--configDir=.", "--grpcAddr=192.0.2.1:15010"), "loopback"),
        (("--grpcAddr=127.0.0.1:0",), "--configDir"),
        (("--configDir=.", "--monitoringAddr=TAKEN"), "TAKEN"),
        (("--configDir=.", "--grpcAddr=TAKEN"), "TAKEN"),
    ],
    ids=["plaintext for strangers", "no folder", "taken debug port", "taken port"],
)
async def test_flags_that_cannot_work_are_one_line_and_exit_code_1(flags: tuple[str, ...], message: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        async with program(*(flag.replace("TAKEN", f"127.0.0.1:{port}") for flag in flags)) as process:
            async with asyncio.timeout(DEADLINE):
                _, said = await process.communicate()
    lines = said.decode().splitlines()
    assert process.returncode == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("istiod: ")
    assert message.replace("TAKEN", port) in lines[0]
