"""Clusters: their endpoints with the share of requests that each gets, and what is spoken to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

from crds.key import ConfigKey
from istiod.config.origin import Origin
from istiod.envoy import blame, wellknown
from istiod.explain import listeners
from istiod.explain.answer import Host
from istiod.explain.call import Call, Tls
from istiod.explain.held import Held

_SOCKET_MATCH: Final = "envoy.transport_socket_match"
_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_SERVING: Final = (health_check_pb2.UNKNOWN, health_check_pb2.HEALTHY)
_Cluster = cluster_pb2.Cluster
_ALL: Final = 100.0


def origin(cluster: cluster_pb2.Cluster) -> Origin | None:
    """The DestinationRule behind a cluster; where there is none, its Service."""
    if (found := blame.origin_of(cluster.metadata)) is not None:
        return found
    fields = cluster.metadata.filter_metadata[wellknown.ISTIO].fields if cluster.HasField("metadata") else {}
    for each in fields["services"].list_value.values if "services" in fields else ():
        said = each.struct_value.fields
        if said["host"].string_value.startswith(f"{said['name'].string_value}.{said['namespace'].string_value}.svc."):
            return Origin(key=ConfigKey("", "Service", said["namespace"].string_value, said["name"].string_value))
    return None


def kind(cluster: cluster_pb2.Cluster) -> str:
    """How its endpoints are found."""
    return cluster.cluster_type.name if cluster.HasField("cluster_type") else _Cluster.DiscoveryType.Name(cluster.type)


def hosts(found: Held, cluster: cluster_pb2.Cluster, call: Call) -> tuple[Host, ...] | None:
    """The endpoints of a cluster for a call; None where Envoy looks the request's own host up.

    Raises:
        UndecidedError: what is spoken to them is not known.
    """
    if cluster.HasField("cluster_type"):
        return None
    if cluster.type == _Cluster.ORIGINAL_DST:
        port = cluster.original_dst_lb_config.upstream_port_override.value or call.port
        return (_host(cluster, _Facts(address=call.destination, port=port), {}),)
    name = cluster.eds_cluster_config.service_name or cluster.name
    assignment = found.endpoints.get(name) if cluster.type == _Cluster.EDS else cluster.load_assignment
    return tuple(_assigned(cluster, assignment)) if assignment is not None else ()


@dataclass(slots=True, kw_only=True)
class _Facts:
    """What an assignment says of one endpoint."""

    address: str
    port: int
    share: float = 100.0
    weight: int = 1
    priority: int = 0
    locality: str = ""
    health: str = "HEALTHY"


def _assigned(cluster: cluster_pb2.Cluster, assignment: endpoint_pb2.ClusterLoadAssignment) -> Iterator[Host]:
    groups = sorted(assignment.endpoints, key=lambda one: one.priority)
    for group, part in zip(groups, _parts(cluster, groups), strict=True):
        where = group.locality
        weights = sum(_weight(one) for one in group.lb_endpoints if _serves(one))
        for each in group.lb_endpoints:
            said = _Facts(address=_address(each), port=each.endpoint.address.socket_address.port_value)
            said.priority, said.weight = group.priority, _weight(each)
            said.locality = "/".join(part for part in (where.region, where.zone, where.sub_zone) if part)
            said.health = health_check_pb2.HealthStatus.Name(each.health_status or health_check_pb2.HEALTHY)
            said.share = _ALL * part * said.weight / weights if _serves(each) else 0.0
            yield _host(cluster, said, _labels(each.metadata))


def _parts(cluster: cluster_pb2.Cluster, groups: Sequence[endpoint_components_pb2.LocalityLbEndpoints]) -> list[float]:
    """The part of the requests that each locality gets: only those of the first priority that has an endpoint do."""
    serving = [[each for each in group.lb_endpoints if _serves(each)] for group in groups]
    first = min((group.priority for group, several in zip(groups, serving, strict=True) if several), default=0)
    by_locality = cluster.common_lb_config.HasField("locality_weighted_lb_config")
    weights = []
    for group, several in zip(groups, serving, strict=True):
        own = group.load_balancing_weight.value if by_locality and several else sum(map(_weight, several))
        weights.append(float(own) if group.priority == first else 0.0)
    total = sum(weights) or 1.0
    return [weight / total for weight in weights]


def _serves(each: endpoint_components_pb2.LbEndpoint) -> bool:
    return each.health_status in _SERVING


def _weight(each: endpoint_components_pb2.LbEndpoint) -> int:
    return each.load_balancing_weight.value or 1


def _address(each: endpoint_components_pb2.LbEndpoint) -> str:
    address = each.endpoint.address
    return address.pipe.path if address.HasField("pipe") else address.socket_address.address


def _labels(metadata: base_pb2.Metadata) -> Mapping[str, object]:
    if _SOCKET_MATCH not in metadata.filter_metadata:
        return {}
    found: Mapping[str, object] = json_format.MessageToDict(metadata.filter_metadata[_SOCKET_MATCH])
    return found


def _host(cluster: cluster_pb2.Cluster, said: _Facts, labels: Mapping[str, object]) -> Host:
    context = listeners.client_tls(_socket(cluster, labels))
    common = context.common_tls_context if context is not None else None
    mutual = common is not None and bool(common.tls_certificate_sds_secret_configs or common.tls_certificates)
    tls = Tls.NONE if common is None else Tls.MUTUAL if mutual else Tls.SIMPLE
    return Host(
        address=said.address,
        port=said.port,
        share=said.share,
        weight=said.weight,
        priority=said.priority,
        locality=said.locality,
        health=said.health,
        tls=tls.value,
        alpn=tuple(common.alpn_protocols) if common is not None else (),
        sni=context.sni if context is not None else "",
        names=tuple(one.matcher.exact for one in listeners.client_names(common)) if common is not None else (),
    )


def _socket(cluster: cluster_pb2.Cluster, labels: Mapping[str, object]) -> base_pb2.TransportSocket:
    """The first match whose labels the endpoint carries; else the cluster's own."""
    for each in cluster.transport_socket_matches:
        if json_format.MessageToDict(each.match).items() <= labels.items():
            return each.transport_socket
    return cluster.transport_socket


def speaks_http2(cluster: cluster_pb2.Cluster, call: Call) -> bool:
    """Whether requests go on as HTTP/2."""
    options = http_protocol_options_pb2.HttpProtocolOptions()
    packed = cluster.typed_extension_protocol_options
    if _OPTIONS not in packed or not packed[_OPTIONS].Unpack(options):
        return False
    if options.HasField("use_downstream_protocol_config"):
        return call.http2
    return options.explicit_http_config.HasField("http2_protocol_options")
