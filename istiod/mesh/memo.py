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
from istiod.mesh.inbound import Shape
from istiod.mesh.recall import Recall
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import InboundScope, OutboundScope, Scope, ScopeKey
from istiod.mesh.settings import MeshSettings

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PodName = tuple[str, str]

PROXY, OUTBOUND, INBOUND, COMPARED = "proxy", "outbound", "inbound", "compared"
"""Keys of ``Memo.built``."""

_MOST_PROXIES = 50_000
"""Remembered proxies; those that left are not told apart, so the table starts anew when it is full."""
_SLACK = 10_000


class _Generations(Generic[K, V]):
    """Answers that hold as long as they are asked for: those nobody asked for in a generation are gone after it."""

    __slots__ = ("before", "now")

    def __init__(self, before: Mapping[K, V] | None = None) -> None:
        self.now: dict[K, V] = {}
        self.before = before or {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The answer for a key, made when nobody made it before."""
        if key not in self.now:
            self.now[key] = self.before[key] if key in self.before else make()
        return self.now[key]


@dataclass(slots=True, kw_only=True, eq=False)
class Memo:
    """Scopes of one model, and those of the model before (``known``), whose leaves are reused.

    ``leaves`` maps each leaf to the object that stands for all its equals. ``built`` counts what was worked out since
    the first model: outbound and inbound scopes, scopes of proxies, and comparisons of two scopes.
    """

    outbound: dict[ScopeKey, OutboundScope] = field(default_factory=dict)
    known: Mapping[ScopeKey, OutboundScope] = field(default_factory=dict)
    inbound: _Generations[tuple[Shape, MeshSettings], InboundScope] = field(default_factory=_Generations)
    scopes: _Generations[tuple[int, int, int], Scope] = field(default_factory=_Generations)
    proxies: dict[PodName, tuple[Proxy, Scope]] = field(default_factory=dict)
    leaves: dict[object, object] = field(default_factory=dict)
    swept: int = 0
    recall: Recall = field(default_factory=Recall)
    built: Counter[str] = field(default_factory=Counter)

    def next(self) -> Memo:
        """The memo of another model: outbound scopes are made again, out of the leaves that there are."""
        leaves, swept = self.leaves, self.swept
        if len(leaves) > 2 * swept + _SLACK:
            leaves = _used(self.outbound.values(), self.inbound.now.values())
            swept = len(leaves)
        return Memo(
            known=self.outbound or self.known,
            inbound=_Generations(self.inbound.now or self.inbound.before),
            scopes=_Generations(self.scopes.now or self.scopes.before),
            leaves=leaves,
            swept=swept,
            recall=self.recall.next(),
            built=self.built,
        )

    def without(self, pods: Iterable[PodName]) -> Memo:
        """The same, except that these pods' proxies are looked at again."""
        gone = self.proxies.keys() & set(pods)
        if not gone:
            return self
        kept = {name: entry for name, entry in self.proxies.items() if name not in gone}
        return replace(self, proxies=kept)

    def of_proxy(self, name: PodName, proxy: Proxy, make: Callable[[], Scope]) -> Scope:
        """The scope of a proxy; made when it is another proxy than the last of that name."""
        entry = self.proxies.get(name)
        if entry is None or entry[0] is not proxy:
            if len(self.proxies) >= _MOST_PROXIES:
                self.proxies.clear()
            self.built[PROXY] += 1
            entry = self.proxies[name] = (proxy, make())
        return entry[1]

    def of_key(self, key: ScopeKey, make: Callable[[OutboundScope | None], OutboundScope]) -> OutboundScope:
        """The outbound scope of a key; ``make`` gets the one of the model before, which stands if all is equal."""
        if key not in self.outbound:
            before = self.known.get(key)
            self.built[OUTBOUND] += 1
            made = self._intern(make(before), before)
            self.built[COMPARED] += before is not None
            self.outbound[key] = before if before is not None and _same(made, before) else made
        return self.outbound[key]

    def of_shape(self, shape: Shape, settings: MeshSettings, make: Callable[[], InboundScope]) -> InboundScope:
        """The inbound scope of a shape."""

        def interned() -> InboundScope:
            self.built[INBOUND] += 1
            made = make()
            return InboundScope(clusters=self._all(made.clusters, {}), listeners=self._all(made.listeners, {}))

        return self.inbound.get((shape, settings), interned)

    def of_parts(self, settings: MeshSettings, outbound: OutboundScope, inbound: InboundScope | None) -> Scope:
        """The scope made of these records; ids are safe as keys, since the scope keeps its parts alive."""
        key = (id(settings), id(outbound), id(inbound))
        return self.scopes.get(key, lambda: Scope(settings=settings, outbound=outbound, inbound=inbound))

    def _intern(self, made: OutboundScope, before: OutboundScope | None) -> OutboundScope:
        """The scope out of interned leaves; those that it shares with the scope before are that already."""
        known = before or OutboundScope(key=made.key, clusters={}, listeners={}, routes={})
        return OutboundScope(
            key=made.key,
            clusters=self._all(made.clusters, known.clusters),
            listeners=self._all(made.listeners, known.listeners),
            routes={name: self._table(table, known.routes.get(name)) for name, table in made.routes.items()},
            secrets=self._all(made.secrets, known.secrets),
        )

    def _all(self, leaves: Mapping[str, T], known: Mapping[str, T]) -> Mapping[str, T]:
        return {name: leaf if known.get(name) is leaf else self._one(leaf) for name, leaf in leaves.items()}

    def _table(self, table: RouteTable, known: RouteTable | None) -> RouteTable:
        if table is known:
            return table
        ids = {id(host) for host in known.virtual_hosts} if known else ()
        hosts = tuple(host if id(host) in ids else self._one(host) for host in table.virtual_hosts)
        return self._one(replace(table, virtual_hosts=hosts))

    def _one(self, leaf: T) -> T:
        found: T = self.leaves.setdefault(leaf, leaf)  # type: ignore[assignment]  # a leaf's equal is of its type
        return found


def _same(one: OutboundScope, other: OutboundScope) -> bool:
    """Whether two scopes hold the same leaves (which are interned)."""
    pairs = (
        (one.clusters, other.clusters),
        (one.listeners, other.listeners),
        (one.routes, other.routes),
        (one.secrets, other.secrets),
    )
    return all(
        a.keys() == b.keys() and all(leaf is b[name] for name, leaf in a.items())
        for a, b in cast("tuple[tuple[Mapping[str, object], Mapping[str, object]], ...]", pairs)
    )


def _used(outbound: Iterable[OutboundScope], inbound: Iterable[InboundScope]) -> dict[object, object]:
    used: dict[object, object] = {}
    for scope in outbound:
        for table in scope.routes.values():
            used.update((host, host) for host in table.virtual_hosts)
        for part in (scope.clusters, scope.listeners, scope.routes, scope.secrets):
            used.update((leaf, leaf) for leaf in part.values())
    for own in inbound:
        for leaves in (own.clusters, own.listeners):
            used.update((leaf, leaf) for leaf in leaves.values())
    return used
