"""The mesh that is measured: istiod, two injected pods, two with minimal Envoys; load between them, CPU from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from bench import identities, processes
from bench.dataplane import minimal, pods
from bench.dataplane.variants import ALL, Variant
from bench.processes import BenchError
from node.mesh import Mesh
from node.options import Options
from wire import names

PATIENCE: Final = 180.0
_CALM: Final = 1.0
"""Seconds without a change after which the proxies have what they were told."""
OURS, MINIMAL = "default", pods.PLAIN
"""Namespaces, by the proxies of their pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """``rate`` requests a second, whose bodies and answers have ``size`` bytes."""

    rate: int
    size: int

    def __str__(self) -> str:
        return f"{self.rate}/s of {self.size} bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a measurement found: delays in ms, CPU of client's and server's Envoy in µs a request."""

    p50: float
    p99: float
    client: float
    server: float
    late: int

    @property
    def cpu(self) -> float:
        """Of both."""
        return self.client + self.server


class Rig:
    """The running mesh."""

    def __init__(self, mesh: Mesh, pages: str) -> None:
        self.mesh = mesh
        self._pages = pages
        self._variant = ALL

    async def take(self, namespace: str, load: Load, seconds: float) -> Taken:
        """Measure the pods of a namespace; connections are made, and code is read, before.

        Raises:
            BenchError: a request failed.
        """
        await self._ask(namespace, load, 1)
        client, server = self.envoy(f"{namespace}/client"), self.envoy(f"{namespace}/server")
        before = processes.cpu(client), processes.cpu(server)
        found = await self._ask(namespace, load, seconds)
        micro = 1e6 / found["requests"]
        return Taken(
            p50=found["p50_ms"],
            p99=found["p99_ms"],
            client=(processes.cpu(client) - before[0]) * micro,
            server=(processes.cpu(server) - before[1]) * micro,
            late=found["late"],
        )

    async def _ask(self, namespace: str, load: Load, seconds: float) -> Any:
        url = f"http://server.{namespace}:{minimal.PORT}/echo"
        command = [str(pods.PROGRAM), "-url", url, "-rate", str(load.rate), "-seconds", str(seconds)]
        code, out, err = await self.mesh.exec(f"{namespace}/client", [*command, "-bytes", str(load.size)], "app")
        if code:
            raise BenchError(f"load: {err}")
        found = json.loads(out)
        if found["failed"]:
            raise BenchError(f"{found['failed']} of {found['requests']} requests failed: {found['why']}")
        return found

    def envoy(self, pod: str) -> int:
        """The process id of a pod's Envoy, which is its container's, or its agent's child."""
        containers = self.mesh.pod(pod).containers
        if "envoy" in containers:
            return containers["envoy"].pid
        agent = containers["istio-proxy"].pid
        children = pathlib.Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        for child in children:
            if pathlib.Path(f"/proc/{child}/comm").read_text().startswith("envoy"):
                return int(child)
        raise BenchError(f"{pod} has no Envoy")

    async def use(self, variant: Variant) -> None:
        """Have our sidecars work as the variant says."""
        if variant != self._variant:
            await self.change(lambda: self.mesh.apply(variant.text()))
            self._variant = variant

    async def change(self, make: Callable[[], Awaitable[object]]) -> None:
        """Make a change of configuration and wait until both sidecars have all of it.

        Raises:
            BenchError: they did not.
        """
        before = await self._targets()
        await make()
        await self._until("a change reached the sidecars", lambda now: now != before)
        await self.settled()

    async def settled(self) -> None:
        """Wait until both sidecars have had all there is for a while."""
        last: list[int] = []
        since = asyncio.get_running_loop().time()

        def calm(now: list[int]) -> bool:
            nonlocal last, since
            if now != last or not now:
                last, since = now, asyncio.get_running_loop().time()
            return asyncio.get_running_loop().time() - since > _CALM

        await self._until("the sidecars are settled", calm)

    async def _until(self, what: str, holds: Callable[[list[int]], bool]) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + PATIENCE
        while True:
            if holds(await self._targets()):
                return
            if clock() > end:
                raise BenchError(f"waited {PATIENCE:g} s in vain: {what}")
            await asyncio.sleep(0.05)

    async def _targets(self) -> list[int]:
        """The numbers of what each sidecar is to have; nothing while one of them has not got it."""
        found = await asyncio.to_thread(processes.fetch, f"{self._pages}/debug/syncz") or []
        return sorted(one["target"] for one in found) if all(one["settled"] for one in found) else []

    async def admin(self, pod: str, path: str) -> str:
        """What a pod's Envoy answers at its admin port."""
        code, out, err = await self.mesh.exec(pod, ["curl", "-sS", f"http://127.0.0.1:15000{path}"], "istio-proxy")
        if code:
            raise BenchError(f"admin of {pod}: {err}")
        return out


@contextlib.asynccontextmanager
async def running(home: pathlib.Path) -> AsyncIterator[Rig]:
    """The mesh from its start to its end, with everything on.

    Raises:
        BenchError: the program that asks and answers has not been built.
        node.errors.MeshError: no root, missing programs, or pods that do not become ready.
    """
    if not pods.PROGRAM.exists():
        raise BenchError("build/load is not there: make build/load")
    identities.write(home, [(MINIMAL, name) for name in ("client", "server")])
    options = Options(gateway=False, images=pods.IMAGES, grace=1.0)
    async with Mesh((), options) as mesh:
        await mesh.apply(ALL.text())
        await mesh.apply(pods.injected())
        await mesh.apply(pods.plain_server(_folder(home, "server", minimal.server())))
        await mesh.ready(PATIENCE)
        address = mesh.pod(f"{MINIMAL}/server").state.address
        await mesh.apply(pods.plain_client(_folder(home, "client", minimal.client(address))))
        await mesh.ready(PATIENCE)
        pages = await mesh.forward("istiod", names.DEBUG_PORT, namespace=names.ROOT_NAMESPACE)
        rig = Rig(mesh, f"http://127.0.0.1:{pages}")
        await rig.settled()
        yield rig


def _folder(home: pathlib.Path, name: str, bootstrap: minimal.Json) -> pathlib.Path:
    """What a minimal Envoy reads."""
    found = home / name
    found.mkdir()
    stem = home / "clients" / f"{MINIMAL}.{name}"
    (found / "envoy.json").write_text(json.dumps(bootstrap))
    (found / "certificate.pem").write_bytes(stem.with_name(stem.name + ".crt").read_bytes())
    (found / "key.pem").write_bytes(stem.with_name(stem.name + ".key").read_bytes())
    (found / "roots.pem").write_bytes((home / "root.pem").read_bytes())
    return found
