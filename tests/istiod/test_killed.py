"""Replicas that are killed at any moment of a push (fault FT8): the gateway serves on, and finds a peer."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from pathlib import Path

import pytest

from e2e.harness.ports import free_ports
from tests import figures
from tests.istiod import edge
from tests.story import load
from tests.waiting import until

pytestmark = pytest.mark.envoy
PODS = tuple(f"127.0.4.{number}" for number in range(1, 5))
OTHERS = 40
"""Services beside the one that is called: a push is many resources."""


class Changes:
    """Changes of every type that leave the gateway's requests answered, drawn from a seed."""

    def __init__(self, chance: random.Random, port: int) -> None:
        self._chance = chance
        self._port = port
        self._turn = 0
        self._more = 0

    def next(self) -> list[edge.Document]:
        """The next change; several objects are written one after the other."""
        self._turn += 1
        kind = self._chance.choice((self._routes, self._endpoints, self._policy, self._services))
        return kind()

    def _routes(self) -> list[edge.Document]:
        return [self._rule()]

    def _rule(self) -> edge.Document:
        """Routes stay: a cluster that none names any more would leave after a minute only."""
        made = edge.rule(timeout=10 + self._turn)
        names = (f"more-{number + 1}" for number in range(self._more))
        made["spec"]["http"][:0] = [
            {"match": [{"uri": {"prefix": f"/{name}"}}], "route": [{"destination": {"host": name}}]} for name in names
        ]
        return made

    def _endpoints(self) -> list[edge.Document]:
        ready = self._chance.sample(PODS, self._chance.randint(1, len(PODS)))
        return [edge.endpoints(self._port, ready, [each for each in PODS if each not in ready])]

    def _policy(self) -> list[edge.Document]:
        """Another cluster of the same name, for each of the hosts."""
        policy = {"connectionPool": {"tcp": {"connectTimeout": f"{self._turn + 1}s"}}}
        return [
            edge.document("DestinationRule", name, spec={"host": name, "trafficPolicy": policy})
            for name in ("web", *(f"other-{number}" for number in range(OTHERS)))
        ]

    def _services(self) -> list[edge.Document]:
        """A new Service, and a route to it for some requests."""
        self._more += 1
        name = f"more-{self._more}"
        return [
            edge.service(name),
            edge.endpoints(self._port, PODS, name=name),
            self._rule(),
        ]


def others(port: int) -> list[edge.Document]:
    names = [f"other-{number}" for number in range(OTHERS)]
    made = [edge.service(name) for name in names] + [edge.endpoints(port, PODS, name=name) for name in names]
    route = [{"match": [{"uri": {"prefix": f"/{n}/"}}], "route": [{"destination": {"host": n}}]} for n in names]
    spec = edge.rule()["spec"]
    return [*made, edge.document("VirtualService", "others", spec={**spec, "http": [*route, *spec["http"]]})]


class Killing:
    """Kills whoever serves the gateway, again and again; starts it anew meanwhile."""

    def __init__(self, mesh: edge.Edge, chance: random.Random) -> None:
        self._mesh = mesh
        self._chance = chance
        self.reconnects: list[float] = []
        self.agreements: list[float] = []

    async def turn(self, changes: list[edge.Document]) -> None:
        """One change, a kill a moment later, and what follows."""
        mesh = self._mesh
        victim = mesh.address.serving
        assert victim is not None
        await until(lambda: self._peer(victim), f"a peer is there, kill {len(self.reconnects)}", edge.ACCEPT_WITHIN)
        for each in changes:
            mesh.put(each)
        await asyncio.sleep(self._chance.uniform(0.0, 0.06))  # a push goes out within some 40 ms
        killed = time.monotonic()
        await victim.kill()
        await until(lambda: mesh.address.heard > killed, "the gateway has a peer", edge.ACCEPT_WITHIN)
        self.reconnects.append(mesh.address.heard - killed)
        assert mesh.address.serving is not victim
        await mesh.agrees(edge.ACCEPT_WITHIN)
        self.agreements.append(time.monotonic() - killed)
        assert await mesh.connected()
        await victim.start()

    async def _peer(self, victim: edge.Replica) -> bool:
        """Whether another one is ready. The third may be starting."""
        return any([await each.ready() for each in self._mesh.replicas if each is not victim])


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(8, marks=[pytest.mark.timeout(300)]),
        pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(3_000)]),
    ],
)
async def test_a_replica_that_is_killed_while_it_pushes_costs_no_request(tmp_path: Path, kills: int) -> None:
    port, app_port = free_ports(2)
    chance = random.Random(kills)
    changes = Changes(chance, app_port)
    objects = [edge.endpoints(app_port, PODS), *others(app_port)]
    async with (
        edge.apps(app_port, PODS),
        edge.edge(tmp_path, 3, objects, (port, app_port)) as mesh,
        load.over_http([("web", f"http://127.0.0.1:{port}/")]) as requests,
    ):
        requests.each = 4
        async with load.running(requests):
            killing = Killing(mesh, chance)
            for _ in range(kills):
                await killing.turn(changes.next())
        refused = await mesh.proxy.total("update_rejected")
    reconnects, agreements = sorted(killing.reconnects), sorted(killing.agreements)
    p99 = reconnects[min(kills - 1, kills * 99 // 100)]
    figures.fault(
        "FT8",
        f"{kills} kills: reconnected p50 {statistics.median(reconnects):.2f} s, p99 {p99:.2f} s; all as it should be"
        f" p50 {statistics.median(agreements):.2f} s, max {agreements[-1]:.2f} s after the kill;"
        f" {requests.total} requests, {len(requests.failures)} lost",
    )
    assert not requests.failures
    assert refused == 0
    assert p99 <= 3.0
    assert agreements[-1] <= 3.0 + 5.0
