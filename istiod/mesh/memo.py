"""What has been worked out already, kept from one context to the next: scopes by key, and equal leaves as one object.

The only mutable thing of this package. It never changes an answer, only who pays for it; a context that forgot all of
it would give equal scopes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar, cast

from istiod.config.proxy import Proxy
from istiod.mesh.envoy_filters import PatchSet
from istiod.mesh.inbound import Shape
from istiod.mesh.recall import Recall
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import InboundScope, OutboundScope, Scope, ScopeKey
from istiod.mesh.settings import MeshSettings
from wire.node import NodeType

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PodName = tuple[str, str]

PROXY, OUTBOUND, INBOUND, COMPARED = "proxy", "outbound", "inbound", "compared"
"""Keys of ``Memo.built``."""

_MOST_PROXIES = 50_000
"""Remembered proxies; those that left are not told apart, so the table starts anew when it is full."""
_STREAMS = 2
"""Proxies of one pod that are remembered: Envoy has a stream, and so has the agent that serves DNS."""
_SLACK = 500
"""So many leaves may come on top of twice as many as the last sweep left: those of what went, at most (fault FT57)."""
_NOTHING = OutboundScope(
    key=ScopeKey(type=NodeType.SIDECAR, namespace=""), clusters={}, listeners={}, routes={}, secrets={}
)
"""What a key without a scope before had: the same mappings for all, so that they share what is made of equals."""


class _Generations(Generic[K, V]):
    """Answers that hold as long as they are asked for: those nobody asked for in a generation are gone after it."""

    __slots__ = ("before", "now")

    def __init__(self, before: Mapping[K, V] | None = None) -> None:
        self.now: dict[K, V] = {}
        self.before = before or {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The answer for a key, made when nobody made it before. No answer is None; keys may be long to hash."""
        found = self.now.get(key)
        if found is None:
            found = self.before.get(key)
            found = self.now[key] = make() if found is None else found
        return found


@dataclass(slots=True, kw_only=True, eq=False)
class Memo:
    """Scopes of one model, and those of the model before (``known``), whose leaves are reused.

    ``leaves`` maps each leaf to the object that stands for all its equals, ``by_id`` that object to itself: it is found
    without hashing it. A table stands under its name and the ids of its virtual hosts. ``mapped`` holds what was
    interned for this model: scopes share mappings. ``built`` counts what was worked out since the first model: outbound
    and inbound scopes, scopes of proxies, and comparisons of two scopes.
    """

    outbound: dict[ScopeKey, OutboundScope] = field(default_factory=dict)
    known: Mapping[ScopeKey, OutboundScope] = field(default_factory=dict)
    inbound: _Generations[tuple[Shape, int], tuple[MeshSettings, InboundScope]] = field(default_factory=_Generations)
    scopes: _Generations[tuple[int, int, int, int], Scope] = field(default_factory=_Generations)
    proxies: dict[PodName, tuple[tuple[Proxy, Scope], ...]] = field(default_factory=dict)
    leaves: dict[object, object] = field(default_factory=dict)
    by_id: dict[int, object] = field(default_factory=dict)
    swept: int = 0
    mapped: dict[tuple[int, int], tuple[object, object, object]] = field(default_factory=dict)
    recall: Recall = field(default_factory=Recall)
    built: Counter[str] = field(default_factory=Counter)

    def next(self) -> Memo:
        """The memo of another model: outbound scopes are made again, out of the leaves that there are."""
        leaves, by_id, swept = self.leaves, self.by_id, self.swept
        if len(leaves) > 2 * swept + _SLACK:
            leaves = self.needed()
            by_id = {id(leaf): leaf for leaf in leaves.values()}
            swept = len(leaves)
        return Memo(
            known=self.outbound or self.known,
            inbound=_Generations(self.inbound.now or self.inbound.before),
            scopes=_Generations(self.scopes.now or self.scopes.before),
            leaves=leaves,
            by_id=by_id,
            swept=swept,
            recall=self.recall.next(),
            built=self.built,
        )

    def needed(self) -> dict[object, object]:
        """Of ``leaves`` those that scopes of this model have, or while nobody asked for any, of the one before."""
        inbound = (self.inbound.now or self.inbound.before).values()
        return _used((self.outbound or self.known).values(), (own for _, own in inbound))

    def without(self, pods: Iterable[PodName]) -> Memo:
        """The same, except that these pods' proxies are looked at again."""
        gone = self.proxies.keys() & set(pods)
        if not gone:
            return self
        kept = {name: entry for name, entry in self.proxies.items() if name not in gone}
        return replace(self, proxies=kept)

    def of_proxy(self, name: PodName, proxy: Proxy, make: Callable[[], Scope]) -> Scope:
        """The scope of a proxy; made when it is another proxy than the last two of that name."""
        known = self.proxies.get(name, ())
        for one, scope in known:
            if one is proxy:
                return scope
        if len(self.proxies) >= _MOST_PROXIES:
            self.proxies.clear()
        self.built[PROXY] += 1
        made = make()
        self.proxies[name] = ((proxy, made), *known[: _STREAMS - 1])
        return made

    def of_key(self, key: ScopeKey, make: Callable[[OutboundScope | None], OutboundScope]) -> OutboundScope:
        """The outbound scope of a key; ``make`` gets the one of the model before, which stands if all is equal."""
        if key not in self.outbound:
            before = self.known.get(key)
            self.built[OUTBOUND] += 1
            made = self._intern(make(before), before)
            self.built[COMPARED] += before is not None
            self.outbound[key] = before if before is not None and _same_scope(made, before) else made
        return self.outbound[key]

    def of_shape(self, shape: Shape, settings: MeshSettings, make: Callable[[], InboundScope]) -> InboundScope:
        """The inbound scope of a shape."""

        def interned() -> tuple[MeshSettings, InboundScope]:
            self.built[INBOUND] += 1
            made = make()
            scope = InboundScope(
                clusters=self._all(made.clusters, _NOTHING.clusters),
                listeners=self._all(made.listeners, _NOTHING.listeners),
            )
            return settings, scope  # the settings too: while they live, nothing else has their id

        return self.inbound.get((shape, id(settings)), interned)[1]

    def of_parts(
        self,
        settings: MeshSettings,
        outbound: OutboundScope,
        inbound: InboundScope | None,
        patches: PatchSet | None = None,
    ) -> Scope:
        """The scope made of these records; ids are safe as keys, since the scope keeps its parts alive."""
        key = (id(settings), id(outbound), id(inbound), id(patches))
        return self.scopes.get(
            key, lambda: Scope(settings=settings, outbound=outbound, inbound=inbound, patches=patches)
        )

    def _intern(self, made: OutboundScope, before: OutboundScope | None) -> OutboundScope:
        """The scope out of interned leaves; those that it shares with the scope before are that already."""
        known = before or _NOTHING
        return OutboundScope(
            key=made.key,
            clusters=self._all(made.clusters, known.clusters),
            listeners=self._all(made.listeners, known.listeners),
            routes=self._all(made.routes, known.routes),
            secrets=self._all(made.secrets, known.secrets),
            names=made.names,
        )

    def _all(self, leaves: Mapping[str, T], known: Mapping[str, T]) -> Mapping[str, T]:
        """The mapping out of interned leaves: ``known`` itself where all of it is the same."""
        if leaves is known:
            return known
        pair = (id(leaves), id(known))
        if pair not in self.mapped:
            made = {name: leaf if known.get(name) is leaf else self._leaf(leaf) for name, leaf in leaves.items()}
            self.mapped[pair] = (leaves, known, known if _same(made, known) else made)
        return cast("Mapping[str, T]", self.mapped[pair][2])

    def _leaf(self, leaf: T) -> T:
        return cast("T", self._table(leaf)) if isinstance(leaf, RouteTable) else self._one(leaf)

    def _table(self, table: RouteTable) -> RouteTable:
        hosts = tuple(map(self._one, table.virtual_hosts))
        made = replace(table, virtual_hosts=hosts)
        return self._known(_table_key(made), made)

    def _one(self, leaf: T) -> T:
        return leaf if self.by_id.get(id(leaf)) is leaf else self._known(leaf, leaf)

    def _known(self, key: object, leaf: T) -> T:
        found = cast("T", self.leaves.setdefault(key, leaf))  # a leaf's equal is of its type
        self.by_id[id(found)] = found
        return found


def _table_key(table: RouteTable) -> tuple[object, ...]:
    """Two tables of the same virtual hosts are equal; hashing a thousand of them would cost more than all else."""
    return (table.name, *map(id, table.virtual_hosts))


def _same(made: Mapping[str, object], known: Mapping[str, object]) -> bool:
    return made is known or (len(made) == len(known) and all(known.get(name) is leaf for name, leaf in made.items()))


def _same_scope(one: OutboundScope, other: OutboundScope) -> bool:
    """Whether two scopes hold the same leaves (which are interned)."""
    return (
        _same(one.clusters, other.clusters)
        and _same(one.listeners, other.listeners)
        and _same(one.routes, other.routes)
        and _same(one.secrets, other.secrets)
        and one.names is other.names
    )


def _used(outbound: Iterable[OutboundScope], inbound: Iterable[InboundScope]) -> dict[object, object]:
    used: dict[object, object] = {}
    for scope in outbound:
        for table in scope.routes.values():
            used.update((host, host) for host in table.virtual_hosts)
            used[_table_key(table)] = table
        for part in (scope.clusters, scope.listeners, scope.secrets):
            used.update((leaf, leaf) for leaf in part.values())
    for own in inbound:
        for leaves in (own.clusters, own.listeners):
            used.update((leaf, leaf) for leaf in leaves.values())
    return used
