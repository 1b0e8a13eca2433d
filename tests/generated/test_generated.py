"""Whatever configuration somebody writes: each object is refused with a finding, or Envoy takes what is made of all.

A seeded sample in `make test`; ten thousand in `make test-long`. One start of Envoy judges many configurations: they
are put into one bootstrap, and where that is refused, halves are tried until the guilty one is found.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import json_format

from crds.meta import Object
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.envoy.compiler import Compiler
from istiod.mesh import context
from tests import envoys
from tests.envoy import made, test_hostile_objects
from tests.generated import configurations
from tests.mesh import fleet
from wire import names

BATCH = 40
BASE = tuple(fleet.parsed(text) for text in configurations.WORLD)


def compiled(seed: int, full: float, odd: float) -> tuple[str, list[ResourceSet]]:
    """What the sidecar and the gateway get of a configuration, with its YAML."""
    documents = configurations.configuration(seed, full=full, odd=odd)
    found = [item for item in map(configurations.accepted, documents) if item is not None]
    return f"seed {seed}:\n{yaml.safe_dump_all(documents)}", resources(found)


def resources(items: list[Object]) -> list[ResourceSet]:
    store = ConfigStore()
    for one in (*BASE, *items):
        store.apply(one)
    mesh = context.build(store.snapshot())
    compiler = Compiler()
    return [
        compiler.compile(context.scope(mesh, proxy), mesh.endpoints, context.view(mesh, proxy))
        for proxy in map(envoys.running, configurations.PROXIES)
    ]


def with_endpoints(found: bootstrap_pb2.Bootstrap, several: list[ResourceSet]) -> bootstrap_pb2.Bootstrap:
    """The bootstrap, with every different assignment in a cluster of its own."""
    seen: set[bytes] = set()
    for each in itertools.chain.from_iterable(target.of(names.ENDPOINT) for target in several):
        if each.version not in seen:
            seen.add(each.version)
            assignment = made.parsed(each, endpoint_pb2.ClusterLoadAssignment)
            text = {"name": f"assigned {len(seen)}", "type": "STATIC", "connect_timeout": "1s"}
            added = json_format.ParseDict(text, cluster_pb2.Cluster())
            added.load_assignment.CopyFrom(assignment)
            found.static_resources.clusters.append(added)
    return found


def problems(seeds: range, folder: Path, *, full: float = 0.3, odd: float = 0.02) -> Iterator[str]:
    for start in range(seeds.start, seeds.stop, BATCH):
        batch = [compiled(seed, full, odd) for seed in range(start, min(start + BATCH, seeds.stop))]
        for name, targets in batch:
            yield from (f"{name}: {said}" for target in targets for said in unsound(target))
        yield from test_hostile_objects.refused(batch, folder)


def unsound(target: ResourceSet) -> Iterator[str]:
    """What Envoy would refuse between resources: two listeners at one address."""
    listeners = (made.parsed(each, test_hostile_objects.listener_pb2.Listener) for each in target.of(names.LISTENER))
    bound = Counter(
        (each.address.socket_address.address, each.address.socket_address.port_value)
        for each in listeners
        if each.address.HasField("socket_address")
    )
    yield from (f"{count} listeners at {address}" for address, count in bound.items() if count > 1)


@pytest.mark.envoy
def test_envoy_takes_what_is_made_of_200_configurations(tmp_path: Path) -> None:
    assert list(problems(range(200), tmp_path)) == []


@pytest.mark.envoy
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_envoy_takes_what_is_made_of_10000_configurations(tmp_path: Path) -> None:
    assert list(problems(range(1000, 11000), tmp_path)) == []


@pytest.mark.envoy
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_envoy_takes_what_is_made_of_2000_full_and_odd_configurations(tmp_path: Path) -> None:
    """Twice as many fields, four times as many odd values."""
    assert list(problems(range(20_000, 22_000), tmp_path, full=0.6, odd=0.08)) == []


@pytest.mark.envoy
@pytest.mark.parametrize("seed", [20_159, 20_201, 20_343, 21_131])
def test_envoy_takes_what_it_once_refused(seed: int, tmp_path: Path) -> None:
    """Times below zero: of a hash's cookie, of a warm-up, and of a budget of retries."""
    assert list(problems(range(seed, seed + 1), tmp_path, full=0.6, odd=0.08)) == []


def test_most_of_what_is_generated_is_taken() -> None:
    """Else the tests above would say little."""
    made_of = [document for seed in range(60) for document in configurations.configuration(seed)]
    taken = Counter(document["kind"] for document in made_of if configurations.accepted(document) is not None)
    every = Counter(document["kind"] for document in made_of)
    assert {kind for kind, count in every.items() if taken[kind] < 0.7 * count} == set()
