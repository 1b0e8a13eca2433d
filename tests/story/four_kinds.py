"""The shop with echo in it, asked in HTTP/1.1, HTTP/2, gRPC and TCP from a pod while it changes."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from examples.demo.mesh import PATIENCE
from tests.story import changes, echo_changes, shop, worlds

IMAGE = "tests.story.client"
KINDS = 12
CLIENT = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "client",
        "labels": {"app": "client"},
        "annotations": {"proxy.istio.io/config": '{"holdApplicationUntilProxyStarts": true}'},
    },
    "spec": {"containers": [{"name": "client", "image": IMAGE}]},
}


@dataclass(slots=True)
class Street:
    """A running shop and its client of four kinds."""

    running: shop.Running

    def said(self) -> list[changes.Raw]:
        """What the client has told so far."""
        lines = self.running.book.mesh.logs("client", "client").splitlines()
        return [json.loads(line) if line.startswith("{") else {"what": line} for line in lines]

    def answers(self) -> Counter[str]:
        """Good answers by kind."""
        counts = [line["ok"] for line in self.said() if "ok" in line]
        return Counter(counts[-1] if counts else {})

    def asked(self) -> Counter[str]:
        """All answers by kind, bad ones too."""
        return self.answers() + Counter(line["kind"] for line in self.said() if "kind" in line)

    def failed(self) -> list[str]:
        """Everything that went wrong, as clients and as proxies saw it."""
        return [str(line) for line in self.said() if "ok" not in line] + self.running.failed()

    async def more(self, count: int) -> None:
        """Wait for that many answers of each kind that has short ones."""
        before = self.asked()

        async def answered() -> bool:
            now = self.asked()
            short = now.keys() - {"grpc stream", "delayed"}
            return len(now) >= KINDS - 1 and all(now[kind] - before[kind] >= count for kind in short)

        await worlds.until(f"{count} more answers of each kind", answered, deadline=40)

    async def change(self, what: Iterable[changes.Change]) -> None:
        """Make changes one after the other; every third time the next comes while one is on its way."""
        for number, each in enumerate(what):
            await self.running.apply(each)
            if number % 3:
                await self.more(2)
        await self.running.settled()
        await self.more(10)

    def story(self) -> str:
        """Answers, failures, and what was done when."""
        failed = self.failed()
        told = "\n".join(failed[:40])
        return f"{len(failed)} failures, {dict(self.answers())}:\n{told}\n{self.running.story()}"


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Street]:
    """The shop and echo, up and under load."""
    async with shop.opened(IMAGE, echo_changes.IMAGE) as running:
        await running.apply(echo_changes.start())
        await running.book.mesh.apply(changes.text([CLIENT]))
        await running.book.mesh.ready(PATIENCE)
        street = Street(running)
        await street.more(3)
        yield street
