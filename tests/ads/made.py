"""Resources made by hand for the tests of istiod.ads: as small as Envoy takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, config_source_pb2, extension_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message

from istiod.config import resource
from istiod.config.protocols import Changed, OnTarget, RefusedError
from istiod.config.proxy import Proxy
from istiod.config.resource import EMPTY, Resource, ResourceSet
from wire import names


def targets(*resources: Resource) -> ResourceSet:
    """One layer per type."""
    layers: dict[str, dict[str, Resource]] = {}
    for made in resources:
        layers.setdefault(made.type_url, {})[made.name] = made
    return ResourceSet(layers={type_url: (layer,) for type_url, layer in layers.items()})


def changes(before: ResourceSet, after: ResourceSet) -> dict[str, frozenset[str]]:
    """What differs, by type."""
    found = {}
    for type_url in {*before.layers, *after.layers}:
        known = {r.name for t in (before, after) for r in t.of(type_url)}
        changed = {n for n in known if before.get(type_url, n) is not after.get(type_url, n)}
        if changed:
            found[type_url] = frozenset(changed)
    return found


class Fixed:
    """A Configuration whose target is set by the test."""

    def __init__(self, target: ResourceSet = EMPTY, *, ready: bool = True) -> None:
        self.ready = ready
        self.target = target
        self.listeners: list[OnTarget] = []
        self.proxies: list[Proxy] = []
        self.closed = 0
        self.refuses = ""
        self.pods: set[str] = set()
        self.making: asyncio.Event | None = None
        self.early: list[Proxy] = []

    def knows(self, proxy: Proxy) -> bool:
        return proxy.node.name in self.pods

    def ahead(self, proxy: Proxy) -> Callable[[], Awaitable[object]] | None:
        if self.making is None or self.making.is_set():
            return None
        self.early.append(proxy)
        return self.making.wait

    def subscribe(self, proxy: Proxy, on_target: OnTarget) -> _Place:
        if self.refuses:
            raise RefusedError(self.refuses)
        self.proxies.append(proxy)
        self.listeners.append(on_target)
        on_target(self.target, None)
        return _Place(lambda: self._leave(on_target))

    def set(self, *resources: Resource) -> Changed:
        before, self.target = self.target, targets(*resources)
        changed = changes(before, self.target)
        for listener in self.listeners:
            listener(self.target, changed)
        return changed

    def _leave(self, on_target: OnTarget) -> None:
        self.listeners.remove(on_target)
        self.closed += 1


class _Place:
    def __init__(self, close: Callable[[], None]) -> None:
        self.close = close


def address(port: int) -> address_pb2.Address:
    return address_pb2.Address(
        socket_address=address_pb2.SocketAddress(address="127.0.0.1", port_value=port),
    )


def bytes_of(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def cluster(name: str, *, timeout: float = 1.0) -> Resource:
    """An EDS cluster; another ``timeout`` is another version."""
    eds = config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
        initial_fetch_timeout=duration_pb2.Duration(),
    )
    message = cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=eds),
        connect_timeout=duration_pb2.Duration(nanos=int(timeout * 1e9) % 10**9, seconds=int(timeout)),
    )
    return resource.make(name, names.CLUSTER, bytes_of(message))


def endpoints(name: str, *ports: int) -> Resource:
    """An assignment to local ports."""
    hosts = [
        endpoint_components_pb2.LbEndpoint(endpoint=endpoint_components_pb2.Endpoint(address=address(port)))
        for port in ports
    ]
    message = endpoint_pb2.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=hosts)]
    )
    return resource.make(name, names.ENDPOINT, bytes_of(message))


def route(name: str, to: str, *, twice: bool = False) -> Resource:
    """All requests to one cluster. Envoy refuses one that says so ``twice``."""
    host = route_components_pb2.VirtualHost(
        name="all",
        domains=["*"],
        routes=[
            route_components_pb2.Route(
                match=route_components_pb2.RouteMatch(prefix="/"),
                route=route_components_pb2.RouteAction(cluster=to),
            )
        ],
    )
    hosts = [host, route_components_pb2.VirtualHost(name="again", domains=["*"])] if twice else [host]
    message = route_pb2.RouteConfiguration(name=name, virtual_hosts=hosts)
    return resource.make(name, names.ROUTE, bytes_of(message), refs={names.CLUSTER: frozenset((to,))})


MUTATION = names.TYPE_PREFIX + header_mutation_pb2.HeaderMutation.DESCRIPTOR.full_name


def asking(name: str) -> hcm_pb2.HttpFilter:
    """A filter that asks for its configuration, and waits for it."""
    source = config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
        initial_fetch_timeout=duration_pb2.Duration(),
    )
    said = config_source_pb2.ExtensionConfigSource(config_source=source, type_urls=[MUTATION])
    return hcm_pb2.HttpFilter(name=name, config_discovery=said)


def mutation(name: str, value: str) -> Resource:
    """The configuration of such a filter: a header of responses."""
    found = header_mutation_pb2.HeaderMutation()
    header = found.mutations.response_mutations.add().append.header
    header.key, header.value = name, value
    message = extension_pb2.TypedExtensionConfig(name=name)
    message.typed_config.Pack(found)
    return resource.make(name, names.EXTENSION, bytes_of(message))


def listener(name: str, port: int, routes: str, *filters: str, bad: bool = False) -> Resource:
    """HTTP on a local port, by RDS. A ``bad`` one has a filter that Envoy does not know.

    ``filters`` ask for their configurations.
    """
    rds = hcm_pb2.Rds(
        route_config_name=routes,
        config_source=config_source_pb2.ConfigSource(
            ads=config_source_pb2.AggregatedConfigSource(),
            resource_api_version=config_source_pb2.ApiVersion.V3,
            initial_fetch_timeout=duration_pb2.Duration(),
        ),
    )
    router = any_pb2.Any()
    router.Pack(router_pb2.Router())
    unknown = any_pb2.Any(type_url="type.googleapis.com/no.such.Filter")
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix=name,
        rds=rds,
        http_filters=[
            *map(asking, filters),
            hcm_pb2.HttpFilter(name="router", typed_config=unknown if bad else router),
        ],
    )
    config = any_pb2.Any()
    config.Pack(manager)
    chain = listener_components_pb2.FilterChain(
        filters=[listener_components_pb2.Filter(name="http", typed_config=config)]
    )
    message = listener_pb2.Listener(name=name, address=address(port), filter_chains=[chain])
    refs = {names.ROUTE: frozenset((routes,)), names.EXTENSION: frozenset(filters)}
    return resource.make(name, names.LISTENER, bytes_of(message), refs=refs)


def named(resources: Iterable[Resource]) -> list[str]:
    return sorted(r.name for r in resources)
