"""A pod's address comes to a pod of another identity: nobody takes its answers for those of the pod before (FT25)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests import figures
from tests.behaviour import rig as rigs
from tests.behaviour import world
from tests.behaviour.rig import Rig, address
from tests.behaviour.servers import Listening
from tests.mesh import fleet
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]
SHARED, OTHER = 7, 9
"""Numbers of addresses: the one that is used again, and the one that the first service moves to."""
SERVICES = """kind: Service
metadata: {name: vault}
spec: {clusterIP: 10.0.0.8, selector: {app: vault}, ports: [{name: http, port: $mtls, targetPort: $meshapp}]}
---
kind: Service
metadata: {name: thief}
spec: {clusterIP: 10.0.0.9, selector: {app: thief}, ports: [{name: http, port: $mtls, targetPort: $meshapp}]}
"""


def pod(name: str, number: int) -> str:
    """A pod with a sidecar and the account of its app."""
    return fleet.pod(name, f"$ip{number}", account=name.partition("-")[0])


def behind(app: str, *backends: tuple[str, int]) -> str:
    """The slice of a service."""
    made = [fleet.backend(f"$ip{number}", name) for name, number in backends]
    return fleet.slice_of(app, *made, ports=[{"name": "http", "port": world.MESH_TLS}])


BEFORE = (pod("vault-1", SHARED), behind("vault", ("vault-1", SHARED)))
STAGES = (
    BEFORE,
    (pod("thief-1", SHARED), BEFORE[1], behind("thief", ("thief-1", SHARED))),
    (*BEFORE, pod("thief-1", SHARED), behind("thief", ("thief-1", SHARED))),
)
"""What the control plane knows meanwhile: nothing new; the new pod, but not that the old slice is wrong; both pods."""
AFTER = (
    *(pod("vault-2", OTHER), behind("vault", ("vault-2", OTHER))),
    *(pod("thief-1", SHARED), behind("thief", ("thief-1", SHARED))),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rigs.running(Path(tmp_path_factory.mktemp("rig"))) as rig:
        yield rig


async def settle(rig: Rig, objects: tuple[str, ...]) -> None:
    await rig.settle(rig.read("---\n".join((SERVICES, *objects))))


@contextlib.asynccontextmanager
async def serving(rig: Rig, name: str, number: int) -> AsyncIterator[None]:
    """The sidecar of a pod: mutual TLS as its account."""
    account = name.partition("-")[0]
    chain, key = map(str, rig.mesh.of(f"cluster.local/ns/default/sa/{account}"))
    own = Listening.of(chain, key, str(rig.mesh.root), alpn=("istio", "istio-http/1.1"))
    server = await rig.servers.http(name, address(number), world.MESH_TLS, own)
    try:
        yield
    finally:
        server.close()
        rig.servers.hang_up(name)


async def answers(rig: Rig, host: str, count: int = 10) -> Counter[str]:
    """Who answered so many requests, or the status of what was no answer of an app."""
    found = [await rig.ask(port="mtls", host=host) for _ in range(count)]
    return Counter(one.body if one.status == 200 else str(one.status) for one in found)


async def test_no_answer_of_another_identity_comes_from_an_address_that_is_used_again(mesh: Rig) -> None:
    seen: Counter[str] = Counter()

    async def load() -> None:
        while True:
            seen.update(await answers(mesh, "vault", 1))
            await asyncio.sleep(0.01)

    await settle(mesh, BEFORE)
    async with asyncio.TaskGroup() as tasks:
        async with serving(mesh, "vault-1", SHARED):
            assert await answers(mesh, "vault") == {"vault-1": 10}
            loading = tasks.create_task(load())
            await until(lambda: seen["vault-1"] > 20, "the load is answered")
        async with serving(mesh, "thief-1", SHARED), serving(mesh, "vault-2", OTHER):
            for objects in STAGES:
                await settle(mesh, objects)
                assert set(await answers(mesh, "vault")) == {"503"}
            assert await answers(mesh, "thief") == {"thief-1": 10}
            await settle(mesh, AFTER)
            assert await answers(mesh, "vault") == {"vault-2": 10}
            assert await answers(mesh, "thief") == {"thief-1": 10}
            loading.cancel()
    assert seen["vault-2"] > 0
    assert set(seen) <= {"vault-1", "vault-2", "503"}, seen
    figures.say(f"a load of {seen.total()} requests while an address changed hands: {dict(seen)}")
