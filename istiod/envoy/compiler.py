"""Scopes -> resource sets, compiling each leaf once (DESIGN section 2, points 1-5).

A leaf (Cluster, Listener, RouteTable, VirtualHost) is found by identity: istiod.mesh interns leaves, so an unchanged
one is the same object and its resource the same bytes. Whatever was compiled lives as long as somebody holds a
ResourceSet that needs it: layers pin their entries, the memos are weak. The layer of a changed scope is made from the
one before it by the leaves that differ. Endpoints stand apart (assignments.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from itertools import chain, zip_longest
from typing import Any, TypeAlias
from weakref import WeakValueDictionary, ref

from istiod.config.protocols import Changed
from istiod.config.resource import Resource, ResourceSet
from istiod.envoy import cluster, listener, name_table, older, patched, route, secret
from istiod.envoy.assignments import Assignments, Book, Cell
from istiod.envoy.older import Lost
from istiod.envoy.patched_resources import NO_LEAVES, Side
from istiod.mesh.endpoint import EndpointTable, View
from istiod.mesh.envoy_release import Release
from istiod.mesh.route import RouteTable, VirtualHost
from istiod.mesh.scope import Cluster, Credential, Listener, Scope
from istiod.mesh.settings import MeshSettings
from wire import names

VIRTUAL_HOST = names.TYPE_PREFIX + "envoy.config.route.v3.VirtualHost"
"""Key of virtual hosts in ``Compiler.compiled``; they are never sent alone."""
ROUTES = "routes"
"""Key of the routes of virtual hosts, which those of several namespaces share."""
OLDER = "older"
"""Key of all that was made anew for an older Envoy."""
PATCHED = "patched"
"""Key of all that was made for proxies with EnvoyFilters."""

_Leaf: TypeAlias = Cluster | Credential | Listener | RouteTable | VirtualHost


class _Entry:
    """A leaf and what was made of it with these settings; ``parts`` must live as long."""

    __slots__ = ("__weakref__", "leaf", "made", "parts", "settings")

    def __init__(self, leaf: _Leaf | None, settings: MeshSettings, made: Any, parts: tuple[object, ...] = ()) -> None:
        self.leaf = leaf
        self.settings = settings
        self.made = made
        self.parts = parts


class _Layer(dict[str, Resource]):
    """Resources by name, sorted, with the leaves they came from and what keeps their memo entries alive."""

    __slots__ = ("__weakref__", "cells", "pins", "settings", "side", "since", "source")

    source: Mapping[str, Any]
    settings: MeshSettings
    pins: dict[str, _Entry]
    cells: dict[str, Cell]
    side: Side
    since: tuple[ref[_Layer], frozenset[str]]

    def moved_since(self, before: _Layer) -> frozenset[str]:
        """Names whose resource is not that of ``before``; worked out once for all proxies that share both."""
        known = getattr(self, "since", None)
        if known is None or known[0]() is not before:
            moved = frozenset(name for name, made in self.items() if not _same(before.get(name), made))
            self.since = known = (ref(before), moved | (before.keys() - self.keys()))
        return known[1]

    def patched(self, source: Mapping[str, Any], fresh: dict[str, _Entry]) -> _Layer:
        """The layer of ``source``, which differs from this one's by the entries in ``fresh`` and by names gone."""
        if fresh.keys() - self.keys() or len(source) != len(self):
            pins = {**self.pins, **fresh}
            made = _layer_of({name: pins[name] for name in sorted(source)})
        else:
            made = _Layer(self)
            made.update((name, entry.made) for name, entry in fresh.items())
            made.pins = {**self.pins, **fresh}
            made.cells = dict(self.cells)
            for name in fresh:
                made.cells.pop(name, None)
            made.cells.update(_cells(fresh))
        made.source, made.settings = source, self.settings
        return made


class _Lowered(_Layer):
    """A layer for an older Envoy, made of the one in ``source``, and what is not in it."""

    __slots__ = ("lost",)

    lost: tuple[Lost, ...]


class _Fixed(dict[str, tuple[_Layer, ...]]):
    """What no endpoint event changes of a scope's resources: its layers by type URL, and the clusters' cells.

    ``scope`` is the newest of those that these are the layers of, kept so that its id means it.
    """

    __slots__ = ("__weakref__", "cells", "scope")

    scope: Scope
    cells: Mapping[str, Cell]


_NOTHING = _Fixed()


class _Layers(dict[str, tuple[Mapping[str, Resource], ...]]):
    """All layers of a set, of which ``fixed`` are those without the endpoints'."""

    __slots__ = ("assigned", "fixed")

    fixed: _Fixed
    assigned: Assignments


class Compiler:
    """Makes ResourceSets. ``compiled`` counts generator calls by type URL, for tests and metrics."""

    def __init__(self) -> None:
        self.compiled: Counter[str] = Counter()
        self._settings: MeshSettings | None = None
        self._memo: WeakValueDictionary[tuple[int, ...], _Entry] = WeakValueDictionary()
        self._sides: WeakValueDictionary[Hashable, Side] = WeakValueDictionary()
        self._layers: WeakValueDictionary[Hashable, _Layer] = WeakValueDictionary()
        self._lower: WeakValueDictionary[Hashable, _Layer] = WeakValueDictionary()
        self._sources: WeakValueDictionary[int, _Layer] = WeakValueDictionary()
        self._scopes: WeakValueDictionary[int, _Fixed] = WeakValueDictionary()
        self._fixed: WeakValueDictionary[Hashable, _Fixed] = WeakValueDictionary()
        self._sets: WeakValueDictionary[Hashable, ResourceSet] = WeakValueDictionary()
        self._assignments: WeakValueDictionary[Hashable, Assignments] = WeakValueDictionary()
        self._book = Book(self.compiled)
        self._tables = name_table.Tables()
        self._alike = listener.Alike()

    @property
    def kept(self) -> int:
        """Leaves whose resource is kept."""
        return len(self._memo)

    def compile(self, scope: Scope, endpoints: EndpointTable, view: View) -> ResourceSet:
        """Everything that a proxy of this scope gets while endpoints are as given.

        The same object comes back while scope, endpoints and view are the same and somebody holds the set. Endpoint
        resources are made when they are first read.
        """
        fixed = self._scopes.get(id(scope))
        if fixed is None or fixed.scope is not scope:
            fixed = self._scopes[id(scope)] = self._fix(scope)
        assigned = self._assigned(fixed.cells, endpoints, view)
        named = None if (hosts := scope.outbound.names) is None else self._tables.of(hosts, endpoints)
        key = (id(fixed), id(assigned), id(named))
        found = self._sets.get(key)
        if found is None:
            layers = _Layers(fixed)
            layers[names.ENDPOINT] = (assigned,)
            layers.fixed, layers.assigned = fixed, assigned
            if named is not None:
                layers[names.NAME_TABLE] = (named,)
            found = self._sets[key] = ResourceSet(layers=layers)
        return found

    def _fix(self, scope: Scope) -> _Fixed:
        settings = self._known(scope.settings)
        out, key = scope.outbound, scope.outbound.key
        side = self._side(scope, patched.OUTBOUND if scope.inbound else patched.GATEWAY)
        clusters = self._layer((key, names.CLUSTER), out.clusters, settings, self._cluster, side)
        listeners = self._layer((key, names.LISTENER), out.listeners, settings, self._listener, side)
        made = _Fixed()
        made.cells = clusters.cells
        made[names.CLUSTER], made[names.LISTENER] = (clusters,), (listeners,)
        made[names.ROUTE] = (self._layer((key, names.ROUTE), out.routes, settings, self._table, side),)
        for type_url in (names.BOOTSTRAP, names.EXTENSION):
            if side is not None and side.touches(type_url):
                made[type_url] = (self._patched(NO_LEAVES[type_url], settings, side, type_url),)
        if out.secrets:
            made[names.SECRET] = (self._layer((key, names.SECRET), out.secrets, settings, self._secret),)
        if (own := scope.inbound) is not None:
            side = self._side(scope, patched.INBOUND)
            layer = partial(self._layer, settings=settings, side=side)
            own_clusters = layer((id(own.clusters), names.CLUSTER), own.clusters, make=self._cluster)
            own_listeners = layer((id(own.listeners), names.LISTENER), own.listeners, make=self._listener)
            made[names.CLUSTER], made[names.LISTENER] = (clusters, own_clusters), (listeners, own_listeners)
        if key.envoy is not Release.CURRENT:
            for type_url, parts in made.items():
                made[type_url] = tuple(self._lowered(layer, key.envoy) for layer in parts)
        found = self._fixed.setdefault(tuple(id(layer) for parts in made.values() for layer in parts), made)
        found.scope = scope
        return found

    def changed(self, before: ResourceSet, after: ResourceSet) -> Changed:
        """The names whose resource came, went or has another version, by type URL; types without change are left out.

        Both sets must be this compiler's. Endpoints are looked at only where they may differ.
        """
        found = {}
        (old, were), (new, are) = _parts(before), _parts(after)
        if old is not new:
            for type_url in sorted(old.keys() | new.keys()):
                if moved := _moved(old.get(type_url, ()), new.get(type_url, ())):
                    found[type_url] = moved
        if moved := self._book.changed(were, are):
            found[names.ENDPOINT] = moved
        if moved := _moved_names(before, after):
            found[names.NAME_TABLE] = moved
        return found

    def _assigned(self, cells: Mapping[str, Cell], endpoints: EndpointTable, view: View) -> Assignments:
        """One for all proxies of a scope and view, whatever they listen on themselves."""
        key = (id(cells), id(endpoints), view)
        found = self._assignments.get(key)
        if found is None:
            found = self._assignments[key] = Assignments(cells, endpoints, view)
        return found

    def _known(self, settings: MeshSettings) -> MeshSettings:
        if self._settings is not settings and self._settings != settings:
            self._settings = settings
        return self._settings or settings

    def _layer(
        self,
        key: tuple[Hashable, str],
        source: Mapping[str, Any],
        settings: MeshSettings,
        make: Callable[[Any, MeshSettings], _Entry],
        side: Side | None = None,
    ) -> _Layer:
        if side is not None and side.touches(type_url := key[-1]):
            return self._patched(source, settings, side, type_url)
        known = self._sources.get(id(source))  # keys share what they get
        if known is None or known.source is not source or known.settings is not settings:
            known = self._sources[id(source)] = self._changed_layer(self._layers.get(key), source, settings, make)
        self._layers[key] = known
        return known

    def _side(self, scope: Scope, context: str) -> Side | None:
        """What patches the resources of a scope on one side; the same object while patches and ports are the same."""
        if scope.patches is None:
            return None
        key = (id(scope.patches), context, scope.outbound.key.ports)
        found = self._sides.get(key)
        if found is None:
            found = self._sides[key] = Side(scope.patches, context, scope.outbound.key.ports)
        return found

    def _patched(self, source: Mapping[str, Any], settings: MeshSettings, side: Side, type_url: str) -> _Layer:
        """The layer of ``source`` after patches: leaf by leaf, without those removed, and with those added."""
        key = (id(source), id(settings), id(side))
        known = self._layers.get(key)
        if known is not None and known.source is source and known.settings is settings:
            return known
        make = partial(self._patched_entry, side)
        found = {name: self._entry(source[name], settings, make, id(side)) for name in source}
        pins = {name: entry for name, entry in found.items() if entry.made is not None}
        for added in side.added(type_url):
            pins.setdefault(added.name, _Entry(None, settings, added, (side,)))
        made = self._layers[key] = _layer_of({name: pins[name] for name in sorted(pins)})
        made.source, made.settings, made.side = source, settings, side
        return made

    def _lowered(self, layer: _Layer, release: Release) -> _Layer:
        """The layer for an older Envoy: the very same where that takes all of it."""
        key = (id(layer), release)
        known = self._lower.get(key)
        if known is None:
            pins = {name: self._lower_entry(entry, release) for name, entry in layer.pins.items()}
            if all(pins[name] is entry for name, entry in layer.pins.items()):
                known = layer
            else:
                known = _Lowered((name, entry.made) for name, entry in pins.items())
                known.source, known.settings, known.pins, known.cells = layer, layer.settings, pins, layer.cells
                known.lost = tuple(part for each in pins.values() for part in each.parts if isinstance(part, Lost))
            self._lower[key] = known
        return known

    def _lower_entry(self, entry: _Entry, release: Release) -> _Entry:
        key = (id(entry), release)
        found = self._memo.get(key)
        if found is None:
            made, losses = older.lowered(entry.made, release)
            found = entry
            if losses:
                self.compiled[OLDER] += 1
                lost = Lost(origin=made.origin, losses=losses)
                found = _Entry(entry.leaf, entry.settings, made, (entry, lost))
            self._memo[key] = found
        return found

    def _patched_entry(self, side: Side, leaf: _Leaf, settings: MeshSettings) -> _Entry:
        self.compiled[PATCHED] += 1
        query = leaf.query if isinstance(leaf, Cluster) else None
        cells = () if query is None else (self._book.cell(query),)
        return _Entry(leaf, settings, side.make(leaf, settings), (side, *cells))

    def _changed_layer(
        self,
        before: _Layer | None,
        source: Mapping[str, Any],
        settings: MeshSettings,
        make: Callable[[Any, MeshSettings], _Entry],
    ) -> _Layer:
        if before is None or before.settings is not settings:
            made = _layer_of({name: self._entry(source[name], settings, make) for name in sorted(source)})
            made.source, made.settings = source, settings
            return made
        old = before.source
        fresh = {name: leaf for name, leaf in source.items() if old.get(name) is not leaf}
        if not fresh and len(source) == len(old):
            before.source = source
            return before
        return before.patched(source, {name: self._entry(leaf, settings, make) for name, leaf in fresh.items()})

    def _entry(
        self, leaf: _Leaf, settings: MeshSettings, make: Callable[[Any, MeshSettings], _Entry], *more: int
    ) -> _Entry:
        key = (id(leaf), id(settings), *more)
        found = self._memo.get(key)
        if found is None:
            found = make(leaf, settings)
            self._memo[key] = found
        return found

    def _cluster(self, leaf: Cluster, settings: MeshSettings) -> _Entry:
        self.compiled[names.CLUSTER] += 1
        cells = (self._book.cell(leaf.query),) if leaf.query is not None else ()
        return _Entry(leaf, settings, cluster.compile(leaf, settings), cells)

    def _secret(self, leaf: Credential, settings: MeshSettings) -> _Entry:
        self.compiled[names.SECRET] += 1
        return _Entry(leaf, settings, secret.compile(leaf))

    def _listener(self, leaf: Listener, settings: MeshSettings) -> _Entry:
        self.compiled[names.LISTENER] += 1
        return _Entry(leaf, settings, listener.compile(leaf, settings, self._alike))

    def _table(self, leaf: RouteTable, settings: MeshSettings) -> _Entry:
        self.compiled[names.ROUTE] += 1
        known, of = self._memo.get, id(settings)  # most of a thousand virtual hosts are known
        hosts = tuple(
            known((id(host), of)) or self._entry(host, settings, self._virtual_host) for host in leaf.virtual_hosts
        )
        return _Entry(leaf, settings, route.table(leaf, [host.made for host in hosts]), hosts)

    def _virtual_host(self, leaf: VirtualHost, settings: MeshSettings) -> _Entry:
        self.compiled[VIRTUAL_HOST] += 1
        key, told = (id(leaf.routes), id(settings)), route.told(settings.headers)
        entry = self._memo.get(key)
        if entry is None:
            self.compiled[ROUTES] += 1
            entry = self._memo[key] = _Entry(leaf, settings, route.routes(leaf, told))
        return _Entry(leaf, settings, route.frame(leaf, entry.made, told), (entry,))


def _layer_of(pins: dict[str, _Entry]) -> _Layer:
    layer = _Layer((name, entry.made) for name, entry in pins.items())
    layer.pins = pins
    layer.cells = _cells(pins)
    return layer


def _cells(pins: dict[str, _Entry]) -> dict[str, Cell]:
    return {name: part for name, entry in pins.items() for part in entry.parts if isinstance(part, Cell)}


def _parts(resources: ResourceSet) -> tuple[_Fixed, Assignments | None]:
    """A set of this module taken apart; any other is the empty one."""
    layers = resources.layers
    return (layers.fixed, layers.assigned) if isinstance(layers, _Layers) else (_NOTHING, None)


def lost(resources: ResourceSet) -> Iterator[Lost]:
    """What is not in a set, since its proxies' Envoy is older."""
    fixed, _ = _parts(resources)
    for layer in chain.from_iterable(fixed.values()):
        if isinstance(layer, _Lowered):
            yield from layer.lost


def _moved(before: tuple[_Layer, ...], after: tuple[_Layer, ...]) -> frozenset[str]:
    """Names whose resource differs between layers that stand at the same place."""
    pairs = [(old, new) for old, new in zip_longest(before, after, fillvalue=_Layer()) if old is not new]
    return frozenset[str]().union(*(new.moved_since(old) for old, new in pairs))


def _moved_names(before: ResourceSet, after: ResourceSet) -> frozenset[str]:
    """The name of the name table, where it is another one than before."""
    was, now = ([one.version for one in each.of(names.NAME_TABLE)] for each in (before, after))
    return frozenset() if was == now else frozenset((name_table.NAME,))


def _same(old: Resource | None, new: Resource) -> bool:
    return old is new or (old is not None and old.version == new.version)
