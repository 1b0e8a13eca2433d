"""A real Envoy under test: bootstrap, process, admin interface, and small servers for it to reach."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp

from tests import envoys
from tests.waiting import until


def bootstrap(admin: Path, ads_port: int, *, delta: bool) -> dict[str, object]:
    """As the agent's, as far as these tests need it."""
    del admin
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    xds = {
        "name": "xds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "xds-grpc",
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ads_port}}}}
                    ]
                }
            ],
        },
    }
    retry = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}}
    return {
        "node": {"id": "sidecar~127.0.0.1~app.demo~demo.svc.cluster.local", "cluster": "app.demo"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "cds_config": source,
            "lds_config": source,
            "ads_config": {
                "api_type": "DELTA_GRPC" if delta else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": retry}}],
            },
        },
        "static_resources": {"clusters": [xds]},
    }


class RunningEnvoy:
    """An Envoy process; ask it over its admin port."""

    def __init__(self, admin: str, http: aiohttp.ClientSession, pid: int = 0) -> None:
        self.pid = pid
        self._admin = admin
        self._http = http

    async def admin(self, path: str) -> str:
        async with self._http.get(f"http://{self._admin}{path}") as response:
            return await response.text()

    async def stat(self, name: str) -> int:
        text = await self.admin(f"/stats?filter=^{name}$")
        return int(text.rpartition(":")[2]) if text.strip() else 0

    async def clusters(self) -> set[str]:
        return {line.partition("::")[0] for line in (await self.admin("/clusters")).splitlines()}

    async def get(self, port: int) -> str:
        """What a listener answers: the upstream's text, or ``status 503``."""
        try:
            async with self._http.get(f"http://127.0.0.1:{port}/") as response:
                return await response.text() if response.status == 200 else f"status {response.status}"
        except aiohttp.ClientError as error:
            return type(error).__name__

    async def total(self, suffix: str) -> int:
        """The sum of all counters whose names end so."""
        lines = (await self.admin(f"/stats?filter={suffix}$")).splitlines()
        return sum(int(line.rpartition(":")[2]) for line in lines)

    async def answers_ok(self, port: int) -> bool:
        return not (await self.get(port)).startswith(("status", "Client"))

    async def answers(self, port: int, text: str) -> bool:
        return await self.get(port) == text


@contextlib.asynccontextmanager
async def envoy(
    folder: Path,
    ads_port: int,
    *,
    delta: bool,
    more: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[RunningEnvoy]:
    """An Envoy from start to end; ``more`` replaces parts of its bootstrap, ``environment`` comes beside ours."""
    admin, config = folder / "admin.txt", folder / "bootstrap.json"
    config.write_text(json.dumps({**bootstrap(admin, ads_port, delta=delta), **(more or {})}))
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            envoys.binary(),
            *("-c", str(config), "--admin-address-path", str(admin), "--use-dynamic-base-id", "--concurrency", "1"),
            *("--drain-time-s", "1", "-l", "info"),
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
        )
        try:
            await until(lambda: admin.exists() and bool(admin.read_text()), "Envoy's admin address")
            async with aiohttp.ClientSession() as http:
                yield RunningEnvoy(admin.read_text(), http, process.pid)
        finally:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def app(text: str) -> AsyncIterator[int]:
    """A server that answers every request with this text; gives its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
