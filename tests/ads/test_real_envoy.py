from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from e2e.harness.ports import free_ports
from istiod.ads.server import AdsService
from istiod.ads.session import Shared
from istiod.ads.stream import Timing
from istiod.config.resource import Resource
from tests.ads import made, real_envoy
from tests.ads.real_envoy import RunningEnvoy
from tests.ads.serving import running
from tests.waiting import until
from wire import names

pytestmark = pytest.mark.envoy


@dataclass
class World:
    """A control plane, an Envoy, two apps, and the listener's port."""

    configuration: made.Fixed
    server: AdsService
    envoy: RunningEnvoy
    one: int
    two: int
    port: int
    served: int

    def base(self, *, to: str = "c1", timeout: float = 1.0) -> list[Resource]:
        return [
            made.cluster("c1", timeout=timeout),
            made.cluster("c2"),
            made.endpoints("c1", self.one),
            made.endpoints("c2", self.two),
            made.route("r1", to),
            made.listener("l1", self.port, "r1"),
        ]

    async def settle(self, *resources: Resource) -> None:
        self.configuration.set(*resources)
        await until(self.server.converged, "every resource ACKed")


@pytest_asyncio.fixture(params=["delta", "sotw"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    configuration = made.Fixed()
    service = AdsService(configuration, time.monotonic, shared=Shared(timing=Timing(linger=1.0)))
    listener_port = free_ports(1)[0]
    async with (
        running(service) as served,
        real_envoy.app("one") as one,
        real_envoy.app("two") as two,
        real_envoy.envoy(tmp_path, served.port, delta=request.param == "delta") as envoy,
    ):
        made_world = World(configuration, service, envoy, one, two, listener_port, served.port)
        configuration.set(*made_world.base())
        await until(lambda: envoy.answers(listener_port, "one"), "the first configuration")
        yield made_world


async def test_the_first_configuration_is_acked_whole(world: World) -> None:
    await until(world.server.converged, "every resource ACKed")
    (status,) = world.server.status()
    assert status.settled
    assert {t.type_url for t in status.types} == {names.CLUSTER, names.ENDPOINT, names.LISTENER, names.ROUTE}
    assert {t.sync.value for t in status.types} == {"SYNCED"}


async def test_an_endpoint_change_reaches_traffic_and_touches_nothing_else(world: World) -> None:
    await until(world.server.converged, "every resource ACKed")
    before = {t.type_url: t.sent for t in world.server.status()[0].types}
    base = world.base()
    base[2] = made.endpoints("c1", world.two)
    known = {(r.type_url, r.name): r for r in world.configuration.target.of(names.CLUSTER)}
    del known
    await world.settle(*same(world, base))
    await until(lambda: world.envoy.answers(world.port, "two"), "the new endpoint")
    after = {t.type_url: t.sent for t in world.server.status()[0].types}
    assert {t for t in after if after[t] != before[t]} == {names.ENDPOINT}


async def test_a_changed_cluster_warms_since_its_endpoints_are_sent_again(world: World) -> None:
    await world.settle(*same(world, world.base(timeout=2.0)))
    assert '"connect_timeout": "2s"' in await world.envoy.admin("/config_dump?resource=dynamic_active_clusters")
    assert await world.envoy.answers(world.port, "one")


async def test_a_route_moves_to_a_new_cluster_without_a_failed_request(world: World) -> None:
    added = [made.cluster("c3"), made.endpoints("c3", world.two)]
    await world.settle(*same(world, [*world.base(to="c3"), *added]))
    await until(lambda: world.envoy.answers(world.port, "two"), "the new route")


async def test_one_bad_listener_keeps_nothing_else_back(world: World) -> None:
    good, bad = free_ports(2)
    more = [made.listener("good", good, "r1"), made.listener("bad", bad, "r1", bad=True)]
    world.configuration.set(*same(world, [*world.base(to="c2"), *more]))
    await until(lambda: world.envoy.answers(good, "two"), "the good listener")
    await until(lambda: world.envoy.answers(world.port, "two"), "the changed route")
    await until(lambda: listeners(world).refused == ("bad",), "the bad listener alone is refused")
    assert "no.such.Filter" in listeners(world).error
    assert not world.server.converged()
    await world.settle(*same(world, [*world.base(), more[0], made.listener("bad", bad, "r1")]))
    await until(lambda: world.envoy.answers(bad, "one"), "the repaired listener")


async def test_a_refused_route_ends_the_wait_of_all_listeners(world: World) -> None:
    """As in tests/ads/model.py: Envoy tells a refusal to all that asked for the type."""
    late, bad = free_ports(2)
    more = [made.listener("late", late, "r2"), made.listener("bad", bad, "r3")]
    world.configuration.set(*same(world, [*world.base(), more[0]]))
    await until(lambda: world.envoy.total("total_listeners_warming"), "it waits for its route")
    world.configuration.set(*same(world, [*world.base(), *more, made.route("r3", "c1", twice=True)]))
    await until(lambda: world.envoy.answers(bad, "status 404"), "the listener of the refused route")
    await until(lambda: world.envoy.answers(late, "status 404"), "the other one")
    assert await world.envoy.answers(world.port, "one")


async def test_a_new_proxy_gets_the_last_good_version_of_what_another_refused(world: World, tmp_path: Path) -> None:
    rest = [r for r in world.base() if r.name != "l1"]
    world.configuration.set(*same(world, [*rest, made.listener("l1", world.port, "r1", bad=True)]))
    await until(lambda: listeners(world).refused == ("l1",), "it is refused")
    (folder := tmp_path / "new").mkdir()
    async with real_envoy.envoy(folder, world.served, delta=True) as new:

        async def has_it() -> bool:
            return f"l1::127.0.0.1:{world.port}" in await new.admin("/listeners")

        await until(has_it, "the last good listener")
        assert await new.stat("listener_manager.lds.update_rejected") == 0
    assert await world.envoy.answers(world.port, "one")
    (found,) = world.server.rejections()
    assert found.resource.name == "l1"


async def test_a_removed_cluster_lingers_and_then_goes(world: World) -> None:
    await until(world.server.converged, "every resource ACKed")
    rest = [r for r in world.base() if r.name != "c2"]
    await world.settle(*same(world, rest))
    assert "c2" in await world.envoy.clusters()

    async def gone() -> bool:
        return "c2" not in await world.envoy.clusters()

    await until(gone, "the lingering cluster is removed")
    assert await world.envoy.answers(world.port, "one")


async def test_a_removed_listener_closes_its_port(world: World) -> None:
    (port,) = free_ports(1)
    await world.settle(*same(world, [*world.base(), made.listener("l2", port, "r1")]))
    await until(lambda: world.envoy.answers(port, "one"), "the second listener")
    await world.settle(*same(world, world.base()))
    await until(lambda: world.envoy.answers(port, "ClientConnectorError"), "the port is closed")


def listeners(world: World) -> object:
    return next(t for t in world.server.status()[0].types if t.type_url == names.LISTENER)


def same(world: World, resources: list[Resource]) -> list[Resource]:
    """Unchanged resources as the very same objects, as the compiler gives them."""
    known = {
        (r.type_url, r.name, r.version): r
        for t in world.configuration.target.layers
        for r in world.configuration.target.of(t)
    }
    return [known.get((r.type_url, r.name, r.version), r) for r in resources]
