"""Duplicate hosts and overlapping addresses (fault FT22): one result in any order of objects, and Envoy takes it."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path
from typing import Any

import pytest

from crds.meta import Object
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.pipeline import Pipeline
from tests.envoy.test_real_envoy import bootstrap, verdict
from tests.mesh import fleet
from wire import names

WORLDS = 2
"""Each is drawn from a seed of its own."""
NAMESPACES = ("default", "other", "third")
CREATED = ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")
ADDRESSES = ("10.96.0.1", "10.96.0.2")
PREFIXES = ("10.96.0.0/24", "10.96.0.1", "10.96.0.0/30", "240.1.0.1")
HOSTS = ("x.example", "X.example", "*.example", "a.default.svc.cluster.local", "b.other.svc.cluster.local")
PORTS = ((80, "HTTP"), (80, "TCP"), (8443, "TLS"), (8443, "HTTPS"), (9000, "TCP"), (9000, "HTTP"), (9000, "MONGO"))
PROXIES = (
    fleet.proxy(),
    fleet.proxy("web-1", "other"),
    fleet.proxy("gw-1", "default", "router", LABELS={"app": "edge"}),
)
Versions = list[dict[str, dict[str, str]]]


def service(chance: random.Random, name: str, namespace: str) -> str:
    ports = [
        {"name": f"{protocol.lower()}-{number}", "port": number, "targetPort": 8080}
        for number, protocol in {port[0]: port for port in chance.sample(PORTS, 3)}.values()
    ]
    spec = {"clusterIP": chance.choice((*ADDRESSES, "None")), "selector": {"app": name}, "ports": ports}
    return fleet.dump("v1", "Service", name, namespace, spec=spec, creationTimestamp=chance.choice(CREATED))


def entry(chance: random.Random, name: str, namespace: str) -> str:
    ports = [
        {"name": f"p{number}", "number": number, "protocol": protocol}
        for number, protocol in {port[0]: port for port in chance.sample(PORTS, 2)}.values()
    ]
    spec: dict[str, Any] = {
        "hosts": chance.sample(HOSTS, chance.randint(1, 3)),
        "ports": ports,
        "resolution": chance.choice(("NONE", "STATIC")),
        "addresses": chance.sample(PREFIXES, chance.randint(0, 2)),
    }
    if spec["resolution"] == "STATIC":
        spec["endpoints"] = [{"address": f"192.0.2.{chance.randint(1, 9)}"}]
    return _istio("ServiceEntry", chance, name, namespace, spec)


def rules(chance: random.Random, name: str, namespace: str) -> list[str]:
    """A VirtualService and a DestinationRule of one host."""
    host = chance.choice(HOSTS)
    match = [{"uri": {"prefix": f"/{name}"}}]
    http = [{"match": match, "route": [{"destination": {"host": host.removeprefix("*.")}}]}]
    gateways = chance.choice((["mesh"], ["mesh", "default/edge"]))
    policy = {"connectionPool": {"tcp": {"maxConnections": chance.randint(1, 9)}}}
    return [
        _istio("VirtualService", chance, name, namespace, {"hosts": [host], "gateways": gateways, "http": http}),
        _istio("DestinationRule", chance, name, namespace, {"host": host, "trafficPolicy": policy}),
    ]


def gateway(chance: random.Random, name: str) -> str:
    servers = [
        {
            "port": {"number": number, "name": f"p{at}", "protocol": protocol},
            "hosts": [chance.choice(("*", *HOSTS[:3]))],
        }
        for at, (number, protocol) in enumerate(((8080, "HTTP"), (8080, "HTTP"), (9000, "TCP")))
    ]
    return _istio("Gateway", chance, name, "default", {"selector": {"app": "edge"}, "servers": servers})


def _istio(kind: str, chance: random.Random, name: str, namespace: str, spec: dict[str, Any]) -> str:
    created = chance.choice(CREATED)
    return fleet.dump("networking.istio.io/v1", kind, name, namespace, spec=spec, creationTimestamp=created)


def objects(seed: int) -> list[Object]:
    """A world in which most things stand twice."""
    chance = random.Random(seed)
    places = list(itertools.product(("a", "b"), NAMESPACES))
    texts = [service(chance, name, namespace) for name, namespace in places]
    texts += [entry(chance, name, namespace) for name, namespace in places]
    texts += [text for name, namespace in places for text in rules(chance, name, namespace)]
    texts += [gateway(chance, name) for name in ("edge", "also")]
    texts.append(fleet.slice_of("a", fleet.backend("10.1.0.1"), fleet.backend("10.1.0.2")))
    return [fleet.parsed(text) for text in texts]


def targets(given: list[Object], chance: random.Random) -> list[ResourceSet]:
    """What the proxies get of objects that came in this order; built anew after some of them, as it happens."""
    store = ConfigStore()
    pipeline = Pipeline(store, lambda _: None, time.monotonic)
    for item in given:
        store.apply(item)
        if chance.random() < 0.02:
            pipeline.push()
            for proxy in PROXIES:
                pipeline.target(proxy)
    pipeline.push()
    return [pipeline.target(proxy) for proxy in PROXIES]


def versions(found: list[ResourceSet]) -> Versions:
    """Hashes of all bytes, by type and name."""
    kinds = (names.CLUSTER, names.ENDPOINT, names.LISTENER, names.ROUTE)
    return [{kind: {each.name: each.version for each in one.of(kind)} for kind in kinds} for one in found]


@pytest.mark.parametrize("count", [50, pytest.param(1_000, marks=[pytest.mark.long])])
def test_no_order_of_duplicates_changes_a_byte(count: int) -> None:
    for seed in range(WORLDS):
        given, chance = objects(seed), random.Random(seed)
        expected = versions(targets(given, chance))
        assert all(one[names.LISTENER] and one[names.CLUSTER] for one in expected)
        for turn in range(count // WORLDS):
            chance.shuffle(given)
            assert versions(targets(given, chance)) == expected, f"seed {seed}, shuffle {turn}"


@pytest.mark.envoy
@pytest.mark.parametrize("seed", range(2 * WORLDS))
def test_envoy_refuses_nothing_of_it(seed: int, tmp_path: Path) -> None:
    for number, found in enumerate(targets(objects(seed), random.Random(seed))):
        folder = tmp_path / str(number)
        folder.mkdir()
        code, said = verdict(bootstrap(found, routed(found)), folder)
        assert code == 0, said


@pytest.mark.envoy
def test_envoy_would_have_refused_a_conflict(tmp_path: Path) -> None:
    found = targets(objects(0), random.Random(0))[0]
    config = bootstrap(found, routed(found))
    again = config.static_resources.listeners.add()
    again.CopyFrom(config.static_resources.listeners[0])
    again.name = "again"
    code, said = verdict(config, tmp_path)
    assert code != 0
    assert "duplicate address" in said


def routed(found: ResourceSet) -> str:
    """A listener that asks for routes."""
    return next(each.name for each in found.of(names.LISTENER) if each.refs.get(names.ROUTE))
