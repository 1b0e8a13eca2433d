"""What one proxy should have: listeners, routes, clusters and endpoints, each with the object and field it came from.

Only what a page shows is decoded, but for routes, which are searched by what stands in them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message

from istiod.config.origin import Origin
from istiod.config.resource import Resource, ResourceSet
from istiod.envoy import blame
from istiod.explain import held
from istiod.meshpage import listing
from istiod.meshpage.listing import Listing
from wire import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Where things come from. What no rule shapes comes from a service: of a host, or all those of a port."""

    cause: Callable[[Origin], str]
    of_host: Callable[[str], Origin | None]
    of_port: Callable[[int], Sequence[Origin]]


MOST_CAUSES: Final = 4
"""Of so many objects behind one row each is named, of more their number."""
MOST_ENDPOINTS: Final = 6
_NAME_PARTS: Final = 4
_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 (how a shared listener says its address; nobody listens here)
_OWN: Final = ("virtualInbound", "virtualOutbound")
"""Listeners that every sidecar has, whatever services there are."""
_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table. ``name`` is the resource's, for its whole text."""

    name: str
    cells: tuple[str, ...]
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kind of resource: its type URL, the headings of its cells, and how its rows are made."""

    type_url: str
    headings: tuple[str, ...]
    rows: Callable[[ResourceSet, str, int, Origins], Listing[Row]]


def whole(found: ResourceSet, part: Part, name: str) -> str | None:
    """A resource as JSON, with the fields' names as in Envoy's protos; None where there is none of that name."""
    resource = found.get(part.type_url, name)
    if resource is None:
        return None
    value: Any = json_format.MessageToDict(_any(resource), preserving_proto_field_name=True)
    return json.dumps(value, indent=2)


def _clusters(found: ResourceSet, query: str, page: int, origins: Origins) -> Listing[Row]:
    some = listing.paged(_searched(found.of(names.CLUSTER), query, _cluster_order), page)
    return some.with_rows([_cluster(each, origins) for each in some.rows])


def _cluster(resource: Resource, origins: Origins) -> Row:
    cluster = _read(resource, cluster_pb2.Cluster)
    direction, port, subset, host = _named(resource.name)
    kind = cluster.cluster_type.name or cluster_pb2.Cluster.DiscoveryType.Name(cluster.type)
    tls = "TLS" if cluster.transport_socket_matches or cluster.HasField("transport_socket") else ""
    return Row(
        name=resource.name,
        cells=(host, port, subset, direction, kind, tls),
        causes=_causes([resource.origin or origins.of_host(host)], origins),
    )


def _named(name: str) -> tuple[str, str, str, str]:
    """Direction, port, subset and host of DIRECTION|PORT|SUBSET|HOST; any other name is its own host."""
    parts = name.split("|")
    return (parts[0], parts[1], parts[2], parts[3]) if len(parts) == _NAME_PARTS else ("", "", "", name)


def _cluster_order(resource: Resource) -> tuple[str, str, str, str]:
    direction, port, subset, host = _named(resource.name)
    return host, port.zfill(5), subset, direction


def _listeners(found: ResourceSet, query: str, page: int, origins: Origins) -> Listing[Row]:
    some = listing.paged(_searched(found.of(names.LISTENER), query, lambda each: (each.name,)), page)
    return some.with_rows([_listener(each, origins) for each in some.rows])


def _listener(resource: Resource, origins: Origins) -> Row:
    listener = _read(resource, listener_pb2.Listener)
    chains = [*listener.filter_chains]
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    where = listener.address.socket_address
    address = f"{where.address}:{where.port_value}" if where.address else listener.address.pipe.path
    leads = dict.fromkeys(said for chain in chains for said in _leads(chain))
    found = [resource.origin, *(blame.origin_of(chain.metadata) for chain in chains)]
    if not any(found):
        shared = where.address in _ANY and resource.name not in _OWN
        found = (
            list(origins.of_port(where.port_value)) if shared else [origins.of_host(_named(each)[3]) for each in leads]
        )
    return Row(
        name=resource.name,
        cells=(resource.name, address, str(len(chains)), _few(list(leads))),
        causes=_causes(found, origins),
    )


def _leads(chain: listener_components_pb2.FilterChain) -> Iterator[str]:
    for each in chain.filters:
        config = held.unpacked(each.typed_config)
        if isinstance(config, hcm_pb2.HttpConnectionManager):
            named = config.WhichOneof("route_specifier") == "rds"
            yield f"routes {config.rds.route_config_name}" if named else "routes of its own"
        elif isinstance(config, tcp_proxy_pb2.TcpProxy):
            several = [one.name for one in config.weighted_clusters.clusters]
            yield from several or [config.cluster]


def _routes(found: ResourceSet, query: str, page: int, origins: Origins) -> Listing[Row]:
    tables = sorted(found.of(names.ROUTE), key=lambda each: (each.name.zfill(5), each.name))
    rows = [_with_service(row, origins) for each in tables for row in _table(each)]
    some = listing.paged([one for one in rows if listing.fits(query, *one.cells, str(one.origin or ""))], page)
    return some.with_rows(
        [Row(name=one.cells[0], cells=one.cells, causes=_causes([one.origin], origins)) for one in some.rows]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    cells: tuple[str, str, str, str]
    origin: Origin | None


def _with_service(one: _Route, origins: Origins) -> _Route:
    return one if one.origin else _Route(cells=one.cells, origin=origins.of_host(_named(one.cells[3])[3]))


def _table(resource: Resource) -> Iterator[_Route]:
    for host in _read(resource, route_pb2.RouteConfiguration).virtual_hosts:
        plain = [each for each in host.domains if ":" not in each and not each.endswith(".")]
        domains = _few(plain or list(host.domains), 2)
        for route in host.routes:
            cells = (resource.name, domains, matched(route.match), _destination(route))
            yield _Route(cells=cells, origin=blame.origin_of(route.metadata))


def matched(match: route_components_pb2.RouteMatch) -> str:
    """What a route wants of a request, in words."""
    kind = match.WhichOneof("path_specifier") or ""
    path = {
        "prefix": f"{match.prefix}*",
        "path": match.path,
        "safe_regex": f"~{match.safe_regex.regex}",
        "path_separated_prefix": f"{match.path_separated_prefix}/*",
    }.get(kind, kind)
    headers = [f"header {each.name}" for each in match.headers]
    parameters = [f"?{each.name}" for each in match.query_parameters]
    return " ".join((path, *headers, *parameters))


def _destination(route: route_components_pb2.Route) -> str:
    kind = route.WhichOneof("action")
    if kind == "direct_response":
        return f"answers {route.direct_response.status}"
    if kind == "redirect":
        return "redirects"
    action = route.route
    several = action.weighted_clusters.clusters
    if several:
        total = sum(each.weight.value for each in several) or 1
        return ", ".join(f"{100 * each.weight.value / total:.3g}% {each.name}" for each in several)
    return action.cluster or action.cluster_header


def _endpoints(found: ResourceSet, query: str, page: int, origins: Origins) -> Listing[Row]:
    pairs = ((each, _assigned(found, each)) for each in _searched(found.of(names.CLUSTER), query, _cluster_order))
    some = listing.paged([(cluster, one) for cluster, one in pairs if one is not None], page)
    return some.with_rows([_assignment(cluster, one, origins) for cluster, one in some.rows])


def _assigned(found: ResourceSet, cluster: Resource) -> Resource | None:
    """A cluster's endpoints, if it asks for them by EDS."""
    named = cluster.refs.get(names.ENDPOINT) or (cluster.name,)
    return next((one for name in named if (one := found.get(names.ENDPOINT, name)) is not None), None)


def _assignment(cluster: Resource, resource: Resource, origins: Origins) -> Row:
    message = _read(resource, endpoint_pb2.ClusterLoadAssignment)
    every = [endpoint for place in message.endpoints for endpoint in place.lb_endpoints]
    _, port, subset, host = _named(cluster.name)
    cells = (host, port, subset, str(len(every)), _few([_endpoint(each) for each in every], MOST_ENDPOINTS) or "none")
    return Row(name=resource.name, cells=cells, causes=_causes([cluster.origin or origins.of_host(host)], origins))


def _endpoint(found: endpoint_components_pb2.LbEndpoint) -> str:
    where = found.endpoint.address
    place = f"{where.socket_address.address}:{where.socket_address.port_value}"
    if not where.HasField("socket_address"):
        place = where.pipe.path or where.envoy_internal_address.server_listener_name
    health = health_check_pb2.HealthStatus.Name(found.health_status)
    return place if health in ("UNKNOWN", "HEALTHY") else f"{place} ({health.lower()})"


def _searched(found: Iterable[Resource], query: str, order: Callable[[Resource], tuple[str, ...]]) -> list[Resource]:
    kept = (each for each in found if not query or listing.fits(query, each.name, str(each.origin or "")))
    return sorted(kept, key=order)


def _causes(several: Iterable[Origin | None], origins: Origins) -> tuple[str, ...]:
    every = list(dict.fromkeys(each for each in several if each is not None))
    more = (f"and {len(every) - MOST_CAUSES} more",) if len(every) > MOST_CAUSES else ()
    return (*(origins.cause(each) for each in every[:MOST_CAUSES]), *more)


def _few(texts: Sequence[str], most: int = MOST_CAUSES) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _read(resource: Resource, kind: type[_M]) -> _M:
    return kind.FromString(_any(resource).value)


def _any(resource: Resource) -> any_pb2.Any:
    return discovery_pb2.DiscoveryResponse.FromString(resource.any_frame).resources[0]


PARTS: Final = {
    "listeners": Part(type_url=names.LISTENER, headings=("Name", "Address", "Chains", "Leads to"), rows=_listeners),
    "routes": Part(type_url=names.ROUTE, headings=("Table", "Hosts", "Match", "Leads to"), rows=_routes),
    "clusters": Part(
        type_url=names.CLUSTER, headings=("Host", "Port", "Subset", "Direction", "Type", "TLS"), rows=_clusters
    ),
    "endpoints": Part(
        type_url=names.ENDPOINT, headings=("Host", "Port", "Subset", "Count", "Endpoints"), rows=_endpoints
    ),
}
"""By the word in the address."""
