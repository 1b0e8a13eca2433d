"""The port that apps may name as their HTTP proxy (features row R1: proxyHttpPort): every HTTP service is behind it."""

from __future__ import annotations

from dataclasses import replace

from istiod.mesh import route_tables
from istiod.mesh.conditions import Client
from istiod.mesh.egress import Sight
from istiod.mesh.families import Families
from istiod.mesh.http_routes import Resolver
from istiod.mesh.recall import Recall
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import Chain, Direction, Http, Listener
from istiod.mesh.service import Service
from istiod.mesh.virtual_services import VirtualServiceIndex
from wire.node import Node

TABLE = "http_proxy"
_PORT = "HTTP_PROXY_PORT"  # node metadata: the workload's own word on the port
_LAST_PORT = 65_535


def port(node: Node, default: int) -> int:
    """The port of a workload; 0 where it has none."""
    said = str(node.metadata.get(_PORT, ""))
    return int(said) if said.isascii() and said.isdecimal() and 0 < int(said) <= _LAST_PORT else default


def listener(number: int, spoken: Families) -> Listener:
    """The listener on localhost."""
    address, *more = spoken.loopbacks
    name = f"{address}_{number}"
    return Listener(
        name=name,
        address=address,
        additional_addresses=tuple(more),
        port=number,
        direction=Direction.OUTBOUND,
        chains=(Chain(name="", http=Http(stat_prefix=f"outbound_{name};", rds=TABLE)),),
    )


def table(sight: Sight, client: Client, namespace: str, resolver: Resolver, recall: Recall) -> RouteTable:
    """The table of all HTTP services that the workload sees on all ports (Istio: the catch-all egress listener's)."""
    view = next((one for one in sight.views if one.listener.port is None), None)
    services = view.services if view else ()
    builder = route_tables.Builder(
        index=view.index if view else VirtualServiceIndex(),
        client=client,
        namespace=namespace,
        recall=recall,
        settings=resolver.settings,
        aliases=tuple(one for one in services if route_tables.is_alias(one)),
    )
    ports: dict[int, dict[str, Service]] = {}
    for one in services:
        for number in (port.number for port in one.ports):
            ports.setdefault(number, {})[one.host] = one
    return builder.proxy_table(TABLE, [replace(resolver, port=n, services=found) for n, found in ports.items()])
