"""How old is what a client lacks, and how long did a change take: a refusal makes the one grow, not the other."""

from __future__ import annotations

import asyncio
import time

import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from istiod.ads.connection import Settings
from istiod.ads.server import AdsService
from tests.ads import made
from tests.ads.serving import running
from tests.ads.test_server import request
from tests.waiting import until
from wire import names


async def test_a_refusal_makes_a_client_stale_and_later_changes_no_slower() -> None:
    offset, changed_at = 0.0, None
    converged: list[float] = []
    queued: list[float] = []

    def clock() -> float:
        return time.monotonic() + offset

    configuration = made.Fixed(made.targets(made.cluster("c1")))
    settings = Settings(on_converged=converged.append, on_queued=queued.append, since=lambda: changed_at)
    service = AdsService(configuration, clock, settings=settings)
    async with running(service) as found, grpc.aio.insecure_channel(f"localhost:{found.port}") as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        assert service.census().behind == 0
        await call.write(request())
        response = await asyncio.wait_for(call.read(), 10)
        began = service.census().since
        assert began is not None
        refusal = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER, response_nonce=response.nonce)
        refusal.error_detail.message = "no"
        await call.write(refusal)
        await until(lambda: len(tuple(service.rejections())) == 1, "it refuses")
        offset = 1_000.0
        changed_at = clock() - 5.0  # the pipeline took five seconds
        configuration.set(made.cluster("c1"), made.cluster("c2"))
        await asyncio.wait_for(call.read(), 10)
        await until(lambda: len(converged) == 2, "the second is measured")
        assert converged[0] < 900
        assert 5.0 <= converged[1] < 900, "from its own change, not from the one that was refused"
        assert max(queued) < 900
        census = service.census()
        assert (census.behind, census.since) == (1, began), "the older change is still lacking"
        call.cancel()
    await until(lambda: service.census().behind == 0, "nobody is there")
