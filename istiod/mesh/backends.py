"""EndpointSlices, Pods and WorkloadEntries, indexed by what an event touches; updated, not rebuilt, at each event.

What endpoints they make is endpoints.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from crds import core, discovery, service_entry
from crds.key import NETWORKING, ConfigKey
from istiod.config.store import ConfigSnapshot
from istiod.mesh import networks, workload_entries, workloads
from istiod.mesh.networks import Networks
from istiod.mesh.settings import MeshSettings
from istiod.mesh.workload_entries import EntryWorkload
from istiod.mesh.workloads import PodWorkload
from wire import names
from wire.node import Locality

SLICES = ("discovery.k8s.io", "EndpointSlice")
PODS = ("", "Pod")
NODES = ("", "Node")
ENTRIES = (NETWORKING, "WorkloadEntry")

ServiceName = tuple[str, str]
"""Namespace and name of a Kubernetes Service."""
PodName = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backends:
    """Slices by the Service that they belong to, pods by name and by address, and who points at a pod.

    ``slices`` are ordered by name. ``owners`` is the Service of each slice. ``users`` are the Services whose slices
    name a pod (by name, or by an address without a target reference). ``by_address`` holds all pods of an address, by
    name: those on the host's network share it. ``homes`` are pods by namespace, ``entries`` WorkloadEntries, both
    ordered by name.
    """

    localities: Mapping[str, Locality] = field(default_factory=dict)
    slices: Mapping[ServiceName, tuple[discovery.EndpointSlice, ...]] = field(default_factory=dict)
    owners: Mapping[ConfigKey, ServiceName] = field(default_factory=dict)
    pods: Mapping[PodName, PodWorkload] = field(default_factory=dict)
    by_address: Mapping[str, tuple[PodWorkload, ...]] = field(default_factory=dict)
    homes: Mapping[str, tuple[PodWorkload, ...]] = field(default_factory=dict)
    users: Mapping[PodName | str, frozenset[ServiceName]] = field(default_factory=dict)
    entries: Mapping[str, tuple[EntryWorkload, ...]] = field(default_factory=dict)
    networks: Networks = networks.NOTHING

    def at(self, address: str) -> PodWorkload | None:
        """The pod at an address; of several the first by name, whatever came first."""
        return next(iter(self.by_address.get(address, ())), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What some events may change: endpoints of Services, pods that are new, other or gone, namespaces with entries."""

    services: frozenset[ServiceName] = frozenset()
    pods: frozenset[PodName] = frozenset()
    entries: frozenset[str] = frozenset()


def build(snapshot: ConfigSnapshot, settings: MeshSettings) -> Backends:
    """The index of a whole snapshot."""
    nodes = (n for n in snapshot.of(*NODES).values() if isinstance(n, core.Node))
    localities = {n.metadata.name: workloads.node_locality(n.metadata.labels) for n in nodes}
    empty = Backends(localities=localities, networks=settings.networks)
    keys = (*snapshot.of(*SLICES), *snapshot.of(*PODS), *snapshot.of(*ENTRIES))
    return update(empty, snapshot, frozenset(keys), settings)[0]


def update(
    before: Backends, snapshot: ConfigSnapshot, changed: Iterable[ConfigKey], settings: MeshSettings
) -> tuple[Backends, Touched]:
    """The index after some events, and what they touch. Events of other kinds are not looked at."""
    slice_keys = [key for key in changed if (key.group, key.kind) == SLICES]
    pod_keys = [key for key in changed if (key.group, key.kind) == PODS]
    entry_keys = [key for key in changed if (key.group, key.kind) == ENTRIES]
    with_entries, homes = _with_entries(before, snapshot, entry_keys, settings)
    after, services = _with_slices(with_entries, snapshot, slice_keys) if slice_keys else (with_entries, frozenset())
    if not pod_keys:
        return after, Touched(services=services, entries=homes)
    after, pods = _with_pods(after, snapshot, pod_keys, settings)
    named: set[PodName | str] = set(pods)
    for name in pods:
        for found in (before.pods.get(name), after.pods.get(name)):
            named.update(found.addresses if found else ())
    users = frozenset(user for name in named for user in after.users.get(name, ()))
    return after, Touched(services=services | users, pods=pods, entries=homes)


def _with_slices(
    before: Backends, snapshot: ConfigSnapshot, keys: Iterable[ConfigKey]
) -> tuple[Backends, frozenset[ServiceName]]:
    owners, slices, users = dict(before.owners), dict(before.slices), dict(before.users)
    touched: set[ServiceName] = set()
    changes: dict[ServiceName, dict[str, discovery.EndpointSlice | None]] = {}
    for key in keys:
        item = snapshot.get(key)
        if (old := owners.pop(key, None)) is not None:
            changes.setdefault(old, {})[key.name] = None
        if isinstance(item, discovery.EndpointSlice) and (name := item.metadata.labels.get(names.LABEL_SERVICE_NAME)):
            owner = (key.namespace, name)
            owners[key] = owner
            changes.setdefault(owner, {})[key.name] = item
    for owner, items in changes.items():
        by_name = {item.metadata.name: item for item in slices.get(owner, ())}
        _leave(users, owner, by_name.values())
        for name, item in items.items():
            if item is None:
                by_name.pop(name, None)
            else:
                by_name[name] = item
        if by_name:
            slices[owner] = tuple(by_name[name] for name in sorted(by_name))
        else:
            slices.pop(owner, None)
        _join(users, owner, by_name.values())
        touched.add(owner)
    after = replace(before, slices=slices, owners=owners, users=users)
    return after, frozenset(touched)


def _targets(items: Iterable[discovery.EndpointSlice]) -> Iterable[PodName | str]:
    for item in items:
        for backend in item.endpoints:
            yield target(item, backend) or (backend.addresses[0] if backend.addresses else "")


def target(item: discovery.EndpointSlice, backend: discovery.Endpoint) -> PodName | None:
    """The pod that a backend names, if it names one."""
    ref = backend.target_ref
    return (ref.namespace or item.metadata.namespace, ref.name) if ref and ref.kind == "Pod" else None


def _join(
    users: dict[PodName | str, frozenset[ServiceName]], owner: ServiceName, items: Iterable[discovery.EndpointSlice]
) -> None:
    for name in _targets(items):
        users[name] = users.get(name, frozenset()) | {owner}


def _leave(
    users: dict[PodName | str, frozenset[ServiceName]], owner: ServiceName, items: Iterable[discovery.EndpointSlice]
) -> None:
    for name in _targets(items):
        if left := users.get(name, frozenset()) - {owner}:
            users[name] = left
        else:
            users.pop(name, None)


def _with_pods(
    before: Backends, snapshot: ConfigSnapshot, keys: Iterable[ConfigKey], settings: MeshSettings
) -> tuple[Backends, frozenset[PodName]]:
    """Pods whose leaf differs are the touched ones; an equal leaf stays the object that it was."""
    pods, by_address = dict(before.pods), dict(before.by_address)
    touched: set[PodName] = set()
    for key in keys:
        name, item = (key.namespace, key.name), snapshot.get(key)
        old = pods.get(name)
        new = workloads.pod(item, settings, before.localities) if isinstance(item, core.Pod) else None
        if new == old:
            continue
        touched.add(name)
        for address in dict.fromkeys(old.addresses if old else ()):
            if others := tuple(pod for pod in by_address.pop(address) if pod is not old):
                by_address[address] = others
        if new is None:
            del pods[name]
        else:
            pods[name] = new
    for pod in (pods[name] for name in touched & pods.keys()):
        for address in dict.fromkeys(pod.addresses):
            by_address[address] = tuple(sorted((*by_address.get(address, ()), pod), key=_name))
    after = replace(before, pods=pods, by_address=by_address, homes=_homes(before, pods, touched))
    return after, frozenset(touched)


def _homes(
    before: Backends, pods: Mapping[PodName, PodWorkload], touched: Iterable[PodName]
) -> Mapping[str, tuple[PodWorkload, ...]]:
    """Pods by namespace; namespaces without touched ones stay as they were."""
    changed: dict[str, dict[PodName, PodWorkload | None]] = {}
    for name in touched:
        changed.setdefault(name[0], {})[name] = pods.get(name)
    homes = dict(before.homes)
    for namespace, items in changed.items():
        known = {_name(pod): pod for pod in homes.get(namespace, ())} | items
        homes[namespace] = tuple(pod for _, pod in sorted(known.items()) if pod is not None)
    return homes


def _with_entries(
    before: Backends, snapshot: ConfigSnapshot, keys: Iterable[ConfigKey], settings: MeshSettings
) -> tuple[Backends, frozenset[str]]:
    """Namespaces whose WorkloadEntries differ are the touched ones."""
    changes: dict[str, dict[str, EntryWorkload | None]] = {}
    for key in keys:
        item = snapshot.get(key)
        made = workload_entries.workload(item, settings) if isinstance(item, service_entry.WorkloadEntry) else None
        changes.setdefault(key.namespace, {})[key.name] = made
    entries, touched = dict(before.entries), set()
    for namespace, items in changes.items():
        old = entries.get(namespace, ())
        by_name = {one.name: one for one in old} | items
        new = tuple(one for _, one in sorted(by_name.items()) if one is not None)
        if new != old:
            touched.add(namespace)
            entries[namespace] = new
    return (replace(before, entries=entries) if touched else before), frozenset(touched)


def _name(pod: PodWorkload) -> PodName:
    return pod.namespace, pod.name
