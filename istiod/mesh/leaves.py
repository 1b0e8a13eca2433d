"""Keeps what did not change: equal leaves of two scopes in a row become the same objects (DESIGN section 2, point 1).

From then on they are compared with ``is``, and compiled bytes are found by identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from istiod.mesh.recall import Recall
from istiod.mesh.route import RouteTable, VirtualHost
from istiod.mesh.scope import OutboundScope

T = TypeVar("T")


def reuse(now: OutboundScope, before: OutboundScope | None, recall: Recall) -> OutboundScope:
    """The scope with the leaves of ``before`` where they are equal; the mappings too, where all are."""
    if before is None:
        return now
    return replace(
        now,
        clusters=_equal(now.clusters, before.clusters, recall),
        listeners=_equal(now.listeners, before.listeners, recall),
        routes=_equal(
            {name: _table(one, before.routes.get(name)) for name, one in now.routes.items()}, before.routes, recall
        ),
        secrets=_equal(now.secrets, before.secrets, recall),
        names=before.names if now.names == before.names else now.names,
    )


def _equal(now: Mapping[str, T], before: Mapping[str, T], recall: Recall) -> Mapping[str, T]:
    """Scopes of many keys share mappings, so what was found for one is remembered for the others."""
    return now if now is before else recall.of_many("equal", (now, before), lambda: _compared(now, before))


def _compared(now: Mapping[str, T], before: Mapping[str, T]) -> Mapping[str, T]:
    found = {name: _known(one, before.get(name)) for name, one in now.items()}
    same = len(found) == len(before) and all(before.get(name) is one for name, one in found.items())
    return before if same else found


def _known(now: T, before: T | None) -> T:
    return before if before is not None and (before is now or before == now) else now


def _table(now: RouteTable, before: RouteTable | None) -> RouteTable:
    """A table that shares the virtual hosts that it had before."""
    if before is None or before is now:
        return now
    known: dict[str, VirtualHost] = {one.name: one for one in before.virtual_hosts}
    hosts = tuple(_known(one, known.get(one.name)) for one in now.virtual_hosts)
    return replace(now, virtual_hosts=hosts)
