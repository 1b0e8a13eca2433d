"""How much is done for one change, counted, not timed (DESIGN section 2, point 10), at (1000, 5, 200, 40 Sidecars)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from bench import objects, world
from bench.micro import Mesh
from istiod.envoy.compiler import VIRTUAL_HOST
from istiod.mesh import context as mesh_context
from istiod.mesh import memo
from istiod.mesh.route import VirtualHost
from istiod.mesh.scope import OutboundScope, ScopeKey
from wire import names

SIZE = world.Size(services=1000, endpoints=5, proxies=200, sidecars=40)
RULED = 20
"""A Service with a VirtualService and two subsets: three variants of its endpoints."""
VARIANTS = 3
TABLE = "80"


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    made = Mesh(SIZE)
    made.connect()
    return made


class Work:
    """What was done between two moments."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._before = self._counted()
        self._sent = [client.sent for client in mesh.clients]

    def _counted(self) -> Counter[str]:
        context = self._mesh.pipeline.context
        assert context is not None
        return Counter(self._mesh.pipeline.compiled) + context.memo.built

    def done(self) -> dict[str, int]:
        return dict(self._counted() - self._before)

    def reached(self) -> int:
        return sum(now.sent > before for now, before in zip(self._mesh.clients, self._sent, strict=True))


def scopes(mesh: Mesh) -> dict[ScopeKey, OutboundScope]:
    context = mesh.pipeline.context
    assert context is not None
    found = (mesh_context.scope(context, proxy).outbound for proxy in mesh.proxies)
    return {scope.key: scope for scope in found}


def hosts(scope: OutboundScope) -> Iterator[VirtualHost]:
    if TABLE in scope.routes:
        yield from scope.routes[TABLE].virtual_hosts


def holds(scope: OutboundScope, service: int) -> bool:
    return any(f"|{objects.host(service)}" in name for name in scope.clusters)


def test_an_endpoint_change_builds_no_scope_and_compiles_variants_of_its_host_only(mesh: Mesh) -> None:
    before, work = scopes(mesh), Work(mesh)
    mesh.change(world.CHANGES["endpoint"](SIZE, RULED // world.RULED, 1))
    done = work.done()
    assert set(done) == {names.ENDPOINT}
    assert done[names.ENDPOINT] <= VARIANTS
    after = scopes(mesh)
    assert all(after[key] is scope for key, scope in before.items())
    told = {scope.key for scope in before.values() if holds(scope, RULED)}
    assert work.reached() == sum(scope_of(mesh, i) in told for i in range(SIZE.proxies))


def scope_of(mesh: Mesh, proxy: int) -> ScopeKey:
    context = mesh.pipeline.context
    assert context is not None
    return mesh_context.scope(context, mesh.proxies[proxy]).outbound.key


def test_a_weight_change_touches_one_host_of_the_scopes_that_hold_it(mesh: Mesh) -> None:
    before, work = scopes(mesh), Work(mesh)
    mesh.change(world.CHANGES["virtualservice"](SIZE, RULED // world.RULED, 2))
    done, after = work.done(), scopes(mesh)
    holding = {key for key, scope in before.items() if holds(scope, RULED)}
    assert {key for key, scope in before.items() if after[key] is not scope} == holding
    assert done[VIRTUAL_HOST] <= 2
    assert done[names.ROUTE] <= len(holding)
    assert not done.keys() & {names.CLUSTER, names.LISTENER, names.ENDPOINT}
    assert memo.INBOUND not in done
    assert done[memo.OUTBOUND] <= len(before)
    changed = [
        new for key in holding for old, new in zip(hosts(before[key]), hosts(after[key]), strict=True) if old is not new
    ]
    assert {host.name for host in changed} == {f"{objects.host(RULED)}:80"}
    assert len({host.routes for host in changed}) == 1
