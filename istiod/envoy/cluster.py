"""Clusters (features rows D14, D15, G4-G14, H3, N3).

What is in a cluster beside its policy: how endpoints are found, TLS, and the HTTP protocol. The policy is policy.py's.
"""

from __future__ import annotations

from datetime import timedelta

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, extension_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2
from google.protobuf import struct_pb2

from istiod.config import resource
from istiod.config.resource import Resource
from istiod.envoy import dynamic_dns, endpoint, hcm, http_options, metrics, policy, tls, wellknown
from istiod.mesh.policy import TlsMode
from istiod.mesh.scope import Cluster, Direction, Discovery, UpstreamTls
from istiod.mesh.settings import MeshSettings
from wire import names

_Cluster = cluster_pb2.Cluster
_TYPES = {
    Discovery.EDS: _Cluster.EDS,
    Discovery.STATIC: _Cluster.STATIC,
    Discovery.STRICT_DNS: _Cluster.STRICT_DNS,
    Discovery.LOGICAL_DNS: _Cluster.LOGICAL_DNS,
    Discovery.ORIGINAL_DST: _Cluster.ORIGINAL_DST,
}
_DNS = (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS)
_NEVER = wellknown.duration(timedelta(seconds=9_223_372_035))
"""The app's own address is the only host of an inbound cluster: it is never cleaned up (as recorded from Istio)."""

_MUTUAL = _Cluster.TransportSocketMatch(name="tlsMode-istio", match=wellknown.struct(tlsMode="istio"))
_PLAIN = _Cluster.TransportSocketMatch(name="tlsMode-disabled", match=struct_pb2.Struct(), transport_socket=tls.RAW)


def compile(cluster: Cluster, settings: MeshSettings) -> Resource:  # noqa: A001 (read as cluster.compile)
    """The resource of one cluster."""
    return resource.make(
        cluster.name,
        names.CLUSTER,
        wellknown.encode(message(cluster, settings)),
        refs=refs(cluster),
        origin=cluster.origin,
    )


def refs(cluster: Cluster) -> dict[str, frozenset[str]]:
    """The secrets and endpoints that a cluster names, by type URL."""
    found = {names.SECRET: tls.served_secrets(cluster.tls)}
    if cluster.discovery is Discovery.EDS and cluster.query is not None:
        found[names.ENDPOINT] = frozenset((cluster.query.name,))
    return {type_url: wanted for type_url, wanted in found.items() if wanted}


def message(cluster: Cluster, settings: MeshSettings) -> cluster_pb2.Cluster:
    """One cluster as a message."""
    found = _Cluster(
        name=cluster.name,
        alt_stat_name=f"{cluster.stat_name or cluster.name};",  # Istio's stats tags end a name at ";"
        type=_TYPES.get(cluster.discovery),
        cluster_type=_custom_type(cluster),
    )
    _describe(found, cluster)
    policy.apply(found, cluster, settings)
    if (options := http_options.of(cluster, settings)) is not None:
        found.typed_extension_protocol_options[http_options.NAME].CopyFrom(options)
    _discover(found, cluster, settings)
    _secure(found, cluster, settings)
    if cluster.bind_addresses:
        first, *more = (address_pb2.SocketAddress(address=one, port_value=0) for one in cluster.bind_addresses)
        found.upstream_bind_config.source_address.CopyFrom(first)
        for extra in more:
            found.upstream_bind_config.extra_source_addresses.add(address=extra)
    return found


def _custom_type(cluster: Cluster) -> cluster_pb2.Cluster.CustomClusterType | None:
    if cluster.cache is None:
        return None
    return dynamic_dns.cluster_type(cluster.cache, checked=http_options.checks_hosts(cluster))


def _discover(found: cluster_pb2.Cluster, cluster: Cluster, settings: MeshSettings) -> None:
    if cluster.discovery is Discovery.EDS and cluster.query is not None:
        found.eds_cluster_config.service_name = cluster.query.name
        found.eds_cluster_config.eds_config.CopyFrom(hcm.ADS)
    elif cluster.endpoints and cluster.direction is Direction.INBOUND:
        found.load_assignment.CopyFrom(endpoint.app(cluster.name, cluster.endpoints[0]))
    elif cluster.endpoints:
        found.load_assignment.CopyFrom(endpoint.inline(cluster))
    if cluster.discovery in _DNS:
        found.dns_lookup_family = dynamic_dns.LOOKUPS[cluster.families]
        found.dns_refresh_rate.CopyFrom(wellknown.duration(settings.dns_refresh_rate))
        if settings.features.dns_jitter:
            found.dns_jitter.CopyFrom(wellknown.duration(settings.features.dns_jitter))
        found.respect_dns_ttl = True
        found.typed_dns_resolver_config.CopyFrom(_resolver(settings))
    if cluster.discovery is Discovery.ORIGINAL_DST and cluster.direction is Direction.INBOUND and cluster.port:
        found.cleanup_interval.CopyFrom(_NEVER)
    if cluster.discovery is Discovery.ORIGINAL_DST and cluster.port_override:
        found.original_dst_lb_config.upstream_port_override.value = cluster.port_override


def _resolver(settings: MeshSettings) -> extension_pb2.TypedExtensionConfig:
    config = cares_dns_resolver_pb2.CaresDnsResolverConfig()
    config.udp_max_queries.value = settings.features.dns_queries
    return extension_pb2.TypedExtensionConfig(
        name="envoy.network.dns_resolver.cares", typed_config=wellknown.packed(config)
    )


def _secure(found: cluster_pb2.Cluster, cluster: Cluster, settings: MeshSettings) -> None:
    version = cluster.policy.proxy_protocol
    if cluster.tls is None or cluster.tls.mode is TlsMode.DISABLE:
        if version:
            found.transport_socket.CopyFrom(tls.with_proxy_protocol(tls.RAW, version))
        return
    encrypted = tls.with_proxy_protocol(_tls(cluster.tls, cluster, settings), version)
    if cluster.tls.mode is not TlsMode.AUTO:
        found.transport_socket.CopyFrom(encrypted)
        return
    found.transport_socket_matches.append(_MUTUAL)
    found.transport_socket_matches[0].transport_socket.CopyFrom(encrypted)
    found.transport_socket_matches.append(_PLAIN)
    if version:
        found.transport_socket_matches[1].transport_socket.CopyFrom(tls.with_proxy_protocol(tls.RAW, version))


def _tls(said: UpstreamTls, cluster: Cluster, settings: MeshSettings) -> base_pb2.TransportSocket:
    return tls.upstream(said, http_options.alpn(cluster, settings), settings.tls_defaults)


def _describe(found: cluster_pb2.Cluster, cluster: Cluster) -> None:
    """Service, subset and the DestinationRule behind it, as Istio's tools and metrics read them."""
    fields = found.metadata.filter_metadata[wellknown.ISTIO].fields
    if cluster.origin is not None:
        fields["config"].string_value = wellknown.config_path(cluster.origin.key)
    if cluster.services:
        services = fields["services"].list_value.values
        for service in cluster.services:
            one = services.add().struct_value.fields
            one["host"].string_value = service.host
            one["name"].string_value = service.name
            one["namespace"].string_value = service.namespace
    fields[metrics.SERVICE].string_value = metrics.of_cluster(cluster)
    if cluster.subset:
        fields["subset"].string_value = cluster.subset
