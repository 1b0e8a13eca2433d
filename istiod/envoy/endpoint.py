"""ClusterLoadAssignments: endpoints of a query as a proxy's view orders them (features rows D8, G6, N3).

Priorities and weights are in locality.py, what is made once and shared in assignments.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

from envoy.config.core.v3 import address_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from istiod.config import resource
from istiod.config.resource import Resource
from istiod.envoy import crossings, locality, metrics, wellknown, zones
from istiod.envoy.locality import Group
from istiod.mesh.endpoint import Endpoint, Health, Query, View, Workload
from istiod.mesh.policy import LocalityLb
from istiod.mesh.scope import Cluster
from wire import names

_HEALTH = {
    Health.HEALTHY: health_check_pb2.HEALTHY,
    Health.UNHEALTHY: health_check_pb2.UNHEALTHY,
    Health.DRAINING: health_check_pb2.DRAINING,
}
_GROUPS = b"\x12"  # field 2 of ClusterLoadAssignment
_ENDPOINTS = b"\x12"  # field 2 of LocalityLbEndpoints
_METADATA = b"\x1a"  # field 3 of LbEndpoint
_MUTUAL = wellknown.filter_metadata("envoy.transport_socket_match", tlsMode="istio")


def frame(endpoint: Endpoint) -> bytes:
    """An endpoint as a frame of its group.

    Fields are set one by one: messages handed to a constructor are made twice, and there are very many endpoints.
    """
    message = endpoint_components_pb2.LbEndpoint(health_status=_HEALTH[endpoint.health])
    message.load_balancing_weight.value = min(locality.weight(endpoint), locality.LARGEST_WEIGHT)
    place = message.endpoint
    _locate(place.address, endpoint.address, endpoint.port)
    for one in endpoint.additional:
        _locate(place.additional_addresses.add().address, one, endpoint.port)
    return resource.delimited(_ENDPOINTS, wellknown.encode(message) + _metadata(endpoint.workload, endpoint.tls))


def compile(  # noqa: A001 (endpoint.compile)
    query: Query, endpoints: Iterable[Endpoint], view: View | None, framed: Callable[[Endpoint], bytes] = frame
) -> Resource:
    """The resource of one query.

    Args:
        query: which endpoints, by what name, and how localities are to be used.
        endpoints: all endpoints of the query's host and port, in their fixed order.
        view: where the proxy looks from; None where the query does not look at it.
        framed: ``frame``, or what remembers what it gave.
    """
    groups = locality.groups(_chosen(query, endpoints, view))
    if view is not None and view.gateways:
        groups = crossings.through(groups, query, view)
    groups = locality.bounded(groups)
    if query.locality_lb is not None and view is not None:
        groups = _spread(groups, query.locality_lb, view)
    return resource.make(query.name, names.ENDPOINT, _assignment(query.name, groups, framed))


def inline(cluster: Cluster) -> endpoint_pb2.ClusterLoadAssignment:
    """The endpoints of a cluster that holds them itself, as a message."""
    groups, setting = locality.bounded(locality.groups(cluster.endpoints)), cluster.policy.load_balancer.locality
    if cluster.locality is not None and setting is not None:
        groups = _near(groups, setting, View(cluster_id="", network="", locality=cluster.locality))
    return endpoint_pb2.ClusterLoadAssignment.FromString(_assignment(cluster.name, groups, frame))


def _near(groups: list[Group], setting: LocalityLb, view: View) -> list[Group]:
    """Groups as they are used from a place. Labels count in EDS only (Istio: applyFailoverPriorities)."""
    if setting.failover_priority and not (setting.distribute or setting.failover):
        return groups
    return _spread(groups, replace(setting, failover_priority=()), view)


def _spread(groups: list[Group], setting: LocalityLb, view: View) -> list[Group]:
    spread = locality.spread if setting.zones_from is None else zones.spread
    return spread(groups, setting, view)


def app(name: str, endpoint: Endpoint) -> endpoint_pb2.ClusterLoadAssignment:
    """The only endpoint of an inbound cluster, the workload's own app: nothing has to be weighed or told of it."""
    found = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    _locate(found.endpoints.add().lb_endpoints.add().endpoint.address, endpoint.address, endpoint.port)
    return found


def _chosen(query: Query, endpoints: Iterable[Endpoint], view: View | None) -> list[Endpoint]:
    """The endpoints that carry the query's labels, have mesh mTLS or are on the view's node, where it asks for that.

    One without an address can be reached through a gateway only.
    """
    crosses = view is not None and bool(view.gateways)
    found = [
        one
        for one in endpoints
        if query.labels <= one.labels and (one.tls or not query.mesh_tls) and (one.address or crosses)
    ]
    if query.node_local and view is not None:
        found = [endpoint for endpoint in found if endpoint.node == view.node]
    return found


def _assignment(name: str, groups: Iterable[Group], framed: Callable[[Endpoint], bytes]) -> bytes:
    head = wellknown.encode(endpoint_pb2.ClusterLoadAssignment(cluster_name=name))
    return b"".join((head, *(resource.delimited(_GROUPS, _group(group, framed)) for group in groups)))


def _group(group: Group, framed: Callable[[Endpoint], bytes]) -> bytes:
    where = group.locality
    head = endpoint_components_pb2.LocalityLbEndpoints(priority=group.priority)
    if group.weight:  # without any it is asked only where all others fail
        head.load_balancing_weight.value = min(group.weight, locality.LARGEST_WEIGHT)
    place = head.locality
    place.region, place.zone, place.sub_zone = where.region, where.zone, where.subzone
    return b"".join((wellknown.encode(head), *map(framed, group.endpoints)))


def _locate(found: address_pb2.Address, address: str, port: int) -> None:
    if address.startswith("/"):
        found.pipe.path = address
        return
    socket = found.socket_address
    socket.address, socket.port_value = address, port


@lru_cache(maxsize=512)
def _metadata(workload: Workload, tls: bool) -> bytes:  # noqa: FBT001 (a part of the key)
    """Whose endpoint it is, and whether it has a sidecar (chooses the transport socket). Replicas share it."""
    said = metrics.of_workload(workload)
    told = wellknown.filter_metadata(wellknown.ISTIO, **{metrics.WORKLOAD: said}) if said else b""
    return resource.delimited(_METADATA, told + _MUTUAL if tls else told)
