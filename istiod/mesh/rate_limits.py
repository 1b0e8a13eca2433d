"""LocalRateLimits: which of them hold for a workload, in an order that no event changes (features row X1).

Those of the root namespace hold for the whole mesh, the others for their namespace; a selector narrows both. All that
hold count; a request has to find a token in each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from crds import local_rate_limit as api
from crds.key import ConfigKey
from istiod.config.store import ConfigSnapshot, Kind
from istiod.mesh.grouping import grouped
from istiod.mesh.recall import Recall
from istiod.mesh.service import Labels

KIND: Kind = (api.GROUP, "LocalRateLimit")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """A header of which one line must be one of ``values`` (where there are any), and none one of ``not_values``."""

    name: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMatch:
    """Which requests are counted; what is empty holds for all."""

    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """One bucket. ``name`` is ``namespace.object.rule``, for statistics; without ``match`` it counts all requests.

    ``requests`` tokens come each ``per``, and ``burst`` is how many there are at most. ``per_connection``: each
    connection has a bucket of its own.
    """

    name: str
    requests: int
    per: timedelta
    burst: int
    match: RequestMatch | None = None
    per_connection: bool = False
    status: int = api.TOO_MANY
    response_headers: tuple[tuple[str, str], ...] = ()


RateLimits = tuple[RateLimit, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Said:
    """One object, read."""

    key: ConfigKey
    selector: Labels
    limits: RateLimits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RateLimitIndex:
    """The objects by namespace, by name; and what they were read from."""

    root_namespace: str = ""
    by_namespace: Mapping[str, tuple[_Said, ...]] = field(default_factory=dict)
    read: Mapping[ConfigKey, api.LocalRateLimit] = field(default_factory=dict)

    def inputs(self, namespace: str) -> tuple[object, ...]:
        """What the answers for workloads of a namespace depend on (for Recall)."""
        return (self.by_namespace.get(self.root_namespace), self.by_namespace.get(namespace))

    def choose(self, namespace: str, labels: Labels, recall: Recall) -> RateLimits:
        """The limits of a workload: the mesh's, then its namespace's. Of the same objects they are the same one."""
        chosen = tuple(self._of(namespace, labels))
        if not chosen:
            return ()
        return recall.of("rate limits", chosen, lambda: tuple(limit for one in chosen for limit in one.limits))

    def matched(self, namespace: str, labels: Labels) -> tuple[ConfigKey, ...]:
        """The objects that hold for a workload."""
        return tuple(one.key for one in self._of(namespace, labels))

    def named(self, keys: tuple[ConfigKey, ...]) -> RateLimits:
        """The limits of these objects."""
        by_key = {one.key: one for home in self.by_namespace.values() for one in home} if keys else {}
        return tuple(limit for key in keys if key in by_key for limit in by_key[key].limits)

    def _of(self, namespace: str, labels: Labels) -> Iterator[_Said]:
        for home in dict.fromkeys((self.root_namespace, namespace)):
            yield from (one for one in self.by_namespace.get(home, ()) if one.selector <= labels)


def build(snapshot: ConfigSnapshot, root_namespace: str, previous: RateLimitIndex) -> RateLimitIndex:
    """The index of a snapshot. What did not change in ``previous`` are the same objects."""
    found = {key: one for key, one in snapshot.of(*KIND).items() if isinstance(one, api.LocalRateLimit)}
    known = {one.key: one for home in previous.by_namespace.values() for one in home}
    by_namespace = grouped(
        (key.namespace, known[key] if key in known and previous.read.get(key) is item else _read(item))
        for key, item in sorted(found.items())
    )
    for namespace, home in by_namespace.items():
        if home == previous.by_namespace.get(namespace):  # of the same objects: they have no equality of their own
            by_namespace[namespace] = previous.by_namespace[namespace]
    if found == previous.read and root_namespace == previous.root_namespace and _same(by_namespace, previous):
        return previous
    return RateLimitIndex(root_namespace=root_namespace, by_namespace=by_namespace, read=found)


def _same(by_namespace: Mapping[str, tuple[_Said, ...]], previous: RateLimitIndex) -> bool:
    return all(home is previous.by_namespace.get(namespace) for namespace, home in by_namespace.items())


def _read(item: api.LocalRateLimit) -> _Said:
    spec = item.spec
    return _Said(
        key=item.key,
        selector=frozenset(spec.selector.match_labels.items() if spec.selector else ()),
        limits=tuple(_limit(item.key, index, rule) for index, rule in enumerate(spec.rules) if rule.limit.per),
    )


def _limit(key: ConfigKey, index: int, rule: api.LimitRule) -> RateLimit:
    said = rule.limit
    return RateLimit(
        name=f"{key.namespace}.{key.name}.{rule.name or index}",
        requests=said.requests,
        per=said.per or timedelta(),
        burst=said.requests if said.burst is None else said.burst,
        match=None if rule.match is None else _match(rule.match),
        per_connection=rule.per_connection,
        status=rule.status,
        response_headers=tuple(sorted(rule.response_headers.items())),
    )


def _match(said: api.RequestMatch) -> RequestMatch:
    headers = (HeaderMatch(name=h.name, values=h.values, not_values=h.not_values) for h in said.headers)
    return RequestMatch(methods=said.methods, paths=said.paths, hosts=said.hosts, headers=tuple(headers))
