"""How late the event loop is while an object of 1.4 MB comes and goes (fault FT21): ``python -m bench.lag``.

In one process, without files and sockets: a store, the pipeline as istiod runs it, four proxies that see the object,
and a timer of 5 ms. Wall time, so it says something on a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

from bench.micro import Mesh
from bench.objects import Document
from bench.world import Size
from crds.parse import parse
from istiod import apart, app
from istiod.pipeline import Pipeline

PERIOD: Final = 0.005
SIZE: Final = Size(services=20, endpoints=3, proxies=4)
ROUTES, SUBSETS, HOSTS = 15_500, 28_000, 57_000


def large() -> Iterator[tuple[str, Document]]:
    """An object per way to be large, in a namespace of which there are proxies."""
    to = {"destination": {"host": "svc-0"}}
    routes = [{"match": [{"uri": {"exact": f"/{at:06}"}}], "route": [to]} for at in range(ROUTES)]
    yield f"{ROUTES} routes", _made("VirtualService", {"hosts": ["large.example"], "http": routes})
    subsets = [{"name": f"v{at}", "labels": {"version": f"v{at}"}} for at in range(SUBSETS)]
    yield f"{SUBSETS} subsets", _made("DestinationRule", {"host": "large.example", "subsets": subsets})
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    hosts = [f"{at:06}.large.example" for at in range(HOSTS)]
    yield f"{HOSTS} hosts", _made("ServiceEntry", {"hosts": hosts, "ports": ports, "resolution": "NONE"})


def _made(kind: str, spec: Document) -> Document:
    metadata = {"name": "large", "namespace": "ns-0"}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


async def _watch(late: list[float], pipeline: Pipeline, quiet: asyncio.Event) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(PERIOD)
        late.append(time.perf_counter() - began - PERIOD)
        if not pipeline.pending:
            quiet.set()


async def main(wanted: str) -> None:
    """Say, of each object whose name has ``wanted`` in it, how long it took and how late the loop was."""
    mesh = Mesh(SIZE)
    mesh.connect()
    gc.collect()
    gc.freeze()
    late: list[float] = []
    quiet = asyncio.Event()
    watching = _watch(late, mesh.pipeline, quiet)
    tasks = [asyncio.create_task(mesh.pipeline.run()), asyncio.create_task(watching)]
    for name, document in large():
        if wanted not in name:
            continue
        found = (await apart.beside(partial(parse, document))).object
        if found is None:
            raise ValueError(f"the benchmark's own object is refused: {name}")
        for what in ("comes", "goes"):
            await asyncio.sleep(1)
            late.clear()
            began = time.perf_counter()
            if what == "comes":
                mesh.store.apply(found)
            else:
                mesh.store.remove(found.key)
            quiet.clear()
            await quiet.wait()
            took, sorted_late = time.perf_counter() - began, sorted(late)
            p99 = sorted_late[int(len(late) * 0.99)] * 1e3
            said = f"{name} {what}: {took:.2f} s, late p99 {p99:.1f} ms, max {sorted_late[-1] * 1e3:.1f} ms"
            sys.stdout.write(said + "\n")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


if __name__ == "__main__":
    gc.set_threshold(*app.GENERATIONS)
    sys.setswitchinterval(apart.SWITCH)
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else ""))
