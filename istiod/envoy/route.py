"""Route tables: virtual hosts as frames, joined into a RouteConfiguration (features rows F1-F18; DESIGN section 2.5).

A VirtualHost is compiled once and its frame is shared by every table that holds it. What a route does with a request
stands in action.py, what it looks for in match.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envoy.config.route.v3 import route_components_pb2, route_pb2

from istiod.config import resource
from istiod.config.resource import Resource
from istiod.envoy import action, headers, match, wellknown
from istiod.envoy.filters import alpn, cors, fault, peer
from istiod.mesh.proxy_headers import ProxyHeaders
from istiod.mesh.route import Route, RouteTable, VirtualHost
from wire import names

_VIRTUAL_HOSTS = b"\x12"  # field 2 of RouteConfiguration
_ROUTES = b"\x1a"  # field 3 of VirtualHost
_LARGEST_BODY = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """A compiled virtual host: field 2 of a RouteConfiguration, its digest, and the clusters that its routes name."""

    digest: bytes
    body: bytes
    clusters: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What upstreams are told in headers: how often a request was tried, and whom it asked before a rewrite."""

    attempts: bool = True
    host: bool = False


_USUAL = Told()


def told(said: ProxyHeaders) -> Told:
    """The mesh's word on that."""
    return Told(attempts=said.attempt_count is not False, host=bool(said.forwarded_host))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routes:
    """Compiled routes: field 3 of a VirtualHost, and the clusters that they name.

    A service's routes are the same for the clients of all namespaces, though these know it by different names.
    """

    body: bytes
    clusters: frozenset[str]


def routes(host: VirtualHost, upstreams: Told = _USUAL) -> Routes:
    """Compile the routes of one virtual host."""
    # Each by itself: of ten thousand one call's copy and encoding keep Python's lock from all others (fault FT21)
    frames = (resource.delimited(_ROUTES, wellknown.encode(route)) for route in _routes(host, upstreams))
    return Routes(body=b"".join(frames), clusters=frozenset(clusters(host)))


def frame(host: VirtualHost, compiled: Routes, upstreams: Told = _USUAL) -> Frame:
    """Compile one virtual host around its routes."""
    body = wellknown.encode(_around(host, upstreams)) + compiled.body
    return Frame(
        body=resource.delimited(_VIRTUAL_HOSTS, body),
        digest=hashlib.blake2b(body, digest_size=16).digest(),
        clusters=compiled.clusters,
    )


def table(source: RouteTable, frames: Iterable[Frame]) -> Resource:
    """The resource of a route table from the frames of its virtual hosts, in order; version = digest of digests."""
    parts = list(frames)
    head = wellknown.encode(_head(source))
    digest = hashlib.blake2b(b"".join((head, *(part.digest for part in parts))), digest_size=8)
    return resource.make(
        source.name,
        names.ROUTE,
        b"".join((head, *(part.body for part in parts))),
        refs={names.CLUSTER: frozenset().union(*(part.clusters for part in parts))},
        version=digest.hexdigest(),
    )


def inline(source: RouteTable, upstreams: Told = _USUAL) -> route_pb2.RouteConfiguration:
    """A route table that stands in a listener."""
    found = _head(source)
    found.virtual_hosts.extend(virtual_host(host, upstreams) for host in source.virtual_hosts)
    return found


def clusters(host: VirtualHost) -> Iterable[str]:
    """Names of the clusters that the routes of a virtual host lead to, mirrors included; only such as exist."""
    for route in host.routes:
        yield from (destination.cluster for destination in route.leads if destination.known)


def virtual_host(host: VirtualHost, upstreams: Told = _USUAL) -> route_components_pb2.VirtualHost:
    """One virtual host as a message."""
    found = _around(host, upstreams)
    found.routes.extend(_routes(host, upstreams))
    return found


def _around(host: VirtualHost, upstreams: Told) -> route_components_pb2.VirtualHost:
    """A virtual host without its routes."""
    tls = route_components_pb2.VirtualHost.ALL if host.require_tls else route_components_pb2.VirtualHost.NONE
    return route_components_pb2.VirtualHost(
        name=host.name,
        domains=host.domains,
        require_tls=tls,
        include_request_attempt_count=upstreams.attempts and host.include_attempt_count,
    )


def _routes(host: VirtualHost, upstreams: Told) -> Iterator[route_components_pb2.Route]:
    for route in host.routes:
        found = _route(route)
        if upstreams.host and found.HasField("route"):
            found.route.append_x_forwarded_host = True
        yield found


def _head(source: RouteTable) -> route_pb2.RouteConfiguration:
    return route_pb2.RouteConfiguration(
        name=source.name,
        validate_clusters=wellknown.boolean(value=False),
        max_direct_response_body_size_bytes=wellknown.uint32(_LARGEST_BODY),
        ignore_port_in_host_matching=source.ignore_port,
    )


def _route(route: Route) -> route_components_pb2.Route:
    found = route_components_pb2.Route(
        name=route.name,
        match=match.route(route.match),
        metadata=wellknown.origin_metadata(route.origin),
        stat_prefix=route.stat_prefix,
    )
    if route.operation:
        found.decorator.operation = route.operation
    headers.apply(found, route.headers)
    if route.redirect is not None:
        found.redirect.CopyFrom(action.redirect(route.redirect))
    elif route.direct_response is not None:
        found.direct_response.CopyFrom(action.direct_response(route.direct_response))
    else:
        found.route.CopyFrom(action.forward(route))
        if len(route.destinations) == 1:
            headers.apply(found, route.destinations[0].headers)
        _filters(found, route)
    if route.fault is not None:
        found.typed_per_filter_config[fault.NAME].CopyFrom(fault.per_route(route.fault))
    if route.cors is not None:
        found.typed_per_filter_config[cors.NAME].CopyFrom(cors.per_route(route.cors))
    return found


def _filters(found: route_components_pb2.Route, route: Route) -> None:
    """Switch on and off what depends on where a route leads."""
    needed = action.needed(route.destinations)
    if alpn.NAME in needed and not route.at_gateway:
        found.typed_per_filter_config[alpn.NAME].CopyFrom(alpn.ENABLED)
    elif alpn.NAME in needed and len(route.destinations) == 1:  # of several each says it for itself
        found.typed_per_filter_config[alpn.NAME].CopyFrom(alpn.OFFERING)
    if not (route.inbound or peer.NAME in needed):  # inbound it listens
        found.typed_per_filter_config[peer.NAME].CopyFrom(alpn.DISABLED)
