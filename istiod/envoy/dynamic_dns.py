"""Envoy's dynamic forward proxy: the cluster type and the two filters that look names up for it (rows H3, H8, R2).

Names of caches, filters and the cluster type are as recorded from the real istiod.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_cluster_pb2
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import dynamic_forward_proxy_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3 import sni_dynamic_forward_proxy_pb2

from istiod.envoy import wellknown
from istiod.mesh.families import Families
from istiod.mesh.scope import DnsCache, Lookup

LOOKUPS = {
    Families.IPV4: cluster_pb2.Cluster.V4_ONLY,
    Families.IPV6: cluster_pb2.Cluster.V6_ONLY,
    Families.DUAL: cluster_pb2.Cluster.ALL,  # Envoy tries both (happy eyeballs)
}
"""Which addresses a name may stand for."""


def cluster_type(cache: DnsCache, *, checked: bool) -> cluster_pb2.Cluster.CustomClusterType:
    """The kind of a cluster that takes addresses from a cache.

    Envoy refuses such a cluster where certificates are not ``checked`` against the request's host, unless told that
    this is meant: there is no TLS, or the user said what else to look for.
    """
    config = dynamic_cluster_pb2.ClusterConfig(
        dns_cache_config=_cache(cache), allow_insecure_cluster_options=not checked
    )
    return cluster_pb2.Cluster.CustomClusterType(
        name="envoy.clusters.dynamic_forward_proxy", typed_config=wellknown.packed(config)
    )


def http_filter(cache: DnsCache) -> hcm_pb2.HttpFilter:
    """Looks up the Host header of requests that go to a cluster of that kind."""
    return hcm_pb2.HttpFilter(
        name="envoy.filters.http.dynamic_forward_proxy",
        typed_config=wellknown.packed(dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=_cache(cache))),
    )


def network_filter(lookup: Lookup) -> listener_components_pb2.Filter:
    """Looks up the server name of a TLS connection."""
    return listener_components_pb2.Filter(
        name="envoy.extensions.filters.network.sni_dynamic_forward_proxy",
        typed_config=wellknown.packed(
            sni_dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=_cache(lookup.cache), port_value=lookup.port)
        ),
    )


def _cache(cache: DnsCache) -> dns_cache_pb2.DnsCacheConfig:
    return dns_cache_pb2.DnsCacheConfig(
        name=cache.name,
        dns_lookup_family=LOOKUPS[cache.families],
        max_hosts=wellknown.uint32(cache.most_hosts or None),
    )
