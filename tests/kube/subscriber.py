"""A proxy as istiod sees one: it takes what it is sent, ACKs all of it, and remembers what it holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc.aio
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from wire import names

ROUTES = ("80",)


class Subscriber:
    """``holds`` is type and name -> content of everything it was sent; ``responses`` counts."""

    def __init__(self, pod: str, namespace: str) -> None:
        self.node = f"sidecar~10.0.0.1~{pod}.{namespace}~{namespace}.svc.cluster.local"
        self.holds: dict[tuple[str, str], bytes] = {}
        self.responses = 0
        self._out: asyncio.Queue[discovery_pb2.DeltaDiscoveryRequest] = asyncio.Queue()

    def subscribe(self, type_url: str, *wanted: str) -> None:
        """Ask for resources; of clusters and listeners, without names, for all."""
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=wanted)
        request.node.id = self.node
        self._out.put_nowait(request)

    def whole(self) -> bool:
        """Whether something of each type is there."""
        kinds = {kind for kind, _ in self.holds}
        return {names.CLUSTER, names.ENDPOINT, names.LISTENER, names.ROUTE} <= kinds

    async def run(self, address: str) -> None:
        """Follow until cancelled."""
        async with grpc.aio.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
            for kind, wanted in ((names.CLUSTER, ()), (names.LISTENER, ()), (names.ROUTE, ROUTES)):
                self.subscribe(kind, *wanted)
            async for response in ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources(
                self._asked()
            ):
                self._take(response)

    async def _asked(self) -> AsyncIterator[discovery_pb2.DeltaDiscoveryRequest]:
        while True:
            yield await self._out.get()

    def _take(self, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        self.responses += 1
        for each in response.resources:
            self.holds[response.type_url, each.name] = each.resource.value
        for name in response.removed_resources:
            self.holds.pop((response.type_url, name), None)
        ack = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        self._out.put_nowait(ack)
        if response.type_url == names.CLUSTER:
            found = (cluster_pb2.Cluster.FromString(each.resource.value) for each in response.resources)
            self.subscribe(names.ENDPOINT, *(one.name for one in found if one.type == cluster_pb2.Cluster.EDS))


@contextlib.asynccontextmanager
async def subscribed(address: str, pod: str, namespace: str) -> AsyncIterator[Subscriber]:
    """A subscriber of the istiod at an address until the block ends."""
    made = Subscriber(pod, namespace)
    task = asyncio.create_task(made.run(address))
    try:
        yield made
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait((task,))
