"""Endpoint resources of all scopes: made when asked for, once per query and view (DESIGN section 2, point 2).

An endpoint event replaces one leaf of the EndpointTable. No scope changes and nothing is copied: a ResourceSet's
endpoint layer reads through its table, and only queries of that leaf's host are compiled anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakSet, WeakValueDictionary, ref

from istiod.config.resource import Resource
from istiod.envoy import endpoint
from istiod.mesh.endpoint import Endpoint, EndpointLeaf, EndpointTable, Query, View
from wire import names
from wire.node import Locality

_State = tuple[EndpointLeaf | None, Resource]
_HostKey = tuple[str, str]
_MOST_VIEWS = 1024


class Host:
    """What the cells of one host share, as long as there is one of them.

    Of a large service most endpoints stay as they are when one comes or goes, so their frames are kept: those that were
    asked for in the newest two states, since what is not asked for again may never be (fault FT56).
    """

    __slots__ = ("__weakref__", "_before", "_now", "_state", "cells")

    def __init__(self) -> None:
        self.cells: WeakSet[Cell] = WeakSet()
        self._state: EndpointLeaf | None = None
        self._before: dict[Endpoint, bytes] = {}
        self._now: dict[Endpoint, bytes] = {}

    def enter(self, state: EndpointLeaf | None) -> None:
        """The endpoints are so now."""
        if state is not self._state:
            self._state, self._before, self._now = state, self._now, {}

    def frame(self, one: Endpoint) -> bytes:
        """An endpoint as a frame of its group."""
        found = self._before.get(one) or self._now.get(one) or endpoint.frame(one)  # an endpoint takes long to hash
        self._now[one] = found
        return found


class Cell:
    """One query and its resources: for each view that matters to it, those of the newest two states of its host."""

    __slots__ = ("__weakref__", "_compiled", "_host", "_made", "home", "query")

    def __init__(self, query: Query, compiled: Counter[str], host: Host) -> None:
        self.query = query
        self.home = home(query)
        self._host = host
        self._compiled = compiled
        self._made: dict[View | None, tuple[_State, ...]] = {}

    def resource(self, table: EndpointTable, view: View) -> Resource:
        """The query's resource for a proxy at ``view`` while the endpoints are as in ``table``."""
        leaf = table.leaves.get(self.home)
        narrow = relevant(self.query, view)
        states = self._made.get(narrow, ())
        for known, found in states:
            if known is leaf:
                return found
        self._host.enter(leaf)
        endpoints = leaf.ports.get(self.query.port, ()) if leaf else ()
        made = endpoint.compile(self.query, endpoints, narrow, self._host.frame)
        self._compiled[names.ENDPOINT] += 1
        if len(self._made) >= _MOST_VIEWS:  # views of proxies long gone; those alive are made again
            self._made.clear()
        self._made[narrow] = ((leaf, made), *states[:1])
        return made


def home(query: Query) -> _HostKey:
    """The host whose endpoints a query asks for."""
    return (query.host, query.namespace)


def relevant(query: Query, view: View) -> View | None:
    """What of the view the query looks at, so that proxies that differ elsewhere share; None for nothing."""
    setting = query.locality_lb
    if setting is None and not query.node_local and not view.gateways:
        return None
    by_labels = setting is not None and bool(setting.failover_priority)
    return View(
        cluster_id=view.cluster_id if by_labels else "",
        network=view.network if by_labels or view.gateways else "",
        locality=Locality() if setting is None else view.locality,
        node=view.node if by_labels or query.node_local else "",
        labels=view.labels if by_labels else frozenset(),
        gateways=view.gateways,
        peers=() if setting is None or setting.zones_from is None else view.peers,
    )


class Assignments(Mapping[str, Resource]):
    """The endpoint layer of one scope's clusters, one view and one state of the endpoints. Immutable.

    Remembers what was asked for, and what differs from those before, since all proxies that share it ask for the same.
    """

    __slots__ = ("__weakref__", "_asked", "cells", "since", "table", "view")

    def __init__(self, cells: Mapping[str, Cell], table: EndpointTable, view: View) -> None:
        self.cells = cells
        self.table = table
        self.view = view
        self.since: tuple[ref[Assignments], frozenset[str]] | None = None
        self._asked: dict[str, Resource] = {}

    def __getitem__(self, name: str) -> Resource:
        return self._asked.get(name) or self._resource(name, self.cells[name])

    def get(self, name: str, default: Any = None) -> Any:
        """The resource of that name (sessions ask often: Mapping's own get goes through an exception)."""
        found = self._asked.get(name)
        if found is not None:
            return found
        cell = self.cells.get(name)
        return default if cell is None else self._resource(name, cell)

    def _resource(self, name: str, cell: Cell) -> Resource:
        made = self._asked[name] = cell.resource(self.table, self.view)
        return made

    def __contains__(self, name: object) -> bool:
        return name in self.cells

    def __iter__(self) -> Iterator[str]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)


class Book:
    """All cells in use, by query and by host. A cell lives as long as a layer that has its query."""

    def __init__(self, compiled: Counter[str]) -> None:
        self._compiled = compiled
        self._cells: WeakValueDictionary[Query, Cell] = WeakValueDictionary()
        self._hosts: WeakValueDictionary[_HostKey, Host] = WeakValueDictionary()
        self._moved: tuple[EndpointTable, EndpointTable, frozenset[_HostKey]] | None = None

    def cell(self, query: Query) -> Cell:
        """The one cell of a query, whichever cluster asks."""
        found = self._cells.get(query)
        if found is None:
            host = self._hosts.setdefault(home(query), Host())
            found = self._cells[query] = Cell(query, self._compiled, host)
            host.cells.add(found)
        return found

    def changed(self, before: Assignments | None, after: Assignments | None) -> frozenset[str]:
        """Names whose assignment came, went or has another version; worked out once for all proxies that share both."""
        if before is None or after is None:
            return frozenset(before or after or ())
        if after.since is None or after.since[0]() is not before:
            after.since = (ref(before), self._compared(before, after))
        return after.since[1]

    def _compared(self, before: Assignments, after: Assignments) -> frozenset[str]:
        """Work: for hosts and clusters that differ only."""
        suspects = set() if before.view == after.view else set(after)
        if before.cells is not after.cells:
            suspects |= {name for name, cell in after.cells.items() if before.cells.get(name) is not cell}
            suspects |= before.cells.keys() - after.cells.keys()
        for moved in self._moves(before.table, after.table):
            if (host := self._hosts.get(moved)) is not None:
                suspects |= {cell.query.name for cell in host.cells}
        return frozenset(name for name in suspects if _version(before, name) != _version(after, name))

    def _moves(self, before: EndpointTable, after: EndpointTable) -> frozenset[_HostKey]:
        """Hosts whose leaf differs between two tables; asked once per scope for the same two."""
        if before is after:
            return frozenset()
        if self._moved is None or self._moved[0] is not before or self._moved[1] is not after:
            old, new = before.leaves, after.leaves
            hosts = {host for host, leaf in new.items() if old.get(host) is not leaf} | (old.keys() - new.keys())
            self._moved = (before, after, frozenset(hosts))
        return self._moved[2]


def _version(layer: Assignments, name: str) -> str:
    found = layer.get(name)
    return "" if found is None else found.version
