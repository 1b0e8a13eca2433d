"""``python -m bench.page [SERVICES]``: how long the mesh page's answers take in a large mesh.

Each Service has a pod, a VirtualService and a DestinationRule and calls five others; as many proxies are connected.
What proxies counted is made up: how it is asked for is not measured. Server and client are this process: CPU of both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from typing import Final, cast

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bench import calibration, micro, objects, world
from bench.world import Size
from istiod.ads.server import ProxyStatus
from istiod.ads.status import Sync, TypeStatus
from istiod.config.proxy import Peer, Proxy
from istiod.meshpage.samples import BYTES, ERRORS, REQUESTS, WITHIN, Counted, Edge, Node, Series
from istiod.meshpage.scrape import Scraper, Seen
from istiod.meshpage.server import MeshPage
from istiod.meshpage.sources import Sources
from istiod.meshpage.traffic import Round
from wire import names, node, spiffe

ROUNDS: Final = 12
CALLED: Final = 5
_TYPES: Final = (names.CLUSTER, names.LISTENER, names.ENDPOINT, names.ROUTE)
_BUCKETS: Final = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, float("inf"))


class _Looked:
    """A scraper whose figures are there already; they are new at the first look."""

    def __init__(self, count: int) -> None:
        found = Round(seconds=60.0, counted=counted(count))
        self._seen = Seen(rounds=(found,), total=found, asked=min(count, 200), connected=count)

    def look(self) -> Seen:
        """See Scraper."""
        return self._seen

    async def close(self) -> None:
        """See Scraper."""


def counted(count: int) -> Counted:
    """What proxies of so many workloads counted."""
    found: Counted = {}
    for i in range(count):
        for step in range(CALLED):
            j = (i + 1 + step * 7) % count
            source, destination = (Node(objects.ns(one), f"app-{one}", f"app-{one}") for one in (i, j))
            edge = Edge(source, destination, "source")
            found |= {Series(edge, REQUESTS): 100.0 + i, Series(edge, ERRORS): float(i % 3), Series(edge, BYTES): 1e4}
            found |= {Series(edge, WITHIN, bound): min(100.0, 10.0 * n) for n, bound in enumerate(_BUCKETS)}
    return found


def page(size: Size) -> MeshPage:
    """The page of a control plane with this mesh."""
    mesh = micro.Mesh(size)
    for i in range(size.services):
        mesh.apply(objects.virtual_service(i))
        mesh.apply(objects.destination_rule(i))
    mesh.pipeline.push()
    proxies = [_connected(mesh, said) for said in world.nodes(size)]
    made = MeshPage(
        Sources(
            context=lambda: mesh.pipeline.context,
            proxies=lambda: proxies,
            target=mesh.pipeline.target,
            findings=lambda: (),
            position=lambda _, __: None,
        )
    )
    made._scraper = cast(Scraper, _Looked(size.services))  # noqa: SLF001 (200 proxies that answer are not measured)
    return made


def _connected(mesh: micro.Mesh, said: objects.Document) -> ProxyStatus:
    claims = node.parse(
        f"sidecar~{said['ip']}~{said['pod']}.{said['ns']}~{said['ns']}.svc.cluster.local",
        {"NAMESPACE": said["ns"], "LABELS": said["labels"], "SERVICE_ACCOUNT": said["sa"], "ISTIO_VERSION": "1.30.0"},
    )
    identity = spiffe.Identity(names.DEFAULT_TRUST_DOMAIN, said["ns"], said["sa"])
    proxy = Proxy(peer=Peer(address=f"{said['ip']}:1", identity=identity), node=claims)
    mesh.pipeline.subscribe(proxy, lambda *_: None)
    types = tuple(
        TypeStatus(type_url=each, sync=Sync.SYNCED, sent="1", acked="1", waiting=None, refused=(), error="")
        for each in _TYPES
    )
    return ProxyStatus(proxy=proxy, types=types, target=1, settled=True, acked_at=None)


PAGES: Final = {
    "traffic": "traffic",
    "services": "traffic?by=services",
    "proxies": "proxies",
    "a search": "proxies?q=app-1",
    "listeners": "proxies/app-0-0.ns-0/listeners",
    "routes": "proxies/app-0-0.ns-0/routes",
    "its search": "proxies/app-0-0.ns-0/routes?q=svc-7",
    "clusters": "proxies/app-0-0.ns-0/clusters",
    "endpoints": "proxies/app-0-0.ns-0/endpoints",
    "explain": "explain?from=app-0-0.ns-0&scheme=http&host=svc-1.ns-1&port=80&path=/api",
    "findings": "findings",
}


async def measure(size: Size) -> dict[str, list[float]]:
    """Milliseconds of CPU of each answer, page by page.

    Raises:
        ValueError: a page is none.
    """
    app, found = web.Application(), dict[str, list[float]]()
    page(size).extend(app)
    async with TestClient(TestServer(app)) as client:
        for name, address in PAGES.items():
            for _ in range(ROUNDS):
                before = time.process_time()
                async with client.get(f"/debug/page/{address}") as answer:
                    text = await answer.text()
                found.setdefault(name, []).append((time.process_time() - before) * 1000)
                if answer.status != 200 or "</html>" not in text:
                    raise ValueError(f"{address}: {answer.status} {text[:200]}")
    return found


def run(services: int) -> None:
    """Print the median and the longest of each page."""
    found = asyncio.run(measure(Size(services=services, endpoints=1, proxies=services)))
    for name, each in found.items():
        print(f"{name:12} {statistics.median(each):7.1f} ms of CPU, longest {max(each):7.1f}")


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("services", nargs="?", type=int, default=1000)
    run(parser.parse_args().services)
    print(f"load average {os.getloadavg()[0]:.1f}, calibration factor {calibration.calibrate().factor:.2f}")


if __name__ == "__main__":
    main()
