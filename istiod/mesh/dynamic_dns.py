"""Hosts that Envoy resolves when somebody asks for them (features rows H3, H8, R2): its dynamic forward proxy.

A cluster of that kind takes addresses from a cache, and filters on the way to it put them in: by the Host header of a
request, or by the server name of a TLS connection. Which cluster has which cache is clusters.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from istiod.mesh import clusters
from istiod.mesh.route import ANY, Destination, Route, RouteTable, VirtualHost, WeightedDestination
from istiod.mesh.scope import (
    HTTP_APPLICATION_PROTOCOLS,
    Chain,
    ChainMatch,
    Cluster,
    DnsCache,
    Http,
    Listener,
    Lookup,
    WeightedCluster,
)
from istiod.mesh.service import Resolution, Service
from istiod.mesh.settings import MeshSettings, OutboundMode

_ANY = "allow_any_dynamic_dns"
_PATIENCE = timedelta(seconds=15)
"""How long a client may be silent before it counts as not HTTP, where the mesh sets no limit: Envoy's default."""

ANY_HOST = VirtualHost(
    name=_ANY,
    domains=("*",),
    routes=(
        Route(
            name=_ANY,
            match=ANY,
            origin=None,
            destinations=(
                WeightedDestination(
                    destination=Destination(cluster=clusters.ANY_HOST, host=clusters.ANY_HOST, port=0), weight=1
                ),
            ),
        ),
    ),
)
"""Where requests for hosts go that nobody declared."""


def applies(service: Service) -> bool:
    """Whether the service's hosts are resolved on demand."""
    return service.resolution is Resolution.DYNAMIC_DNS


def clusters_of(service: Service, upstream: Mapping[str, Cluster]) -> Iterator[Cluster]:
    """The clusters of a service's ports that have a cache."""
    for port in service.ports if applies(service) else ():
        found = upstream.get(clusters.cluster_name(clusters.OUTBOUND, "", service.host, port.number))
        if found is not None:
            yield found


def caches(
    services: Iterable[Service], upstream: Mapping[str, Cluster], settings: MeshSettings
) -> tuple[DnsCache, ...]:
    """The caches that HTTP requests need which may go to these services, or to any host."""
    found = (one for service in services for one in clusters_of(service, upstream))
    return _caches((*found, *_any(upstream, settings)))


def lookups(shares: Iterable[WeightedCluster], upstream: Mapping[str, Cluster]) -> tuple[Lookup, ...]:
    """What connections need that go to these clusters; their ports are those of the clusters' services."""
    found = (upstream.get(share.cluster) for share in shares)
    return tuple(Lookup(cache=one.cache, port=one.port_override or one.port) for one in found if one and one.cache)


def resolving(chain: Chain, tables: Mapping[str, RouteTable], upstream: Mapping[str, Cluster]) -> Chain:
    """The chain of a gateway with the caches that its routes need; the same object where they need none."""
    table = tables.get(chain.http.rds) if chain.http else None
    if table is None or chain.http is None:
        return chain
    leads = (to.cluster for host in table.virtual_hosts for route in host.routes for to in route.leads)
    needed = _caches(upstream[name] for name in leads if name in upstream)
    return replace(chain, http=replace(chain.http, caches=needed)) if needed else chain


def catching(listener: Listener, upstream: Mapping[str, Cluster], settings: MeshSettings) -> Listener:
    """The listener for all that no other one takes, where HTTP may go to the host that a request names."""
    needed = _caches(_any(upstream, settings))
    if not needed:
        return listener
    http = Http(
        stat_prefix=f"outbound_{listener.name}_{_ANY};",
        inline=RouteTable(name=_ANY, virtual_hosts=(ANY_HOST,)),
        caches=needed,
    )
    *first, rest = listener.chains
    match = ChainMatch(application_protocols=HTTP_APPLICATION_PROTOCOLS)
    chain = Chain(name=f"{rest.name}-http", match=match, http=http)
    return replace(
        listener,
        chains=(*first, chain, rest),
        inspect_http=True,
        detection_timeout=settings.protocol_detection_timeout or _PATIENCE,
    )


def _any(upstream: Mapping[str, Cluster], settings: MeshSettings) -> Iterator[Cluster]:
    """The cluster for any host, where requests for unknown ones go to it: a Sidecar may say otherwise."""
    if settings.outbound is OutboundMode.ALLOW_ANY_DYNAMIC_DNS:
        yield upstream[clusters.ANY_HOST]


def _caches(found: Iterable[Cluster]) -> tuple[DnsCache, ...]:
    return tuple(dict.fromkeys(one.cache for one in found if one.cache is not None))
