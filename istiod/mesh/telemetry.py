"""Telemetry objects: which of them hold for a workload, the widest first (features row Q3).

The mesh's (root namespace), its namespace's, its own: the oldest of each, for metrics, access logs and tracing alike.
What several of them come to is said where each of the three is read. Source: Istio's applicableTelemetries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from crds import telemetry as api
from crds import unhonoured
from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import TELEMETRY, ConfigKey
from istiod.config.store import ConfigSnapshot, Kind
from istiod.mesh import creation
from istiod.mesh.grouping import grouped
from istiod.mesh.recall import Recall
from istiod.mesh.service import Labels

KIND: Kind = (TELEMETRY, "Telemetry")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rules:
    """What holds for a workload: of each list the widest object's first, so that a later word wins over an earlier."""

    tracing: tuple[api.Tracing, ...] = ()
    metrics: tuple[api.Metrics, ...] = ()
    access_logging: tuple[tuple[api.AccessLogging, ...], ...] = ()
    """By object, as providers that one names stand for all that a wider one names."""


NOTHING = Rules()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TelemetryIndex:
    """By namespace: the object that holds for all of it, and those with a selector, oldest first."""

    root_namespace: str = ""
    wide: Mapping[str, api.Telemetry] = field(default_factory=dict)
    narrow: Mapping[str, tuple[api.Telemetry, ...]] = field(default_factory=dict)
    read: Mapping[ConfigKey, api.Telemetry] = field(default_factory=dict)

    def inputs(self, namespace: str) -> tuple[object, ...]:
        """What the answers for workloads of a namespace depend on (for Recall)."""
        return self.wide.get(self.root_namespace), self.wide.get(namespace), self.narrow.get(namespace)

    def of_workload(self, namespace: str, labels: Labels, recall: Recall) -> Rules:
        """What holds for a workload: the same object for all for whom the same objects hold."""
        chosen = tuple(self._of(namespace, labels))
        return recall.of("telemetry", chosen, lambda: _joined(chosen)) if chosen else NOTHING

    def _of(self, namespace: str, labels: Labels) -> Iterator[api.Telemetry]:
        for home in dict.fromkeys((self.root_namespace, namespace)):
            if (one := self.wide.get(home)) is not None:
                yield one
        own = (one for one in self.narrow.get(namespace, ()) if _selector(one) <= labels)
        yield from (one for one in (next(own, None),) if one is not None)


def build(snapshot: ConfigSnapshot, root_namespace: str, previous: TelemetryIndex) -> TelemetryIndex:
    """The index of a snapshot; ``previous`` itself where nothing differs."""
    found = {key: one for key, one in snapshot.of(*KIND).items() if isinstance(one, api.Telemetry)}
    if root_namespace == previous.root_namespace and found == previous.read:
        return previous
    ordered = [one for one in sorted(found.values(), key=_age) if not _is_for_targets(one)]
    wide: dict[str, api.Telemetry] = {}
    for one in ordered:
        if not _selector(one):
            wide.setdefault(one.metadata.namespace, one)
    narrow = grouped((one.metadata.namespace, one) for one in ordered if _selector(one))
    for namespace, some in narrow.items():
        narrow[namespace] = _kept(previous.narrow.get(namespace, ()), some)
    return TelemetryIndex(root_namespace=root_namespace, wide=wide, narrow=narrow, read=found)


def _kept(before: tuple[api.Telemetry, ...], now: tuple[api.Telemetry, ...]) -> tuple[api.Telemetry, ...]:
    """The tuple before where it holds the same objects."""
    return before if list(map(id, before)) == list(map(id, now)) else now


def findings(index: TelemetryIndex) -> Iterator[Diagnostic]:
    """Objects that hold for nobody, and what has no effect of the others."""
    for key, one in index.read.items():
        yield from unhonoured.findings(one)
        if _is_for_targets(one):
            field_path = "spec.targetRef" if one.spec.target_ref is not None else "spec.targetRefs"
            message = "resources of the Gateway API have no proxies here, and there are no waypoints: it has no effect"
            yield error(Code.INEFFECTIVE, key, field_path, message)
        elif not _selector(one) and (first := index.wide[key.namespace]) is not one:
            message = f"{first.key} is older and holds for the whole namespace; this one has no effect"
            yield warning(Code.DUPLICATE_HOST, key, "", message)


def _age(item: api.Telemetry) -> creation.Age:
    meta = item.metadata
    return creation.age(meta.creation_timestamp, meta.name, meta.namespace)


def _selector(item: api.Telemetry) -> Labels:
    return frozenset(item.spec.selector.match_labels.items() if item.spec.selector else ())


def _is_for_targets(item: api.Telemetry) -> bool:
    return item.spec.target_ref is not None or bool(item.spec.target_refs)


def _joined(chosen: tuple[api.Telemetry, ...]) -> Rules:
    return Rules(
        tracing=tuple(rule for one in chosen for rule in one.spec.tracing),
        metrics=tuple(rule for one in chosen for rule in one.spec.metrics),
        access_logging=tuple(one.spec.access_logging for one in chosen if one.spec.access_logging),
    )
