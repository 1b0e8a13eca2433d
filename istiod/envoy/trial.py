"""What an EnvoyFilter under admission would change, as a bootstrap that ``envoy --mode validate`` judges (row Z1).

Only resources that differ because of the object are in it, and of what they name but a stub, so that a mesh of a
thousand services costs no more than what the object touches. Who runs Envoy is left to istiod.gate.process, and what
must not be loaded outside of a proxy's pod to istiod.envoy.foreign_code.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2, extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.bootstrap.internal_listener.v3 import internal_listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.direct_response.v3 import config_pb2 as direct_response_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

from crds.key import ConfigKey
from istiod.config.resource import Resource
from istiod.envoy import extensions, patched, wellknown
from istiod.envoy.patched_resources import NO_LEAVES, Side
from istiod.mesh import named_clusters
from istiod.mesh.envoy_filters import Patch, PatchSet
from istiod.mesh.scope import Scope
from wire import merging, names

_ROUTER: Final = router_pb2.Router.DESCRIPTOR.full_name
_LAST: Final = frozenset(
    f"envoy.extensions.filters.network.{each}"
    for each in (
        "direct_response.v3.Config",
        "echo.v3.Echo",
        "http_connection_manager.v3.HttpConnectionManager",
        "redis_proxy.v3.RedisProxy",
        "tcp_proxy.v3.TcpProxy",
        "thrift_proxy.v3.ThriftProxy",
    )
)
"""Network filters after which no other may stand."""
_HTTP2: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_OF_PROXIES: Final = (names.CLUSTER_XDS, names.CLUSTER_SDS, "agent", "prometheus_stats", "zipkin")
"""Clusters of every proxy's own bootstrap."""
_FIRST_PORT: Final = 10_000
_LEAST_QUOTE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One class of proxies: its scope, and its patches without the object, with it, and of it alone.

    ``left`` are patches of neighbours that are in none of the three: what they add is named, and not shown to Envoy.
    """

    scope: Scope
    without: PatchSet
    whole: PatchSet
    alone: PatchSet
    left: tuple[Patch, ...] = ()

    def leaving(self, neighbours: Container[ConfigKey]) -> Trial:
        """The same as if these other objects were not there."""
        without, whole = (
            PatchSet(patches=tuple(each for each in one.patches if each.key not in neighbours))
            for one in (self.without, self.whole)
        )
        left = tuple(each for each in self.without.patches if each.key in neighbours)
        return replace(self, without=without, whole=whole, left=left) if left else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A resource without and with the object; ``before`` is None where there was none."""

    before: Resource | None
    after: Resource


def changes(trial: Trial, before: PatchSet, after: PatchSet) -> Iterator[Change]:
    """The resources of the trial's scope that the object's own patches speak of, and that differ by it."""
    scope = trial.scope
    ports = scope.outbound.key.ports
    for context, sources in _sides(scope):
        old, new, own = (Side(each, context, ports) for each in (before, after, trial.alone))
        for type_url, leaves in sources.items():
            if own.touches(type_url):
                yield from _differing(leaves, scope, old, new)
                yield from _added(type_url, old, new)


def _added(type_url: str, old: Side, new: Side) -> Iterator[Change]:
    known = {one.name: one for one in old.added(type_url)}
    for one in new.added(type_url):
        before = known.get(one.name)
        if before is None or before.version != one.version:
            yield Change(before=before, after=one)


def _differing(leaves: Mapping[str, Any], scope: Scope, old: Side, new: Side) -> Iterator[Change]:
    for leaf in leaves.values():
        after = new.make(leaf, scope.settings)
        if after is not None:
            before = old.make(leaf, scope.settings)
            if before is None or before.version != after.version:
                yield Change(before=before, after=after)


def _sides(scope: Scope) -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    out, own = scope.outbound, scope.inbound
    outbound = {names.CLUSTER: out.clusters, names.LISTENER: out.listeners, names.ROUTE: out.routes}
    outbound = {**outbound, **NO_LEAVES}
    yield patched.OUTBOUND if own is not None else patched.GATEWAY, outbound
    if own is not None:
        yield patched.INBOUND, {names.CLUSTER: own.clusters, names.LISTENER: own.listeners}


def needed(trial: Trial, resources: Iterable[Resource]) -> frozenset[str]:
    """Clusters that have to be there for these resources: those that they name, and that the patches do."""
    refs = frozenset[str]().union(*(one.refs.get(names.CLUSTER, frozenset()) for one in resources))
    own = trial.scope.inbound.clusters if trial.scope.inbound is not None else {}
    values = map(_value, (*trial.whole.patches, *trial.left))
    added = {value["name"] for value in values if isinstance(value.get("name"), str)}
    there = trial.scope.outbound.clusters.keys() | own.keys() | added
    return refs | frozenset(
        text for patch in trial.whole.patches for text in named_clusters.texts(_value(patch)) if text in there
    )


def bootstrap(resources: Iterable[tuple[Resource, bytes]], stubs: Iterable[str]) -> bytes:
    """A bootstrap in Envoy's binary form that holds the resources, each with its bytes.

    ``stubs`` are the names of clusters that have to be there, without endpoints.
    """
    found = bootstrap_pb2.Bootstrap()
    found.node.id, found.node.cluster = "validation", "validation"
    _as_proxies_have(found)
    ads = found.dynamic_resources.ads_config
    ads.api_type, ads.transport_api_version = config_source_pb2.ApiConfigSource.GRPC, config_source_pb2.V3
    ads.grpc_services.add().envoy_grpc.cluster_name = names.CLUSTER_XDS
    static, used = found.static_resources, set[str]()
    own, several = _apart(resources)
    used |= {cluster.name for cluster in own.static_resources.clusters}
    for number, (one, body) in enumerate(several):
        if one.type_url == names.CLUSTER:
            cluster = static.clusters.add()
            cluster.ParseFromString(body)
            extensions.forget(cluster)
            cluster.name = _free(cluster.name, used)
        elif one.type_url == names.LISTENER:
            listener = static.listeners.add()
            listener.ParseFromString(body)
            _placed(listener, number, used)
        else:
            listener = static.listeners.add()
            _fill(listener, one, body)
            _placed(listener, number, used)
    static.clusters.extend(_stub(name) for name in sorted({*_OF_PROXIES, *stubs} - used))
    merging.merge(found, own)
    return wellknown.encode(found)


_Bodies: TypeAlias = list[tuple[Resource, bytes]]


def _apart(resources: Iterable[tuple[Resource, bytes]]) -> tuple[bootstrap_pb2.Bootstrap, _Bodies]:
    """What is merged into a bootstrap, which is that of the first class of proxies, and what stands in it."""
    several = list(resources)
    own = next((body for one, body in several if one.type_url == names.BOOTSTRAP), b"")
    return bootstrap_pb2.Bootstrap.FromString(own), [each for each in several if each[0].type_url != names.BOOTSTRAP]


def _as_proxies_have(found: bootstrap_pb2.Bootstrap) -> None:
    """What decides about configuration in the bootstrap that agents write (agent.bootstrap)."""
    layer = found.layered_runtime.layers.add(name="global config")
    layer.static_layer.update({names.RUNTIME_LONGEST_PATTERN: names.LONGEST_PATTERN})
    internal = internal_listener_pb2.InternalListener()
    found.bootstrap_extensions.add(name="envoy.bootstrap.internal_listener", typed_config=wellknown.packed(internal))


def guilty(patches: Iterable[Patch], words: str) -> str:
    """The field of the patch whose value Envoy's words quote best; "" where they quote none."""
    several = {patch.field: patch for patch in patches}
    if len(several) == 1:
        return next(iter(several))
    scores = {field: _score(patch, words) for field, patch in several.items()}
    best = max(scores.values(), default=0)
    found = [field for field, score in scores.items() if score == best]
    return found[0] if best and len(found) == 1 else ""


def _score(patch: Patch, words: str) -> int:
    return max(
        (len(text) for text in named_clusters.texts(_value(patch)) if len(text) >= _LEAST_QUOTE and text in words),
        default=0,
    )


def _value(patch: Patch) -> dict[str, Any]:
    found = json.loads(patch.value) if patch.value else {}
    return found if isinstance(found, dict) else {}


def body(one: Resource) -> bytes:
    """A resource's own message."""
    (framed,) = discovery_pb2.DiscoveryResponse.FromString(one.any_frame).resources
    return framed.value


def _free(name: str, used: set[str]) -> str:
    """The name, or a like one: two classes of proxies have different resources of one name."""
    found, count = name, 1
    while found in used:
        count += 1
        found = f"{name} ({count})"
    used.add(found)
    return found


def _placed(listener: listener_pb2.Listener, number: int, used: set[str]) -> None:
    """Give a listener a name and a port of its own: those of different proxies stand side by side here."""
    listener.name = _free(listener.name, used)
    del listener.additional_addresses[:]
    if listener.address.HasField("socket_address"):
        listener.address.socket_address.port_value = _FIRST_PORT + number


def _fill(listener: listener_pb2.Listener, one: Resource, body: bytes) -> None:
    """Make a listener hold what stands in none by itself: a route table, or the configuration of a filter."""
    listener.address.socket_address.address = "127.0.0.1"
    if one.type_url == names.ROUTE:
        listener.name = f"routes {one.name}"
        table = route_pb2.RouteConfiguration.FromString(body)
        table.validate_clusters.value = False  # as for tables that come by discovery
        _manage(listener, table)
    else:
        listener.name = f"extension {one.name}"
        _filter(listener, extension_pb2.TypedExtensionConfig.FromString(body))


def _filter(listener: listener_pb2.Listener, said: extension_pb2.TypedExtensionConfig) -> None:
    """Put a configuration where its type belongs; before what has to be the last, unless it is such itself."""
    kind = extensions.type_name(said.typed_config)
    if ".filters.network." in kind:
        filters = listener.filter_chains.add().filters
        filters.add(name=said.name, typed_config=said.typed_config)
        if kind not in _LAST:
            filters.add(name="end", typed_config=wellknown.packed(direct_response_pb2.Config()))
    elif ".filters.listener." in kind:
        listener.listener_filters.add(name=said.name, typed_config=said.typed_config)
        listener.filter_chains.add().filters.add(
            name="end", typed_config=wellknown.packed(direct_response_pb2.Config())
        )
    else:
        _manage(listener, route_pb2.RouteConfiguration(), said)


def _manage(
    listener: listener_pb2.Listener,
    table: route_pb2.RouteConfiguration,
    said: extension_pb2.TypedExtensionConfig | None = None,
) -> None:
    manager = http_connection_manager_pb2.HttpConnectionManager(stat_prefix="routes", route_config=table)
    if said is not None:
        manager.http_filters.add(name=said.name, typed_config=said.typed_config)
    if said is None or extensions.type_name(said.typed_config) != _ROUTER:
        manager.http_filters.add(name="router", typed_config=wellknown.packed(router_pb2.Router()))
    listener.filter_chains.add().filters.add(name="routes", typed_config=wellknown.packed(manager))


def _stub(name: str) -> cluster_pb2.Cluster:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()
    held: dict[str, any_pb2.Any] = {_HTTP2: wellknown.packed(options)}
    return cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.STATIC, typed_extension_protocol_options=held)
