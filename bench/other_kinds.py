"""What it would cost to ask Envoy about a rule of Istio's own kinds under admission, too (decision 35).

    python -m bench.other_kinds 1000,10,1000

For each kind: the CPU that finds out what an object would change (the mesh with it, the scopes of one proxy per
namespace in that mesh, the resources whose bytes differ), and Envoy's CPU over these.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from bench import objects
from bench.micro import Mesh
from bench.world import Size
from crds.meta import Object
from crds.parse import parse
from istiod.config.resource import Resource
from istiod.config.store import ConfigSnapshot
from istiod.envoy import trial
from istiod.envoy.patched_resources import Side
from istiod.gate import process
from istiod.mesh import context as mesh
from istiod.mesh.envoy_filters import PatchSet
from istiod.mesh.scope import Scope
from wire import names

SECONDS = 60.0
BARE = Side(PatchSet(patches=()), "ANY")


def leaves(scope: Scope) -> Mapping[tuple[str, str], Any]:
    """Everything of an outbound scope by type and name."""
    out = scope.outbound
    several = ((names.CLUSTER, out.clusters), (names.LISTENER, out.listeners), (names.ROUTE, out.routes))
    return {(url, name): leaf for url, found in several for name, leaf in found.items()}


def differing(before: Scope, after: Scope) -> Iterator[Resource]:
    """The resources of a scope whose bytes are not what they were."""
    old = leaves(before)
    for place, leaf in leaves(after).items():
        known = old.get(place)
        if known is leaf:
            continue
        made = BARE.make(leaf, after.settings)
        was = None if known is None else BARE.make(known, before.settings)
        if made is not None and (was is None or was.version != made.version):
            yield made


def with_one(snapshot: ConfigSnapshot, item: Object) -> ConfigSnapshot:
    """The objects as if this were there, too."""
    key = item.key
    kind = (key.group, key.kind)
    return replace(snapshot, kinds={**snapshot.kinds, kind: {**snapshot.kinds.get(kind, {}), key: item}})


def run(size: Size) -> None:
    """Print a line for each kind."""
    world = Mesh(size)
    world.connect()
    context = world.pipeline.context
    if context is None:
        raise RuntimeError("the benchmark's own mesh has not been built")
    proxies = list({one.node.namespace: one for one in world.proxies}.values())
    before = [mesh.scope(context, one) for one in proxies]
    rule = objects.destination_rule(1)
    rule["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"] = 7
    for document in (objects.virtual_service(1, 55), objects.virtual_service(2, 45), rule):
        item = parse(document).object
        if item is None:
            raise ValueError("the benchmark's own object is refused")
        began = time.process_time()
        now = mesh.build(with_one(world.store.snapshot(), item), context, frozenset((item.key,)))
        built = time.process_time()
        scopes = [mesh.scope(now, one) for one in proxies]
        scoped = time.process_time()
        pairs = zip(before, scopes, strict=True)
        found = {(one.type_url, one.name, one.version): one for pair in pairs for one in differing(*pair)}
        made = time.process_time()
        shown = trial.bootstrap([(one, trial.body(one)) for one in found.values()], ())
        envoy, wall = _of_children(), time.monotonic()
        words = asyncio.run(process.Envoy(process.found()).words(shown, SECONDS))
        wall, envoy = time.monotonic() - wall, _of_children() - envoy
        of_scopes = f"{len(scopes)} scopes {(scoped - built) * 1e3:.0f} ms"
        print(
            f"{item.key.kind}: build {(built - began) * 1e3:.0f} ms, {of_scopes}, "
            f"resources {(made - scoped) * 1e3:.0f} ms ({len(found)} differ), Envoy {envoy * 1e3:.0f} ms of CPU, "
            f"{wall:.2f} s {words[-100:]}"
        )


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    services, endpoints, count = map(int, sys.argv[1].split(","))
    run(Size(services=services, endpoints=endpoints, proxies=count))
