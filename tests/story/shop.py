"""The shop of changes.py on a mesh: applies changes as a user would, under load from outside and inside."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from examples.demo.mesh import PATIENCE, BookInfo
from node.images import Image
from node.options import Options
from tests.story import changes, load, worlds

UNMOVED = 1.0
"""Seconds after which a change that moved no proxy's target is taken as one that concerns none."""
LOAD = "tests.story.load"
ASKER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "asker",
        "labels": {"app": "asker"},
        "annotations": {"proxy.istio.io/config": '{"holdApplicationUntilProxyStarts": true}'},
    },
    "spec": {
        "containers": [
            {
                "name": "asker",
                "image": LOAD,
                "args": [
                    "hello=http://hello:5000/hello",
                    "bin=http://bin:8000/get",
                    "slow=http://bin:8000/delay/1",
                ],
            }
        ]
    },
}
"""The pod that asks inside of the mesh."""


@dataclass(slots=True)
class Running:
    """A shop that runs, and what was done to it: (time, name) of each change."""

    book: BookInfo
    outside: load.Load
    done: list[tuple[float, str]] = field(default_factory=list)

    async def apply(self, change: changes.Change) -> None:
        """Make a change; wait before and after it where it says so."""
        if change.before:
            await self.settled()
        before = {proxy["node"]: proxy["target"] for proxy in await self.book.proxies()}
        self.done.append((time.time(), change.name))
        for name, content in change.files.items():
            write(self.book.mesh.config / name, content)
        if change.workloads:
            await self.book.mesh.apply(change.workloads)
        for kind, name in change.gone:
            await self.book.mesh.delete(kind, name)
        if change.after:
            await self.book.mesh.ready(PATIENCE)
        if change.after or change.before:
            await self.moved(before)

    async def moved(self, before: dict[str, int]) -> None:
        """Wait until proxies have taken up what changed, if it concerns any."""
        started = time.monotonic()

        async def done() -> bool:
            proxies = await self.book.proxies()
            moved = any(proxy["target"] > before.get(proxy["node"], 0) for proxy in proxies)
            return all(proxy["settled"] for proxy in proxies) and (moved or time.monotonic() - started > UNMOVED)

        await worlds.until("all proxies up to date", done)

    async def settled(self) -> None:
        """Wait until nothing has been under way for a moment."""
        await self.moved({proxy["node"]: proxy["target"] for proxy in await self.book.proxies()})

    async def more(self, count: int) -> None:
        """Wait for that many further answers, outside and inside each."""
        out, inside = self.outside.total + count, self.inside() + count

        async def answered() -> bool:
            return self.outside.total >= out and self.inside() >= inside

        await worlds.until(f"{count} more answers", answered)

    def inside(self) -> int:
        """Good answers that the pod has had."""
        counts = [line for line in self.book.mesh.logs("asker", "asker").splitlines() if line.startswith("ok ")]
        return int(counts[-1][3:]) if counts else 0

    def failed(self) -> list[str]:
        """Everything that went wrong, as clients and as proxies saw it, and between which changes."""
        inside = [line for line in self.book.mesh.logs("asker", "asker").splitlines() if not line.startswith("ok ")]
        return [f"outside {each}" for each in self.outside.failures] + inside + worlds.faults(self.book.mesh)

    def story(self) -> str:
        """What was done when."""
        lines = (
            f"{time.strftime('%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03} {what}" for at, what in self.done
        )
        return "\n".join(lines)


def program(module: str) -> Image:
    """A module of this repository as an image."""
    return Image(entrypoint=(str(Path(sys.prefix, "bin", "python")), "-m", module))


def write(path: Path, content: str) -> None:
    """Give a file this content at once; "" removes it."""
    if content:
        fresh = path.with_suffix(".new")
        fresh.write_text(content)
        fresh.replace(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def opened(*modules: str) -> AsyncIterator[Running]:
    """The shop, up and under load; modules are further programs that run as images of the same name."""
    images = {name: program(name) for name in (LOAD, *modules)}
    first = changes.start()
    files: list[Path | str] = [worlds.MESH_SETTINGS, first.workloads]
    async with worlds.world(files, Options(images=images)) as book:
        for name, content in first.files.items():
            write(book.mesh.config / name, content)

        async def open_() -> bool:
            return (await book.client.get("/get")).status == 200 and (await book.client.get("/hello")).status == 200

        await worlds.until("the gateway leads to both services", open_)
        await book.mesh.apply(changes.text([ASKER]))
        await book.mesh.ready(PATIENCE)
        urls = [("hello", f"{book.client.base}/hello"), ("bin", f"{book.client.base}/get")]
        async with load.over_http(urls) as outside, load.running(outside):
            shop = Running(book, outside)
            await shop.more(40)
            yield shop
