"""Scopes and their leaves made by hand, and readers for what was compiled of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message

from crds.key import NETWORKING, ConfigKey
from istiod.config.origin import Origin
from istiod.config.resource import Resource
from istiod.mesh.endpoint import Endpoint, EndpointLeaf, EndpointTable, Health, Query, View, Workload
from istiod.mesh.policy import LocalityLb, TlsMode
from istiod.mesh.route import ANY, Destination, Route, RouteTable, VirtualHost, WeightedDestination
from istiod.mesh.scope import (
    Cluster,
    Direction,
    Discovery,
    InboundScope,
    Listener,
    OutboundScope,
    Scope,
    ScopeKey,
    ServiceRef,
    UpstreamTls,
)
from istiod.mesh.service import Protocol
from istiod.mesh.settings import MeshSettings
from wire.node import Locality, NodeType

SETTINGS = MeshSettings(access_log_file="/dev/null")
QUIET = MeshSettings(enable_tracing=False)
VIEW = View(cluster_id="Kubernetes", network="", locality=Locality(region="r1", zone="za", subzone="s1"), node="n-a1")
RULE = Origin(key=ConfigKey(NETWORKING, "VirtualService", "default", "reviews"), field="spec.http[0]")
POLICY = Origin(key=ConfigKey(NETWORKING, "DestinationRule", "default", "reviews"))


def host(name: str) -> str:
    return f"{name}.default.svc.cluster.local"


def cluster_name(name: str, subset: str = "", port: int = 9080) -> str:
    return f"outbound|{port}|{subset}|{host(name)}"


def query(name: str = "reviews", subset: str = "", port: int = 9080, **changes: Any) -> Query:
    fields: dict[str, Any] = {"labels": frozenset({("version", subset)} if subset else ()), "locality_lb": None}
    return Query(
        name=cluster_name(name, subset, port), host=host(name), namespace="default", port=port, **{**fields, **changes}
    )


def cluster(name: str = "reviews", subset: str = "", port: int = 9080, **changes: Any) -> Cluster:
    """An EDS cluster of a mesh service over auto mTLS."""
    fields: dict[str, Any] = {
        "discovery": Discovery.EDS,
        "direction": Direction.OUTBOUND,
        "services": (ServiceRef(host=host(name), name=name, namespace="default"),),
        "port": port,
        "subset": subset,
        "protocol": Protocol.HTTP,
        "tls": mesh_tls(name, subset, port),
        "query": query(name, subset, port),
    }
    return Cluster(name=cluster_name(name, subset, port), **{**fields, **changes})


def mesh_tls(name: str = "reviews", subset: str = "", port: int = 9080, mode: TlsMode = TlsMode.AUTO) -> UpstreamTls:
    return UpstreamTls(
        mode=mode,
        sni=f"outbound_.{port}_.{subset}_.{host(name)}",
        subject_alt_names=(f"spiffe://cluster.local/ns/default/sa/{name}",),
    )


def destination(name: str = "reviews", subset: str = "", **changes: Any) -> Destination:
    return Destination(cluster=cluster_name(name, subset), host=host(name), port=9080, subset=subset, **changes)


def to(*destinations: Destination | WeightedDestination) -> tuple[WeightedDestination, ...]:
    return tuple(
        d if isinstance(d, WeightedDestination) else WeightedDestination(destination=d, weight=1) for d in destinations
    )


def route(**changes: Any) -> Route:
    """The default route of reviews; without destinations where it answers by itself."""
    answers = changes.keys() & {"redirect", "direct_response"}
    fields: dict[str, Any] = {
        "name": "default",
        "match": ANY,
        "origin": None,
        "destinations": () if answers else to(destination()),
    }
    return Route(**{**fields, **changes})


def virtual_host(name: str = "reviews", routes: Iterable[Route] = (), **changes: Any) -> VirtualHost:
    fields: dict[str, Any] = {"domains": (host(name), name)}
    return VirtualHost(
        name=f"{host(name)}:9080",
        routes=tuple(routes) or (route(destinations=to(destination(name))),),
        **{**fields, **changes},
    )


def table(*hosts: VirtualHost, name: str = "9080") -> RouteTable:
    return RouteTable(name=name, virtual_hosts=hosts or (virtual_host(),))


def endpoint(address: str = "10.0.0.1", **changes: Any) -> Endpoint:
    fields: dict[str, Any] = {
        "port": 9080,
        "labels": frozenset({("app", "reviews"), ("version", "v1")}),
        "tls": True,
        "health": Health.HEALTHY,
        "weight": 1,
        "locality": Locality(),
        "network": "",
        "identity": "",
        "node": "n-a1",
        "workload": Workload(
            name="reviews-v1-abc",
            namespace="default",
            app="reviews",
            version="v1",
            canonical_name="reviews",
            canonical_revision="v1",
            cluster_id="Kubernetes",
        ),
    }
    return Endpoint(address=address, **{**fields, **changes})


def leaf(*endpoints: Endpoint, port: int = 9080) -> EndpointLeaf:
    return EndpointLeaf(ports={port: endpoints})


def endpoints(**leaves: EndpointLeaf) -> EndpointTable:
    return EndpointTable(leaves={(host(name), "default"): found for name, found in leaves.items()})


def scope(
    clusters: Iterable[Cluster] = (),
    listeners: Iterable[Listener] = (),
    tables: Iterable[RouteTable] = (),
    inbound: InboundScope | None = None,
    settings: MeshSettings = SETTINGS,
) -> Scope:
    return Scope(
        settings=settings,
        outbound=OutboundScope(
            key=ScopeKey(type=NodeType.SIDECAR, namespace="default"),
            clusters={c.name: c for c in clusters},
            listeners={each.name: each for each in listeners},
            routes={t.name: t for t in tables},
        ),
        inbound=inbound,
    )


def inbound(clusters: Iterable[Cluster] = (), listeners: Iterable[Listener] = ()) -> InboundScope:
    return InboundScope(clusters={c.name: c for c in clusters}, listeners={each.name: each for each in listeners})


LOCALITY = LocalityLb()


def body(resource: Resource) -> any_pb2.Any:
    """The Any that a client gets."""
    response = discovery_pb2.DiscoveryResponse.FromString(resource.any_frame)
    return response.resources[0]


def parsed(resource: Resource, kind: type[Message]) -> Any:
    """The resource as a message of ``kind``."""
    message = kind()
    assert body(resource).Unpack(message)
    return message


def shown(message: Message) -> dict[str, Any]:
    """A message as its JSON, field names as in the protos, Anys unpacked."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def manager(chain: Any) -> Any:
    """The HTTP connection manager of a filter chain."""
    found = hcm_pb2.HttpConnectionManager()
    assert chain.filters[0].typed_config.Unpack(found)
    return found


def tcp_proxy(chain: Any) -> Any:
    """The TCP proxy of a filter chain."""
    found = tcp_proxy_pb2.TcpProxy()
    assert chain.filters[0].typed_config.Unpack(found)
    return found


def picked(found: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Only these keys."""
    return {name: found[name] for name in names if name in found}
