"""Keeps what did not change: equal leaves of two scopes in a row become the same objects (DESIGN section 2, point 1).

From then on they are compared with ``is``, and compiled bytes are found by identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from istiod.mesh.route import RouteTable, VirtualHost
from istiod.mesh.scope import OutboundScope

T = TypeVar("T")


def reuse(now: OutboundScope, before: OutboundScope | None) -> OutboundScope:
    """The scope with the leaves of ``before`` where they are equal."""
    if before is None:
        return now
    tables = {name: _table(one, before.routes.get(name)) for name, one in now.routes.items()}
    return replace(
        now,
        clusters=_equal(now.clusters, before.clusters),
        listeners=_equal(now.listeners, before.listeners),
        routes=_equal(tables, before.routes),
        secrets=_equal(now.secrets, before.secrets),
    )


def _equal(now: Mapping[str, T], before: Mapping[str, T]) -> Mapping[str, T]:
    return {name: _known(one, before.get(name)) for name, one in now.items()}


def _known(now: T, before: T | None) -> T:
    return before if before is not None and (before is now or before == now) else now


def _table(now: RouteTable, before: RouteTable | None) -> RouteTable:
    """A table that shares the virtual hosts that it had before."""
    if before is None or before is now:
        return now
    known: dict[str, VirtualHost] = {one.name: one for one in before.virtual_hosts}
    hosts = tuple(_known(one, known.get(one.name)) for one in now.virtual_hosts)
    return replace(now, virtual_hosts=hosts)
