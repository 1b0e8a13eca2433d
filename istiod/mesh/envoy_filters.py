"""EnvoyFilters: which patches hold for a proxy, and in which order (features rows K1-K3).

What a patch does to a message is istiod.envoy's (patched.py); its value stays text until then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import re2

from crds import envoy_filter as api
from crds import unhonoured
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import NETWORKING, ConfigKey
from istiod.config.store import ConfigSnapshot
from istiod.mesh import creation, named_clusters
from istiod.mesh.grouping import grouped
from istiod.mesh.recall import Recall
from istiod.mesh.service import Labels
from wire.node import Node

_ADDITIONS = ("INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST")
_ORDERED = ("HTTP_FILTER", "NETWORK_FILTER", "LISTENER_FILTER", "HTTP_ROUTE")
_ONLY = {
    "BOOTSTRAP": (("MERGE",), "bootstraps can only be merged with"),
    "EXTENSION_CONFIG": (("ADD", *_ADDITIONS), "extension configurations can only be added, as on Istio"),
}
"""What takes some operations only, and what is said of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterPlace:
    """A network filter by name; ``inside`` names an HTTP filter, None looks at no such."""

    name: str
    inside: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPlace:
    """Filter chains; empty parts do not look."""

    name: str = ""
    server_name: str = ""
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()
    destination_port: int = 0
    filter: FilterPlace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerPlace:
    """Listeners; empty parts do not look."""

    name: str = ""
    port: int = 0
    chain: ChainPlace = ChainPlace()
    listener_filter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePlace:
    """Routes by name and by what they do (ANY, ROUTE, REDIRECT or DIRECT_RESPONSE)."""

    name: str = ""
    action: str = "ANY"


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePlace:
    """Route configurations, and virtual hosts and routes in them; empty parts do not look."""

    name: str = ""
    port: int = 0
    port_name: str = ""
    gateway: str = ""
    host: str = ""
    domain: str = ""
    route: RoutePlace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlace:
    """Clusters; empty parts do not look."""

    name: str = ""
    service: str = ""
    subset: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One patch. ``value`` is Envoy configuration as JSON; "" where there is none.

    ``version`` is a regular expression for the proxy's version, ``metadata`` what its node metadata must hold.
    """

    key: ConfigKey
    field: str
    apply_to: str
    operation: str
    context: str = "ANY"
    version: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    listener: ListenerPlace = ListenerPlace()
    table: TablePlace = TablePlace()
    cluster: ClusterPlace = ClusterPlace()
    value: str = ""

    def speaks_of(self, node: Node) -> bool:
        """Whether the proxy is of the version and has the metadata that are asked for."""
        if self.version and not (node.istio_version and re2.search(self.version, node.istio_version)):
            return False
        return all(node.metadata.get(name) == value for name, value in self.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyFilter:
    """One object, read. An empty ``selector`` is every proxy of the namespace."""

    key: ConfigKey
    age: creation.Age
    priority: int = 0
    selector: Labels = frozenset()
    patches: tuple[Patch, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchSet:
    """The patches for a class of proxies, in the order in which they apply. Equal sets are one object."""

    patches: tuple[Patch, ...]

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters of the mesh that the patches' values name, whether there are such or not."""
        said = {name for one in self.patches for name in named_clusters.said(one.value)}
        return tuple(sorted(name for name in said if name.startswith("outbound|")))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyFilterIndex:
    """All EnvoyFilters by namespace; ``read`` remembers the object that each was read from."""

    root_namespace: str = ""
    by_namespace: Mapping[str, tuple[EnvoyFilter, ...]] = field(default_factory=dict)
    read: Mapping[ConfigKey, api.EnvoyFilter] = field(default_factory=dict)

    def all(self) -> Iterator[EnvoyFilter]:
        """Every one, namespace by namespace."""
        for home in self.by_namespace.values():
            yield from home

    def choose(self, node: Node, namespace: str, labels: Labels, recall: Recall) -> PatchSet | None:
        """The patches for a proxy: those of the root namespace and of its own; None where there is none.

        Lower priorities come first, of equals those of the root namespace, then the oldest.
        """
        if not self.by_namespace:
            return None
        homes = dict.fromkeys((self.root_namespace, namespace))
        found = [one for home in homes for one in self.by_namespace.get(home, ()) if one.selector <= labels]
        found.sort(key=lambda one: (one.priority, one.key.namespace != self.root_namespace, one.age))
        patches = tuple(patch for one in found for patch in one.patches if patch.speaks_of(node))
        return recall.of("patches", patches, lambda: PatchSet(patches=patches)) if patches else None

    def without(self, key: ConfigKey) -> EnvoyFilterIndex:
        """The index as if there were no such object."""
        kept = {space: tuple(one for one in home if one.key != key) for space, home in self.by_namespace.items()}
        return EnvoyFilterIndex(root_namespace=self.root_namespace, by_namespace=kept)

    def adding(self, item: api.EnvoyFilter) -> EnvoyFilterIndex:
        """The index as if there were this object, too, of which it has none yet."""
        space = item.key.namespace
        home = (*self.by_namespace.get(space, ()), _read(item))
        return EnvoyFilterIndex(root_namespace=self.root_namespace, by_namespace={**self.by_namespace, space: home})

    def findings(self) -> Iterator[Diagnostic]:
        """What of the objects has no effect."""
        for one in self.all():
            yield from one.diagnostics


def build(snapshot: ConfigSnapshot, root_namespace: str, previous: EnvoyFilterIndex) -> EnvoyFilterIndex:
    """The index of a snapshot; objects that ``previous`` has read already are not read again."""
    found = snapshot.of(NETWORKING, "EnvoyFilter")
    objects = {key: item for key, item in found.items() if isinstance(item, api.EnvoyFilter)}
    same = objects.keys() == previous.read.keys() and all(previous.read[key] is item for key, item in objects.items())
    if same and root_namespace == previous.root_namespace:
        return previous
    known = {one.key: one for one in previous.all()}
    by_namespace = grouped(
        (key.namespace, known[key] if previous.read.get(key) is item else _read(item)) for key, item in objects.items()
    )
    return EnvoyFilterIndex(root_namespace=root_namespace, by_namespace=by_namespace, read=objects)


def _read(item: api.EnvoyFilter) -> EnvoyFilter:
    spec, meta = item.spec, item.metadata
    said = tuple((f"spec.configPatches[{i}]", patch) for i, patch in enumerate(spec.config_patches))
    patches = () if spec.target_refs else tuple(_patch(item.key, path, one) for path, one in said if _works(one))
    return EnvoyFilter(
        key=item.key,
        age=creation.age(meta.creation_timestamp, meta.name, meta.namespace),
        priority=spec.priority,
        selector=frozenset(spec.workload_selector.labels.items()) if spec.workload_selector else frozenset(),
        patches=patches,
        diagnostics=tuple(_unsupported(item)),
    )


def _works(said: api.ConfigPatch) -> bool:
    """Whether it can change something here: waypoints belong to ambient mode."""
    waypoint = said.match is not None and said.match.context == "WAYPOINT"
    return not waypoint


def _unsupported(item: api.EnvoyFilter) -> Iterator[Diagnostic]:
    yield from unhonoured.findings(item)
    for i, said in enumerate(item.spec.config_patches):
        if not _works(said):
            path = f"spec.configPatches[{i}].match.context"
            yield warning(Code.NOT_SUPPORTED, item.key, path, "there are no waypoints here")
        elif said.apply_to in _ONLY and said.patch and said.patch.operation not in _ONLY[said.apply_to][0]:
            path = f"spec.configPatches[{i}].patch.operation"
            yield warning(Code.NOT_SUPPORTED, item.key, path, _ONLY[said.apply_to][1])


def _patch(key: ConfigKey, path: str, said: api.ConfigPatch) -> Patch:
    match, patch = said.match or api.ObjectMatch(), said.patch or api.Patch()
    proxy = match.proxy or api.ProxyMatch()
    added = patch.operation in _ADDITIONS and said.apply_to not in _ORDERED
    return Patch(
        key=key,
        field=path,
        apply_to=said.apply_to,
        operation="ADD" if added else patch.operation,
        context=match.context,
        version=proxy.proxy_version,
        metadata=tuple(proxy.metadata.items()),
        listener=_listener(match.listener or api.ListenerMatch()),
        table=_table(match.route_configuration or api.RouteConfigurationMatch()),
        cluster=_cluster(match.cluster or api.ClusterMatch()),
        value="" if patch.value is None else json.dumps(dict(patch.value)),
    )


def _listener(said: api.ListenerMatch) -> ListenerPlace:
    chain = said.filter_chain or api.FilterChainMatch()
    inner = chain.filter
    return ListenerPlace(
        name=said.name,
        port=said.port_number,
        chain=ChainPlace(
            name=chain.name,
            server_name=chain.sni,
            transport_protocol=chain.transport_protocol,
            application_protocols=tuple(chain.application_protocols.split(",")) if chain.application_protocols else (),
            destination_port=chain.destination_port,
            filter=FilterPlace(name=inner.name, inside=inner.sub_filter.name if inner.sub_filter else None)
            if inner
            else None,
        ),
        listener_filter=said.listener_filter,
    )


def _table(said: api.RouteConfigurationMatch) -> TablePlace:
    host = said.vhost or api.VirtualHostMatch()
    return TablePlace(
        name=said.name,
        port=said.port_number,
        port_name=said.port_name,
        gateway=said.gateway,
        host=host.name,
        domain=host.domain_name,
        route=RoutePlace(name=host.route.name, action=host.route.action) if host.route else None,
    )


def _cluster(said: api.ClusterMatch) -> ClusterPlace:
    return ClusterPlace(name=said.name, service=said.service, subset=said.subset, port=said.port_number)
