"""The port that apps may name as their HTTP proxy (features row R1: proxyHttpPort): every HTTP service is behind it."""

from __future__ import annotations

from istiod.mesh.egress import Sight, View
from istiod.mesh.families import Families
from istiod.mesh.scope import Chain, Direction, DnsCache, Http, Listener
from istiod.mesh.sidecars import Egress
from istiod.mesh.virtual_services import VirtualServiceIndex
from wire.node import Node

TABLE = "http_proxy"
_PORT = "HTTP_PROXY_PORT"  # node metadata: the workload's own word on the port
_LAST_PORT = 65_535


def port(node: Node, default: int) -> int:
    """The port of a workload; 0 where it has none."""
    said = str(node.metadata.get(_PORT, ""))
    return int(said) if said.isascii() and said.isdecimal() and 0 < int(said) <= _LAST_PORT else default


def listener(number: int, spoken: Families, caches: tuple[DnsCache, ...]) -> Listener:
    """The listener on localhost."""
    address, *more = spoken.loopbacks
    name = f"{address}_{number}"
    return Listener(
        name=name,
        address=address,
        additional_addresses=tuple(more),
        port=number,
        direction=Direction.OUTBOUND,
        chains=(Chain(name="", http=Http(stat_prefix=f"outbound_{name};", rds=TABLE, caches=caches)),),
    )


def view(sight: Sight) -> View:
    """What is behind it: all HTTP services that the workload sees, on all ports (Istio: the catch-all listener)."""
    nothing = View(services=(), index=VirtualServiceIndex(), listener=Egress())
    return next((one for one in sight.views if one.listener.port is None), nothing)
