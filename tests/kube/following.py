"""A watch of a whole cluster, as istiod runs it, whose store a test looks at."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from crds.diagnostic import Diagnostic
from istiod.config.store import ConfigStore
from istiod.kube.client import KubernetesClient
from istiod.watch import kinds
from istiod.watch.kubernetes import ClusterWatch
from istiod.watch.objects import ObjectSet, Place


class Following:
    """The parts, and what they said."""

    def __init__(self, client: KubernetesClient, root: str) -> None:
        place = Place(root_namespace=root, revision="default", mesh_config="istio", config_maps=frozenset({"istio"}))
        self.objects = ObjectSet(place)
        self.store = ConfigStore()
        self.findings: tuple[Diagnostic, ...] = ()
        self.ready = asyncio.Event()
        self.watch = ClusterWatch(client, self.objects, self.store, kinds.watched(root), self._report)

    def names(self, kind: str, namespace: str) -> set[str]:
        return {key.name for key in tuple(self.store.keys()) if (key.kind, key.namespace) == (kind, namespace)}

    def passes(self, kind: str) -> int:
        (found,) = [one["passes"] for one in self.watch.status() if one["kind"] == kind]
        return int(found)

    def interrupt(self, kind: str) -> None:
        """End the present watch of a kind, as an API server does every few minutes."""
        (state,) = [state for each, state in self.watch._states.items() if str(each.resource()) == kind]
        if state.stop is not None:
            state.stop.set_result(None)

    def _report(self, found: tuple[Diagnostic, ...]) -> None:
        self.findings = found


@contextlib.asynccontextmanager
async def following(client: KubernetesClient, root: str) -> AsyncIterator[Following]:
    """Follow until the block ends."""
    made = Following(client, root)
    task = asyncio.create_task(made.watch.run(made.ready.set))
    try:
        yield made
        assert not task.done(), task.result()
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> float:
    """Wait for a condition; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


T = TypeVar("T")


async def becomes(ask: Callable[[], Awaitable[T]], right: Callable[[T], bool], seconds: float) -> None:
    """Ask until the answer is right."""
    began = time.monotonic()
    while not right(answer := await ask()):
        assert time.monotonic() - began < seconds, f"not within {seconds} s, but {answer}"
        await asyncio.sleep(0.05)


async def make(client: KubernetesClient, namespace: str, names: Iterable[str]) -> None:
    """Services (they need nothing else to exist)."""
    for name in names:
        body = {"metadata": {"name": name}, "spec": {"ports": [{"name": "http", "port": 80}]}}
        await client.request("post", f"/api/v1/namespaces/{namespace}/services", body)


async def remove(client: KubernetesClient, namespace: str, names: Iterable[str]) -> None:
    for name in names:
        await client.request("delete", f"/api/v1/namespaces/{namespace}/services/{name}")
