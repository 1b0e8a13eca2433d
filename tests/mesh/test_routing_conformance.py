"""Listeners, route tables and clusters by name, as a recorded istiod gave them for the same objects."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from crds import core, parse
from istiod.config.store import ConfigStore
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import OutboundScope
from tests.mesh import world
from wire import node
from wire.node import Node, NodeType

ROOT = Path(os.environ.get("CONFORMANCE", Path(__file__).parents[2] / "../shared/conformance")) / "scenarios"
SCENARIOS = (
    "bookinfo*",
    "helloworld",
    "httpbin",
    "pa-strict",
    "svc-ports",
    "svc-externalname",
    "se-kinds",
    "vs-*",
)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def folders() -> list[Path]:
    return sorted({folder for pattern in SCENARIOS for folder in ROOT.glob(pattern)})


def mesh(folder: Path) -> world.World:
    store = ConfigStore()
    for file in sorted(folder.glob("input/*.yaml")):
        for document in yaml.load_all(file.read_text(), Loader=LOADER):
            if (found := parse.parse(document).object) is not None:
                store.apply(found)
    return world.of(store.snapshot())


def scope(found: world.World, proxy: Node) -> OutboundScope:
    if proxy.type is NodeType.SIDECAR:
        return found.sidecar(proxy.namespace, proxy.labels)
    ports = [
        (port.port, int(port.target_port))
        for item in found.snapshot.of("", "Service").values()
        if isinstance(item, core.Service)
        and item.metadata.namespace == proxy.namespace
        and item.spec.selector
        and item.spec.selector.items() <= proxy.labels.items()
        for port in item.spec.ports
        if port.target_port
    ]
    return found.router(proxy.namespace, proxy.labels, tuple(ports))


def recorded(dump: Mapping[str, Any]) -> dict[str, Any]:
    listeners = {one["name"] for one in dump["listeners"]} - {"virtualInbound"}
    tables = {
        table["name"]: [
            (tuple(sorted(host["domains"])), [clusters(route) for route in host.get("routes", ())])
            for host in table["virtual_hosts"]
        ]
        for table in dump["routes"]
    }
    return {"listeners": listeners, "tables": {name: sorted(hosts) for name, hosts in tables.items()}}


def clusters(route: Mapping[str, Any]) -> list[str]:
    action = route.get("route", {})
    several = action.get("weighted_clusters", {}).get("clusters", ())
    return [one["name"] for one in several] or ([action["cluster"]] if "cluster" in action else [])


def ours(found: OutboundScope) -> dict[str, Any]:
    return {"listeners": set(found.listeners), "tables": {name: hosts(one) for name, one in found.routes.items()}}


def hosts(table: RouteTable) -> list[tuple[tuple[str, ...], list[list[str]]]]:
    return sorted(
        (tuple(sorted(host.domains)), [[to.destination.cluster for to in route.destinations] for route in host.routes])
        for host in table.virtual_hosts
    )


def proxies(folder: Path) -> Iterator[tuple[Node, Mapping[str, Any]]]:
    for said in json.loads((folder / "proxies.json").read_text())["proxies"].values():
        yield node.parse(said["node_id"], said["metadata"]), json.loads((folder / said["dump"]).read_text())


@pytest.mark.skipif(not ROOT.is_dir(), reason="recordings of a real istiod are not here (set CONFORMANCE)")
@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_listeners_and_tables_are_as_recorded(folder: Path) -> None:
    found = mesh(folder)
    for proxy, dump in proxies(folder):
        assert ours(scope(found, proxy)) == recorded(dump), proxy.id
