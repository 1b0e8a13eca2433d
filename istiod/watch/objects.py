"""The objects of a cluster, without I/O: events in; objects to apply, keys to remove and findings out.

Rules: what a pass has not seen when its listing ends is gone. An object with an error keeps its last good version. An
event about a deletion counts only for the object that we know (by uid). Objects of namespaces that are not looked at
are known and not served. Policies of a namespace that goes away go last (fault FT28). Of Secrets only those are kept
that a gateway or a rule names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from crds import shared_mesh
from crds.diagnostic import Diagnostic, Severity
from crds.key import SECURITY, ConfigKey
from crds.meta import Object
from crds.parse import Parsed, parse
from istiod.config.kubernetes import Event, Raw, Verb
from istiod.config.store import Kind
from istiod.mesh import credentials
from istiod.status.observed import Observed, observe
from istiod.watch import kinds, selection
from istiod.watch.files import Change
from istiod.watch.kinds import WatchedKind
from istiod.watch.strip import strip

_KEPT: Final = "; its last good version keeps serving"
_CLOSED: Final = "; until it can be read, the workloads that it selects refuse what it might forbid"
_NAMERS: Final = frozenset((kinds.GATEWAY, kinds.DESTINATION_RULE))
_NAMES: Final = ("credentialName", "caCertCredentialName", "credentialNames")
_NOTHING: Final = Change()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which part of the cluster is ours: the root namespace, the revision, and the ConfigMaps that we read."""

    root_namespace: str
    revision: str
    mesh_config: str
    config_maps: frozenset[str]
    shared: str = ""
    """The ConfigMap with a mesh configuration that lies below the mesh's own; "" is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an object says, and the credentials that it names."""

    parsed: Parsed
    names: frozenset[str]


def read(kind: WatchedKind, raw: Raw, known: Object | None = None) -> Reading:
    """Read an object. ``known`` itself is given back where it says the same.

    Pure and thread-safe, so that large objects can be read off the event loop.
    """
    parsed = parse(strip(kind.info.kind, raw))
    if known is not None and parsed.object == known:
        parsed = replace(parsed, object=known)
    names = frozenset(_named(raw.get("spec"))) if kind.kind in _NAMERS else frozenset[str]()
    return Reading(parsed=parsed, names=names)


class ObjectSet:
    """All objects of the watched kinds. Each method says what an event means for the store."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._uids: dict[Kind, dict[ConfigKey, str]] = {}
        self._versions: dict[Kind, dict[ConfigKey, str]] = {}
        self._seen: dict[Kind, set[ConfigKey]] = {}
        self._good: dict[ConfigKey, Object] = {}
        self._closed: set[ConfigKey] = set()
        self._serving: set[ConfigKey] = set()
        self._findings: dict[ConfigKey, tuple[Diagnostic, ...]] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._ending: set[str] = set()
        self._lingering: dict[str, set[ConfigKey]] = {}
        self._pods: Counter[str] = Counter()
        self._selectors: selection.Selectors = ()
        self._mesh: dict[str, str] = {}
        self._named: dict[ConfigKey, frozenset[str]] = {}
        self.credentials: frozenset[str] = frozenset()
        """Names of the Secrets that objects name, in whichever namespace."""
        self.observed: dict[ConfigKey, Observed] = {}
        """Objects of Istio's API as they were last seen, in all namespaces."""
        self.changes = 0
        """Counts events that changed a finding, an observed object, or which of them are looked at."""

    def begin(self, kind: WatchedKind) -> None:
        """A pass begins."""
        self._seen[kind.kind] = set()

    def take(self, kind: WatchedKind, event: Event, reading: Reading | None = None) -> Change:
        """An event of a pass: PRESENT, CHANGED or DELETED. ``reading`` is its item's, where it was read already."""
        key = _key(kind, event.item)
        if event.verb is Verb.DELETED:
            known = self._uids.get(kind.kind, {}).get(key)
            return self._drop(kind.kind, (key,)) if known in (_uid(event.item), None) else _NOTHING
        if event.verb is Verb.PRESENT:
            self._seen.setdefault(kind.kind, set()).add(key)
        if not self._concerns_us(kind, key, event.item):
            return self._drop(kind.kind, (key,))
        return self._put(kind, key, event.item, reading)

    def listed(self, kind: WatchedKind) -> Change:
        """The listing is complete: what it did not hold is gone."""
        return self._drop(kind.kind, tuple(self._uids.get(kind.kind, {}).keys() - self._seen.pop(kind.kind, set())))

    def vanish(self, kind: WatchedKind) -> Change:
        """The kind itself is gone, and all its objects with it."""
        return self._drop(kind.kind, tuple(self._uids.get(kind.kind, ())))

    def versions(self, kind: WatchedKind) -> Mapping[ConfigKey, str]:
        """The resourceVersion of each object of a kind that is there, as it was last heard."""
        return dict(self._versions.get(kind.kind, {}))

    def concerning(self, kind: WatchedKind, raw: Raw) -> ConfigKey | None:
        """The key of an object, of which metadata are enough; None where it is none of ours."""
        key = _key(kind, raw)
        return key if self._concerns_us(kind, key, raw) else None

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All findings about single objects that are looked at."""
        return tuple(found for key, all_of in self._findings.items() if self.visible(key) for found in all_of)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that are looked at and stay, by name."""
        return tuple(sorted(name for name in self._namespaces if name not in self._ending and self._looked_at(name)))

    def visible(self, key: ConfigKey) -> bool:
        """Whether an object is in a namespace that is looked at, or in none."""
        return not key.namespace or self._looked_at(key.namespace)

    def _looked_at(self, namespace: str) -> bool:
        if not self._selectors or namespace == self._place.root_namespace:
            return True
        labels = self._namespaces.get(namespace)
        return labels is not None and selection.selected(self._selectors, labels)

    def _concerns_us(self, kind: WatchedKind, key: ConfigKey, raw: Raw) -> bool:
        if kind.kind == kinds.CONFIG_MAP:
            return key.name in self._place.config_maps
        if kind.kind == kinds.SECRET:
            return key.name in self.credentials
        return not kind.ours or selection.of_revision(raw, self._place.revision)

    def _put(self, kind: WatchedKind, key: ConfigKey, raw: Raw, reading: Reading | None) -> Change:
        uids = self._uids.setdefault(kind.kind, {})
        before, uids[key] = uids.get(key), _uid(raw)
        self._versions.setdefault(kind.kind, {})[key] = str(raw["metadata"].get("resourceVersion", ""))
        if before is None and kind.kind == kinds.POD:
            self._pods[key.namespace] += 1
        elif before is not None and before != uids[key]:
            self._good.pop(key, None)  # another object of this name: the old one's last good version is not its own
            self._closed.discard(key)
        self._lingering.get(key.namespace, set()).discard(key)
        if kind.ours:
            self.observed[key] = observe(raw, kind.resource())
            self.changes += 1
        reading = reading or read(kind, raw)
        self._keep(key, reading.parsed)
        if kind.kind in _NAMERS:
            self._name(key, reading.names)
        return self._settle((key, *self._effects(kind.kind, key, raw)))

    def _keep(self, key: ConfigKey, parsed: Parsed) -> None:
        findings = parsed.diagnostics
        if parsed.object is not None:
            self._good[key] = parsed.object
            self._closed.discard(key)
        elif key in self._good and key not in self._closed:
            findings = tuple(_told(finding, _KEPT) for finding in findings)
        elif parsed.stand_in is not None:
            self._good[key] = parsed.stand_in
            self._closed.add(key)
            findings = tuple(_told(finding, _CLOSED) for finding in findings)
        elif key in self._closed:  # it stood for what refuses nothing any more
            self._good.pop(key)
            self._closed.discard(key)
        if findings != self._findings.get(key, ()):
            self.changes += 1
            self._findings.pop(key, None)
            if findings:
                self._findings[key] = findings

    def _effects(self, kind: Kind, key: ConfigKey, raw: Raw) -> Iterable[ConfigKey]:
        """What an object that came or changed means for others; the keys whose place in the mesh may differ."""
        if kind == kinds.NAMESPACE:
            metadata = raw.get("metadata") or {}
            (self._ending.add if metadata.get("deletionTimestamp") else self._ending.discard)(key.name)
            labels = metadata.get("labels") or {}
            if self._namespaces.get(key.name) != labels:
                self._namespaces[key.name] = labels
                self.changes += bool(self._selectors)  # other objects are looked at now
                return self._all(key.name) if self._selectors else ()
        elif kind == kinds.CONFIG_MAP and key.name in (self._place.mesh_config, self._place.shared):
            return self._select(key.name, raw)
        return ()

    def _name(self, key: ConfigKey, names: frozenset[str]) -> None:
        """An object names these credentials now."""
        before = self._named.pop(key, frozenset())
        if names:
            self._named[key] = names
        if names != before:
            short = {credentials.bare(name).rpartition("/")[2] for named in self._named.values() for name in named}
            bare = {name.removesuffix(credentials.CA_SUFFIX) for name in short}
            self.credentials = frozenset(short | bare | {name + credentials.CA_SUFFIX for name in short})

    def _select(self, name: str, config_map: Raw | None) -> Iterable[ConfigKey]:
        self._mesh[name] = selection.text_of(config_map)
        own, shared = (self._mesh.get(one, "") for one in (self._place.mesh_config, self._place.shared))
        said = shared_mesh.merged(own, shared)
        before, self._selectors = self._selectors, selection.selectors(said, self._selectors)
        if before == self._selectors:
            return ()
        self.changes += 1
        return self._all()

    def _all(self, namespace: str = "") -> Iterable[ConfigKey]:
        return [key for key in self._good if key.namespace and namespace in ("", key.namespace)]

    def _drop(self, kind: Kind, keys: Iterable[ConfigKey]) -> Change:
        """Objects are gone, each at once or, of policies in a namespace that goes away, after its last pod."""
        gone: list[ConfigKey] = []
        for key in keys:
            if self._uids.get(kind, {}).pop(key, None) is None:
                continue
            del self._versions[kind][key]
            if key.group == SECURITY and key.namespace in self._ending and self._pods[key.namespace] > 0:
                self._lingering.setdefault(key.namespace, set()).add(key)
                continue
            gone.extend((key, *self._after(kind, key)))
        return self._settle(tuple(gone), gone=True) if gone else _NOTHING

    def _after(self, kind: Kind, key: ConfigKey) -> Iterator[ConfigKey]:
        """What goes with an object that is gone."""
        if kind == kinds.POD:
            self._pods[key.namespace] -= 1
            if self._pods[key.namespace] <= 0:
                del self._pods[key.namespace]
                yield from self._lingering.pop(key.namespace, ())
        elif kind == kinds.NAMESPACE:
            self._namespaces.pop(key.name, None)
            self.changes += bool(self._selectors)
            self._ending.discard(key.name)
            yield from self._lingering.pop(key.name, ())
        elif kind in _NAMERS:
            self._name(key, frozenset())

    def _settle(self, keys: Iterable[ConfigKey], *, gone: bool = False) -> Change:
        """The change that brings the store to what these objects are now."""
        applied: list[Object] = []
        removed: list[ConfigKey] = []
        for key in keys:
            if gone:
                self._forget(key)
            item = self._good.get(key) if self.visible(key) else None
            if item is not None:
                self._serving.add(key)
                applied.append(item)
            elif key in self._serving:
                self._serving.discard(key)
                removed.append(key)
        if gone and any((key.group, key.kind) in (kinds.CONFIG_MAP, kinds.NAMESPACE) for key in removed):
            rest = self._deselected(removed)
            return Change(applied=(*applied, *rest.applied), removed=(*removed, *rest.removed))
        return Change(applied=tuple(applied), removed=tuple(removed))

    def _deselected(self, removed: Iterable[ConfigKey]) -> Change:
        """A ConfigMap of the mesh is gone, and its selectors with it, or a namespace, and the labels that select it."""
        found: list[ConfigKey] = []
        for key in removed:
            kind = key.group, key.kind
            if kind == kinds.NAMESPACE and self._selectors:
                found.extend(self._all(key.name))
            elif kind == kinds.CONFIG_MAP and key.name in (self._place.mesh_config, self._place.shared):
                found.extend(self._select(key.name, None))
        return self._settle(found)

    def _forget(self, key: ConfigKey) -> None:
        self._good.pop(key, None)
        self._closed.discard(key)
        known = self._findings.pop(key, None), self.observed.pop(key, None)
        if known != (None, None):
            self.changes += 1


def _key(kind: WatchedKind, raw: Raw) -> ConfigKey:
    metadata = raw["metadata"]
    return ConfigKey(kind.info.group, kind.info.kind, metadata.get("namespace", ""), metadata["name"])


def _uid(raw: Raw) -> str:
    return str(raw["metadata"].get("uid", ""))


def _told(finding: Diagnostic, more: str) -> Diagnostic:
    return replace(finding, message=finding.message + more) if finding.severity is Severity.ERROR else finding


def _named(value: Any) -> Iterator[str]:
    """The credentials that a spec names, at whatever depth."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name in _NAMES:
                yield from (part,) if isinstance(part, str) else (one for one in part or () if isinstance(one, str))
            else:
                yield from _named(part)
    elif isinstance(value, list):
        for part in value:
            yield from _named(part)
