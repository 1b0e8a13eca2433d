"""A control plane that reads a folder, in this process, and a delta client of it that does as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import struct_pb2

from istiod import app
from tests.istiod.test_app import free_address, with_keys
from tests.waiting import until

SHOP = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: shop}
spec: {clusterIP: 10.96.0.2, selector: {app: idle}, ports: [{name: http, port: 80}, {name: tcp, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: web, containers: [{name: app, image: web}]}
status: {phase: Running, podIP: 10.244.0.9, podIPs: [{ip: 10.244.0.9}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.244.0.9], conditions: {ready: true}, targetRef: {kind: Pod, name: web-1, namespace: shop}}
- {addresses: [10.244.0.10], conditions: {ready: false}, targetRef: {kind: Pod, name: web-2, namespace: shop}}
"""
_SERIES = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)")
Response = discovery_pb2.DeltaDiscoveryResponse


def series(text: str) -> dict[str, float]:
    """Every series of a scrape, by its name and labels as they are written."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            matched = _SERIES.fullmatch(line)
            assert matched, line
            found[matched[1] + (matched[2] or "")] = float(matched[3])
    return found


@dataclass
class Client:
    """One stream of one proxy."""

    call: Any
    node: str = "sidecar~10.244.0.9~web-1.shop~shop.svc.cluster.local"
    version: str = "1.30.0"

    async def ask(self, type_url: str, *names: str) -> None:
        asked = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=names)
        asked.node.id = self.node
        asked.node.metadata.fields["ISTIO_VERSION"].CopyFrom(struct_pb2.Value(string_value=self.version))
        asked.node.metadata.fields["LABELS"].struct_value.fields["app"].string_value = "web"
        await self.call.write(asked)

    async def read(self) -> Response:
        response: Response = await asyncio.wait_for(self.call.read(), 20)
        return response

    async def accept(self) -> None:
        """Take all that comes."""
        while (response := await self.call.read()) is not grpc.aio.EOF:
            await self.answer(response)

    async def answer(self, response: Response, error: str = "") -> None:
        said = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if error:
            said.error_detail.message = error
        await self.call.write(said)


class Plane:
    """What a test sees of it: its folder, its pages, and streams."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession, page: str, grpc_address: str) -> None:
        self.folder = folder
        self._session = session
        self._page = page
        self._grpc = grpc_address

    def write(self, text: str, name: str = "shop.yaml") -> None:
        fresh = self.folder / f".{name}"
        fresh.write_text(text)
        fresh.rename(self.folder / name)

    async def text(self, path: str, status: int = 200) -> str:
        async with self._session.get(f"{self._page}{path}") as answer:
            said = await answer.text()
            assert answer.status == status, said
            return said

    async def json(self, path: str) -> Any:
        async with self._session.get(f"{self._page}{path}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        async with self._session.post(f"{self._page}{path}", headers=headers or {}) as answer:
            return answer.status, await answer.text()

    async def scrape(self) -> dict[str, float]:
        return series(await self.text("/metrics"))

    async def reads(self, name: str, value: float) -> None:
        """Wait until a series has a value."""

        async def has() -> bool:
            return (await self.scrape()).get(name) == value

        await until(has, f"{name} {value}")

    @contextlib.asynccontextmanager
    async def client(self, **said: str) -> AsyncIterator[Client]:
        async with grpc.aio.insecure_channel(self._grpc) as channel:
            call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
            yield Client(call, **said)
            call.cancel()

    async def is_ready(self) -> bool:
        try:
            async with self._session.get(f"{self._page}/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False


@contextlib.asynccontextmanager
async def serving(folder: Path, text: str = SHOP) -> AsyncIterator[Plane]:
    settings = with_keys(folder, grpc_address=free_address(), ca_address=free_address())
    stop = asyncio.Event()
    running = asyncio.create_task(app.ControlPlane(settings).run(stop))
    async with aiohttp.ClientSession() as session:
        made = Plane(folder / "config", session, f"http://{settings.monitoring_address}", settings.grpc_address)
        made.write(text)
        await until(made.is_ready, "it serves")
        yield made
    stop.set()
    await asyncio.wait_for(running, 10)
