"""The resources of a class of proxies for which EnvoyFilters hold: each leaf's message, patched, then framed.

Only types that some patch speaks of come here; the others of such a proxy are everybody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2

from istiod.config import resource
from istiod.config.origin import Origin
from istiod.config.resource import Resource
from istiod.envoy import cluster, extensions, listener, patched, patched_listeners, route, wellknown
from istiod.envoy.patched import Patches
from istiod.mesh import named_clusters
from istiod.mesh.envoy_filters import PatchSet
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import Cluster, Listener
from istiod.mesh.settings import MeshSettings
from wire import names

NO_LEAVES: Final[Mapping[str, Mapping[str, Any]]] = {names.BOOTSTRAP: {}, names.EXTENSION: {}}
"""What is there before patches, of types that only they bring."""
_LISTENERS: Final = ("LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER")
_ROUTES: Final = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_ADDED: Final[Mapping[str, tuple[str, Any]]] = {
    names.CLUSTER: ("CLUSTER", cluster_pb2.Cluster),
    names.EXTENSION: (extensions.KIND, extension_pb2.TypedExtensionConfig),
    names.LISTENER: ("LISTENER", listener_pb2.Listener),
}
_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    names.BOOTSTRAP: ("BOOTSTRAP",),
    names.CLUSTER: ("CLUSTER",),
    names.EXTENSION: (extensions.KIND,),
    names.LISTENER: _LISTENERS,
    names.ROUTE: _ROUTES,
}


class Side:
    """One side of a class of proxies: what of a patch set is for its context. ``chosen`` lives as long as this does.

    A resource's origin is the last object that patches its type: who is told when Envoy refuses it.
    """

    __slots__ = ("__weakref__", "_asks", "_patches", "_ports", "_said", "chosen")

    def __init__(self, chosen: PatchSet, context: str, ports: tuple[tuple[int, int], ...] = ()) -> None:
        """``ports`` are (server's port, listener's port) of a gateway's Services."""
        self.chosen = chosen
        self._patches = Patches(chosen, context)
        self._ports = {target: frozenset(p for p, t in ports if t == target) for _, target in ports}
        self._said = frozenset(self._clusters_said())
        self._asks = extensions.asks(chosen)

    def touches(self, type_url: str) -> bool:
        """Whether resources of a type may differ from everybody's."""
        kinds = _KINDS.get(type_url, ())
        if type_url == names.LISTENER and self._patches.context == patched.INBOUND:
            kinds = (*kinds, *_ROUTES)  # its routes stand in it
        return any(self._patches.of(*kinds))

    def cluster(self, leaf: Cluster, settings: MeshSettings) -> Resource | None:
        """A cluster; None where it is removed."""
        message = cluster.message(leaf, settings)
        if not patched.cluster(message, [one.host for one in leaf.services], self._patches):
            return None
        refs = {**cluster.refs(leaf), **self._waits(message)}
        return self._framed(leaf.name, names.CLUSTER, refs, wellknown.encode(message))

    def listener(self, leaf: Listener, settings: MeshSettings) -> Resource | None:
        """A listener; None where it is removed."""
        message = listener.message(leaf, settings)
        patched_listeners.inline_routes(message, self._patches, self._ports)
        if not patched_listeners.listener(message, self._patches):
            return None
        tables = frozenset(patched_listeners.tables(message))
        refs = {**listener.refs(leaf), names.ROUTE: tables, **self._waits(message)}
        return self._framed(leaf.name, names.LISTENER, refs, wellknown.encode(message))

    def table(self, leaf: RouteTable, settings: MeshSettings) -> Resource:
        """A route table, in one piece: patches may look at all of it."""
        message = route.inline(leaf, route.told(settings.headers))
        patched.table(message, self._patches, self._ports)
        leads = frozenset(name for host in leaf.virtual_hosts for name in route.clusters(host))
        return self._framed(leaf.name, names.ROUTE, {names.CLUSTER: leads}, wellknown.encode(message))

    def added(self, type_url: str) -> Iterator[Resource]:
        """What patches add: clusters, listeners, extension configurations (of one name the first), bootstrap."""
        if type_url == names.BOOTSTRAP:
            yield from self._bootstrap()
            return
        kind, message = _ADDED.get(type_url, ("", None))
        seen = {""}
        for one in self._patches.added(kind):
            said: Any = one.value
            if isinstance(said, message) and said.name not in seen:
                seen.add(said.name)
                origin = Origin(key=one.patch.key, field=one.patch.field)
                body = wellknown.encode(said)
                yield resource.make(said.name, type_url, body, refs=self._added_refs(said, body), origin=origin)

    def _bootstrap(self) -> Iterator[Resource]:
        """All patches of the bootstrap as one message, which agents merge into theirs."""
        several = [one for one in self._patches.of("BOOTSTRAP") if one.operation == "MERGE"]
        if several:
            found, last = bootstrap_pb2.Bootstrap(), several[-1].patch
            for one in several:
                one.merge_into(found)
            origin = Origin(key=last.key, field=last.field if len(several) == 1 else "spec.configPatches")
            yield resource.make(names.BOOTSTRAP_PATCHES, names.BOOTSTRAP, wellknown.encode(found), origin=origin)

    def _added_refs(self, said: Any, body: bytes) -> Mapping[str, frozenset[str]]:
        """What an added resource waits for, and the clusters that it names."""
        if isinstance(said, cluster_pb2.Cluster):
            return self._waits(said)
        found = {names.CLUSTER: self._mentioned(body)}
        if isinstance(said, listener_pb2.Listener):
            found = {**found, names.ROUTE: frozenset(patched_listeners.tables(said)), **self._waits(said)}
        return {type_url: named for type_url, named in found.items() if named}

    def _waits(self, message: cluster_pb2.Cluster | listener_pb2.Listener) -> Mapping[str, frozenset[str]]:
        found = frozenset(extensions.asked(message)) if self._asks else frozenset()
        return {names.EXTENSION: found} if found else {}

    def _clusters_said(self) -> Iterator[str]:
        """Clusters that patches add, and those of the mesh that they name."""
        for one in self._patches.added("CLUSTER"):
            if isinstance(one.value, cluster_pb2.Cluster) and one.value.name:
                yield one.value.name
        for patch in self.chosen.patches:
            yield from named_clusters.said(patch.value)

    def _mentioned(self, body: bytes) -> frozenset[str]:
        """Those of them whose name stands in a resource."""
        return frozenset(each for each in self._said if each.encode() in body)

    def make(self, leaf: Any, settings: MeshSettings) -> Resource | None:
        """The resource of a cluster, listener or route table; None where it is removed."""
        if isinstance(leaf, Cluster):
            return self.cluster(leaf, settings)
        return self.listener(leaf, settings) if isinstance(leaf, Listener) else self.table(leaf, settings)

    def _framed(self, name: str, type_url: str, refs: Mapping[str, frozenset[str]], body: bytes) -> Resource:
        """The patched body under the leaf's name; it waits, too, for the clusters that patches name in it."""
        named = dict(refs)
        if type_url != names.CLUSTER:
            named[names.CLUSTER] = named.get(names.CLUSTER, frozenset()) | self._mentioned(body)
        last = self.chosen.patches[-1] if self.chosen.patches else None
        origin = None if last is None else Origin(key=last.key, field="spec.configPatches")
        return resource.make(name, type_url, body, refs=named, origin=origin)
