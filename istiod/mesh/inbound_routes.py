"""The route table of an inbound port: everything goes to the app."""

from __future__ import annotations

from istiod.mesh.route import ANY, Destination, Retry, Route, RouteTable, VirtualHost, WeightedDestination
from istiod.mesh.service import Protocol

_NO_RETRY = Retry(attempts=0, retry_on="")
"""gRPC clients retry by themselves (as recorded from istiod)."""
_GRPC = (Protocol.GRPC, Protocol.GRPC_WEB)


def retry(protocol: Protocol, said: Retry | None) -> Retry | None:
    """How a port's requests are tried again, where the mesh says ``said``."""
    return _NO_RETRY if protocol in _GRPC else said


def table(cluster: str, host: str, port: int, tried_again: Retry | None) -> RouteTable:
    """The table that leads to one inbound cluster; ``host`` and ``port`` are the service's."""
    route = Route(
        name="default",
        match=ANY,
        origin=None,
        destinations=(WeightedDestination(destination=Destination(cluster=cluster, host=host, port=port), weight=100),),
        operation=f"{host}:{port}/*",
        retry=tried_again,
        inbound=True,
    )
    only = VirtualHost(name=f"inbound|http|{port}", domains=("*",), routes=(route,), include_attempt_count=False)
    return RouteTable(name=cluster, virtual_hosts=(only,))
