"""Two control planes and a pod that ends, over real TLS on loopback: who may ask what, and what the answers are."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from agent import departure, envoy_admin
from agent.departure import Departure, Pod
from agent.sds.identity import CaClient, Roots
from crds.parse import parse
from istiod.ca import authority, serving, tokens
from istiod.ca.signer import Signer
from istiod.config.store import ConfigStore
from istiod.drain import service
from istiod.drain.service import DrainService
from istiod.grpcserver.server import Server
from istiod.mesh import context
from istiod.mesh.context import MeshContext
from istiod.releases import Releases
from istiod.settings import ClusterSettings
from protos import drain_pb2
from tests.mesh.test_departure import MESH, control
from tests.waiting import until

KEY = ec.generate_private_key(ec.SECP256R1())
IPS = {"me": "127.0.0.1", "you": "127.0.0.2"}
POD = Pod(namespace="shop", name="web-1")


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass
class Holder:
    """Stands for AdsService.holder: says who holds anything."""

    name: str = ""
    asked: list[tuple[frozenset[str], tuple[str, ...], str]] = field(default_factory=list)

    def holder(self, hosts: Collection[str], addresses: Iterable[str], first: str = "") -> str:
        self.asked.append((frozenset(hosts), tuple(addresses), first))
        return self.name


class World:
    """Two replicas, "me" and "you", of one mesh and one CA."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Signer(authority.Authority(authority.self_signed("cluster.local", now())))
        self.verifier = tokens.LocalTokenVerifier(KEY.public_key(), "cluster.local", now)
        self.holders = {"me": Holder(), "you": Holder()}
        self.services: dict[str, DrainService] = {}
        self.ports: dict[str, int] = {}
        self.servers: list[Server] = []
        self.mesh: MeshContext | None = None
        for name in IPS:
            self.open(name)
        self.know("me", "you")
        (folder / "roots.pem").write_text(self.ca.roots)

    def open(self, name: str) -> None:
        releases = Releases(ClusterSettings(pod_name=name), lambda: self.mesh, self.ca, now)
        names = ("istiod.istio-system.svc", "localhost")
        server = self.made(name, releases)
        self.ports[name] = server.listen(f"{IPS[name]}:0", serving.ServingCertificate(self.ca, now, names).context)
        self.servers.append(server)

    def made(self, name: str, releases: Releases) -> Server:
        """What a replica serves."""
        self.services[name] = releases.service(self.holders[name].holder, self.verifier)
        return Server(self.services[name].methods())

    def know(self, *replicas: str) -> None:
        """Build the mesh with these replicas, and the pod that ends."""
        parts = [control(r, IPS[r], port=f"{{name: https-dns, port: {self.ports[r]}}}") for r in replicas]
        store = ConfigStore()
        for document in yaml.safe_load_all("---".join((*parts, MESH))):
            found = parse(document).object
            assert found is not None
            store.apply(found)
        self.mesh = context.build(store.snapshot())

    def client(self, account: str = "web", namespace: str = "shop") -> CaClient:
        token = self.folder / account
        pod = tokens.Account(namespace=namespace, service_account=account, pod="web-1")
        token.write_text(tokens.mint(KEY, pod, now()))
        return CaClient(
            address=f"127.0.0.1:{self.ports['me']}",
            server_name="istiod.istio-system.svc",
            token=token,
            roots=Roots(self.folder / "roots.pem"),
        )


@pytest_asyncio.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(service, "WAIT", 0.05)
    monkeypatch.setattr(service, "PERIOD", 0.01)
    monkeypatch.setattr(departure, "_AGAIN_SECONDS", 0.02)
    made = World(tmp_path)
    yield made
    for server in made.servers:
        await server.stop(0)


def leaving(world: World, pod: Pod = POD, seconds: float = 20.0, account: str = "web") -> Departure:
    return Departure(pod, world.client(account), envoy_admin.EnvoyAdmin(1), seconds)


async def ask(client: CaClient, pod: str = POD.name, *, alone: bool = False) -> str:
    async with client.channel() as (channel, metadata):
        release = channel.unary_unary(
            service.METHOD,
            request_serializer=drain_pb2.ReleaseRequest.SerializeToString,
            response_deserializer=drain_pb2.ReleaseResponse.FromString,
        )
        question = drain_pb2.ReleaseRequest(namespace=POD.namespace, pod=pod, alone=alone)
        return str((await release(question, metadata=metadata, timeout=10)).holder)


async def refused(client: CaClient, pod: str = POD.name, *, alone: bool = False) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ask(client, pod, alone=alone)
    return error.value.code()


async def test_a_pod_that_nobody_holds_may_end(world: World) -> None:
    assert await leaving(world).over() is True
    hosts, addresses, _ = world.holders["you"].asked[0]
    assert "web.shop.svc.cluster.local" in hosts
    assert addresses == ("10.0.0.1", "fd00::1")


@pytest.mark.parametrize("name", IPS)
async def test_it_waits_for_the_proxies_of_every_replica(world: World, name: str) -> None:
    holder = world.holders[name]
    holder.name = "sidecar~10.0.0.7~app.shop~shop.svc.cluster.local"
    assert await ask(world.client()) == holder.name
    over = asyncio.create_task(leaving(world).over())
    await until(lambda: len(holder.asked) > 20, "it was asked again")
    assert not over.done()
    assert holder.name in {first for *_, first in holder.asked}, "who was found last is asked first"
    holder.name = ""
    assert await over is True


async def test_all_who_ask_wait_for_the_same(world: World) -> None:
    one = leaving(world)
    assert all(await asyncio.gather(one.over(), one.over()))
    asked = len(world.holders["me"].asked)
    assert await one.over() is True
    assert len(world.holders["me"].asked) == asked


async def test_it_takes_no_longer_than_it_may(world: World) -> None:
    world.holders["me"].name = "somebody"
    one = leaving(world, seconds=0.3)
    assert await one.over() is False
    await one.stop()


async def test_a_replica_that_is_silent_counts_as_one_that_holds(world: World) -> None:
    await world.servers.pop().stop(0)
    assert (await ask(world.client())).startswith(
        f"replica 127.0.0.2:{world.ports['you']}, which does not say: UNAVAIL"
    )


async def test_a_control_plane_that_is_no_pod_of_the_mesh_cannot_ask_the_others(world: World) -> None:
    world.know("you")
    assert "the mesh has no pod istio-system/me" in await ask(world.client())
    world.know()
    assert await ask(world.client()) == ""


async def test_only_the_pod_itself_may_ask_and_only_replicas_speak_for_themselves(world: World) -> None:
    assert await refused(world.client("stranger")) is grpc.StatusCode.PERMISSION_DENIED
    assert await refused(world.client(), alone=True) is grpc.StatusCode.PERMISSION_DENIED
    assert await refused(world.client(), pod="web-2") is grpc.StatusCode.NOT_FOUND
    nobody = world.client()
    nobody.token.write_text("nonsense")
    assert await refused(nobody) is grpc.StatusCode.UNAUTHENTICATED
    assert not world.holders["you"].asked


async def test_a_pod_that_a_replica_does_not_know_counts_as_held_there(world: World) -> None:
    me = world.client("istiod", "istio-system")
    assert await ask(me, alone=True) == ""
    assert await ask(me, alone=True, pod="web-2") == "the pod shop/web-2, which is not known here"


async def test_a_pod_whose_question_nobody_answers_ends_as_it_always_did(world: World) -> None:
    assert await leaving(world, Pod(namespace="shop", name="web-2")).over() is None
    one = leaving(world)
    await world.servers[0].stop(0)
    over = asyncio.create_task(one.over())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(over), 0.2)
    assert not over.done(), "it may be back"
    await one.stop()


async def test_more_than_may_wait_are_told_to_come_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST", 0)
    assert await refused(world.client()) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_is_no_question_is_refused(world: World) -> None:
    client = world.client()
    async with client.channel() as (channel, metadata):
        release: Any = channel.unary_unary(service.METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await release(b"\xff", metadata=metadata, timeout=10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
