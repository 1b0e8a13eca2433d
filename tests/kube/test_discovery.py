"""``istiod discovery`` as a process against a real cluster, and what it answers before it may serve (FT11, FT12)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from e2e.harness.controlplane import Cluster
from e2e.harness.ports import free_ports
from istiod.kube.client import KubernetesClient
from tests.kube.faults import FaultProxy
from tests.kube.following import becomes
from wire import names

pytestmark = pytest.mark.apiserver


def free_port() -> int:
    return free_ports(1)[0]


@dataclass(frozen=True, kw_only=True)
class Istiod:
    """A running process."""

    http: str
    grpc: str
    process: asyncio.subprocess.Process

    async def ready(self) -> tuple[int, str]:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{self.http}/ready") as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def clusters(self) -> list[str] | grpc.StatusCode:
        """Names of what a proxy gets, or the status that it is refused with."""
        asked = discovery_pb2.DiscoveryRequest(type_url=names.CLUSTER)
        asked.node.id = "sidecar~10.0.0.1~app.shop~shop.svc.cluster.local"
        async with grpc.aio.insecure_channel(self.grpc) as channel:
            call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources()
            try:
                await call.write(asked)
                response = await call.read()
            except grpc.aio.AioRpcError as error:
                return error.code()
            except asyncio.InvalidStateError:
                return await call.code()
            if response is grpc.aio.EOF:
                return await call.code()
            return [resource.type_url for resource in response.resources]


@contextlib.asynccontextmanager
async def discovery(
    kubeconfig: str,
    namespace: str,
    log: Path,
    *,
    webhooks: str = "",
    pod: str = "istiod-0",
    secure: str = "127.0.0.1:0",
) -> AsyncIterator[Istiod]:
    """A process until the block ends. ``webhooks`` is the address of both, ``secure`` that of the CA and xDS."""
    http, plain = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    flags = ["--kubeconfig", kubeconfig, "--httpAddr", http, "--grpcAddr", plain, "--monitoringAddr", ""]
    servers = ["--httpsAddr", webhooks, "--secureGRPCAddr", secure, "--mtlsAddr", "127.0.0.1:0"]
    environment = {**os.environ, "POD_NAMESPACE": namespace, "POD_NAME": pod}
    with log.open("wb") as file:
        command = [sys.executable, "-m", "istiod", "discovery", *flags, *servers]
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=file)
    try:
        yield Istiod(http=http, grpc=plain, process=process)
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            async with asyncio.timeout(20):
                await process.wait()
    assert process.returncode == 0


async def test_a_start_without_its_api_server_waits_says_for_what_and_serves_nothing(
    proxy: FaultProxy, client: KubernetesClient, namespace: str, tmp_path: Path
) -> None:
    del client
    proxy.delay["endpointslices"] = asyncio.Event()
    proxy.open.clear()
    async with discovery(proxy.kubeconfig, namespace, tmp_path / "log") as istiod:
        await becomes(istiod.ready, lambda said: said[0] == 503, 30)
        proxy.open.set()
        only = (503, "waiting for endpointslices.discovery.k8s.io: being listed\n")
        await becomes(istiod.ready, lambda said: said == only, 30)
        await becomes(istiod.clusters, lambda said: said is grpc.StatusCode.UNAVAILABLE, 30)
        proxy.delay["endpointslices"].set()
        await becomes(istiod.ready, lambda said: said == (200, "ok"), 30)
        assert isinstance(await istiod.clusters(), list)


async def test_a_process_makes_what_a_cluster_needs_and_leaves_its_lease(
    cluster: Cluster, client: KubernetesClient, namespace: str, tmp_path: Path
) -> None:
    async with discovery(str(cluster.kubeconfig), namespace, tmp_path / "log") as istiod:
        await becomes(istiod.ready, lambda said: said[0] == 200, 60)

        async def roots() -> int:
            found = await client.request("get", "/api/v1/configmaps?fieldSelector=metadata.name%3Distio-ca-root-cert")
            return len(found["items"])

        await becomes(roots, lambda count: count >= 2, 20)
        secret = await client.request("get", f"/api/v1/namespaces/{namespace}/secrets/istio-ca-secret")
        assert set(secret["data"]) == {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"}
    lease = await client.request("get", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/istio-leader")
    assert lease["spec"].get("holderIdentity", "") == ""
