"""Listeners and their filter chains (features rows S49-S52, D14, N2, E1-E11)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.mongo_proxy.v3 import mongo_proxy_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.type.v3 import hash_policy_pb2, range_pb2
from google.protobuf import any_pb2

from istiod.config import resource
from istiod.config.resource import Resource
from istiod.envoy import access_log, dynamic_dns, hcm, metrics, proxy_headers, route, tls, tracing, wellknown
from istiod.envoy.filters import authorization
from istiod.mesh import proxy_headers as headers
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.scope import Chain, ChainMatch, Direction, Listener, Tcp
from istiod.mesh.settings import MeshSettings
from istiod.mesh.sidecars import UNIX
from wire import names
from wire.labels import Reporter

_ACCEPTED_AT_ONCE = 1  # connections per socket event: spreads them over workers, as in Istio
_FIRST_READ = 512
_FOR_ALL = 0o666

_ORIGINAL_DST = listener_components_pb2.ListenerFilter(
    name="envoy.filters.listener.original_dst", typed_config=wellknown.packed(original_dst_pb2.OriginalDst())
)
_TLS_INSPECTOR = wellknown.packed(
    tls_inspector_pb2.TlsInspector(initial_read_buffer_size=wellknown.uint32(_FIRST_READ))
)
_HTTP_INSPECTOR = wellknown.packed(http_inspector_pb2.HttpInspector())


class Alike:
    """Inbound chains that no service declares: workloads have the same ones, so each is made once for all of them.

    They are found by value, and all forgotten when there are ``most``, or other settings.
    """

    __slots__ = ("_made", "_most", "_settings")

    def __init__(self, most: int = 256) -> None:
        self._made: dict[tuple[Chain, NodeSettings], listener_components_pb2.FilterChain] = {}
        self._most = most
        self._settings: MeshSettings | None = None

    def of(self, chain: Chain, listener: Listener, settings: MeshSettings) -> listener_components_pb2.FilterChain:
        """The chain as a message, for reading."""
        declared = chain.match.destination_port not in {0, settings.inbound_port}
        if declared or listener.direction is not Direction.INBOUND:
            return _chain(chain, listener, settings)
        if self._settings is not settings:
            self._made, self._settings = {}, settings
        key = (chain, listener.own)
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= self._most:
                self._made.clear()
            found = self._made[key] = _chain(chain, listener, settings)
        return found


def compile(  # noqa: A001 (read as listener.compile)
    listener: Listener, settings: MeshSettings, alike: Alike | None = None
) -> Resource:
    """The resource of one listener. ``alike`` remembers chains from one listener to the next."""
    return resource.make(
        listener.name,
        names.LISTENER,
        wellknown.encode(message(listener, settings, alike)),
        refs=refs(listener),
    )


def message(listener: Listener, settings: MeshSettings, alike: Alike | None = None) -> listener_pb2.Listener:
    """One listener as a message."""
    chain_of = (alike or Alike()).of
    inbound = listener.direction is Direction.INBOUND
    found = listener_pb2.Listener(
        name=listener.name,
        address=_address(listener.address, listener.port),
        additional_addresses=[
            listener_pb2.AdditionalAddress(address=_address(extra, listener.port))
            for extra in listener.additional_addresses
        ],
        traffic_direction=base_pb2.INBOUND if inbound else base_pb2.OUTBOUND,
        filter_chains=[chain_of(chain, listener, settings) for chain in listener.chains],
        listener_filters=_listener_filters(listener, settings),
    )
    if listener.default_chain is not None:
        found.default_filter_chain.CopyFrom(chain_of(listener.default_chain, listener, settings))
    gateway = listener.direction is Direction.GATEWAY
    limits = settings.gateway_connections if gateway else settings.sidecar_connections
    if limits is not None and limits.buffer_limit is not None:
        found.per_connection_buffer_limit_bytes.value = limits.buffer_limit
    if listener.use_original_dst and not inbound:
        found.use_original_dst.value = True
    if listener.bind:
        found.max_connections_to_accept_per_socket_event.value = _ACCEPTED_AT_ONCE
        found.access_log.extend(access_log.unrouted(settings, access_log.side(listener.own, listener.direction)))
    else:
        found.bind_to_port.value = False
    if listener.detection_timeout is not None:
        found.listener_filters_timeout.CopyFrom(wellknown.duration(listener.detection_timeout))
        found.continue_on_listener_filters_timeout = listener.continue_on_timeout
    return found


def _address(address: str, port: int) -> address_pb2.Address:
    """An address, or a Unix domain socket that the app may use whoever it runs as: it is inside of its pod."""
    if address.startswith(UNIX):
        return address_pb2.Address(pipe=address_pb2.Pipe(path=address.removeprefix(UNIX), mode=_FOR_ALL))
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def _listener_filters(listener: Listener, settings: MeshSettings) -> Iterable[listener_components_pb2.ListenerFilter]:
    said = headers.joined(settings.headers, listener.own.headers)
    if said.proxy_protocol and listener.direction is Direction.GATEWAY:  # before all that looks at the first bytes
        yield listener_components_pb2.ListenerFilter(
            name="envoy.filters.listener.proxy_protocol", typed_config=proxy_headers.PROXY_PROTOCOL
        )
    if listener.use_original_dst and listener.direction is Direction.INBOUND:
        yield _ORIGINAL_DST
    if listener.inspect_tls:
        yield _inspector("tls", _TLS_INSPECTOR, listener.tls_inspector_off)
    if listener.inspect_http:
        yield _inspector("http", _HTTP_INSPECTOR, listener.http_inspector_off)


def _inspector(kind: str, config: any_pb2.Any, ports: tuple[int, ...]) -> listener_components_pb2.ListenerFilter:
    return listener_components_pb2.ListenerFilter(
        name=f"envoy.filters.listener.{kind}_inspector", typed_config=config, filter_disabled=_on_ports(ports)
    )


def _on_ports(ports: tuple[int, ...]) -> listener_components_pb2.ListenerFilterChainMatchPredicate | None:
    predicate = listener_components_pb2.ListenerFilterChainMatchPredicate
    rules = [
        predicate(destination_port_range=range_pb2.Int32Range(start=port, end=port + 1)) for port in sorted(set(ports))
    ]
    if len(rules) > 1:
        return predicate(or_match=predicate.MatchSet(rules=rules))
    return rules[0] if rules else None


def _chain(chain: Chain, listener: Listener, settings: MeshSettings) -> listener_components_pb2.FilterChain:
    found = listener_components_pb2.FilterChain(
        name=chain.name,
        filter_chain_match=_match(chain.match),
        metadata=wellknown.origin_metadata(chain.origin),
    )
    if chain.tls is not None:
        found.transport_socket.CopyFrom(tls.downstream(chain.tls, settings))
        limit = settings.features.gateway_handshake
        if listener.direction is not Direction.INBOUND and limit:  # as Istio: the mesh has no limit
            found.transport_socket_connect_timeout.CopyFrom(wellknown.duration(limit))
    if chain.http is not None:
        found.filters.append(hcm.network_filter(chain.http, listener.direction, settings, listener.own))
    if chain.tcp is not None:
        found.filters.extend(authorization.network(chain.tcp.authorization))
        found.filters.extend(map(dynamic_dns.network_filter, chain.tcp.lookups))
        if chain.tcp.mongo:
            found.filters.append(_mongo(chain.tcp))
        found.filters.append(_tcp_proxy(chain.tcp, settings, listener.own, _reporter(chain, listener)))
    return found


def _reporter(chain: Chain, listener: Listener) -> Reporter:
    if listener.direction is not Direction.INBOUND:
        return Reporter.SOURCE
    proven = chain.tls is not None and chain.tls.workload and chain.tls.mutual
    return Reporter.DESTINATION if proven else Reporter.STRANGERS


def _match(match: ChainMatch) -> listener_components_pb2.FilterChainMatch | None:
    if match == _ANYTHING:
        return None
    return listener_components_pb2.FilterChainMatch(
        destination_port=wellknown.uint32(match.destination_port or None),
        prefix_ranges=[_prefix(prefix) for prefix in match.prefixes],
        server_names=match.server_names,
        transport_protocol=match.transport_protocol,
        application_protocols=match.application_protocols,
    )


_ANYTHING = ChainMatch()


def _prefix(prefix: str) -> address_pb2.CidrRange:
    network = ipaddress.ip_network(prefix, strict=False)
    return address_pb2.CidrRange(
        address_prefix=str(network.network_address), prefix_len=wellknown.uint32(network.prefixlen)
    )


def _mongo(tcp: Tcp) -> listener_components_pb2.Filter:
    found = mongo_proxy_pb2.MongoProxy(stat_prefix=tcp.stat_prefix)
    return listener_components_pb2.Filter(
        name="envoy.filters.network.mongo_proxy", typed_config=wellknown.packed(found)
    )


_ON_CONNECTED = tcp_proxy_pb2.TcpProxy.TcpAccessLogOptions(flush_access_log_on_connected=True)
_BY_SOURCE = hash_policy_pb2.HashPolicy(source_ip=hash_policy_pb2.HashPolicy.SourceIp())


def _tcp_proxy(
    tcp: Tcp, settings: MeshSettings, own: NodeSettings, reporter: Reporter
) -> listener_components_pb2.Filter:
    idle = own.idle_timeout if tcp.idle_timeout is None else tcp.idle_timeout
    logs = access_log.side(own, Direction.OUTBOUND if reporter is Reporter.SOURCE else Direction.INBOUND)
    found = tcp_proxy_pb2.TcpProxy(
        stat_prefix=tcp.stat_prefix,
        idle_timeout=wellknown.optional_duration(idle),
        hash_policy=[_BY_SOURCE] if tcp.hash_source else [],
        access_log=(*access_log.connections(settings, logs), *metrics.tcp(reporter, own.metrics)),
        access_log_options=_ON_CONNECTED,
    )
    if reporter is Reporter.DESTINATION:  # else it is counted as opened before its client is known
        found.upstream_connect_mode = tcp_proxy_pb2.ON_DOWNSTREAM_TLS_HANDSHAKE
        found.max_early_data_bytes.value = 0
    if tcp.tunnel is not None:
        found.tunneling_config.hostname = tcp.tunnel.target
        found.tunneling_config.use_post = tcp.tunnel.post
    if len(tcp.clusters) == 1:
        found.cluster = tcp.clusters[0].cluster
    else:
        for weighted in tcp.clusters:
            found.weighted_clusters.clusters.add(name=weighted.cluster, weight=weighted.weight)
    return listener_components_pb2.Filter(name="envoy.filters.network.tcp_proxy", typed_config=wellknown.packed(found))


def refs(listener: Listener) -> dict[str, frozenset[str]]:
    """The routes, clusters and secrets that a listener names, by type URL."""
    routes: set[str] = set()
    clusters: set[str] = set()
    secrets: set[str] = set()
    for chain in (*listener.chains, *((listener.default_chain,) if listener.default_chain else ())):
        secrets |= tls.served_secrets(chain.tls)
        if chain.tcp is not None:
            clusters.update(weighted.cluster for weighted in chain.tcp.clusters if weighted.known)
        if chain.http is not None and chain.http.inline is not None:
            clusters.update(name for host in chain.http.inline.virtual_hosts for name in route.clusters(host))
        elif chain.http is not None:
            routes.add(chain.http.rds)
        if chain.http is not None:
            clusters.update(tracing.clusters(listener.own, listener.direction))
    found = {names.ROUTE: routes, names.CLUSTER: clusters, names.SECRET: secrets}
    return {type_url: frozenset(wanted) for type_url, wanted in found.items() if wanted}
