"""YAML in, what one proxy would get out: the product's own path below the gRPC layer, in this process.

FileSet, ConfigStore, mesh, compiler and frames are what ``istiod discovery --configDir`` runs; that both ways give the
same is a test's (tests/conformance). Like xdsdump, only what a client asks for is taken: endpoints of EDS clusters and
route tables that listeners name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from conformance.instruments import tool
from istiod import features
from istiod.ads import auth, request
from istiod.config.proxy import Peer
from istiod.config.resource import Resource, ResourceSet
from istiod.config.store import ConfigStore
from istiod.envoy import name_table
from istiod.envoy.compiler import Compiler
from istiod.mesh import context as mesh
from istiod.watch import files
from protos import nds_pb2
from wire import names

_M = TypeVar("_M", bound=Message)
_PLAINTEXT = Peer(address="127.0.0.1", identity=None)


class Mesh:
    """The mesh that some files describe."""

    def __init__(self, contents: Mapping[str, bytes], environment: Mapping[str, str] | None = None) -> None:
        """Read files by name, in the order of their names, and the feature variables of an environment."""
        found, store = files.FileSet(), ConfigStore(features=features.read(environment or {})[0])
        for name in sorted(contents):
            for item in found.put(files.read(name, contents[name], None)).applied:
                store.apply(item)
        self._context = mesh.build(store.snapshot())
        self._compiler = Compiler()

    def resources(self, node_id: str, metadata: Mapping[str, Any]) -> ResourceSet:
        """What a proxy of this id and metadata gets.

        Raises:
            MalformedRequestError: the node id is not Istio's.
        """
        said = base_pb2.Node(id=node_id)
        said.metadata.update(metadata)
        proxy = auth.admit(_PLAINTEXT, request.claims(said))
        context = self._context
        return self._compiler.compile(mesh.scope(context, proxy), context.endpoints, mesh.view(context, proxy))

    def names(self, node_id: str, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """The name table of a proxy whose agent answers DNS queries, by host, as JSON."""
        made = self.resources(node_id, {**metadata, "DNS_CAPTURE": "true"}).get(names.NAME_TABLE, name_table.NAME)
        table = _message(made, nds_pb2.NameTable()) if made is not None else nds_pb2.NameTable()
        found: Mapping[str, Any] = json_format.MessageToDict(table).get("table", {})
        return found

    def snapshot(self, node_id: str, metadata: Mapping[str, Any]) -> Any:
        """The same as xdssim's Snapshot."""
        return tool("xdssim").Snapshot.of(messages(self.resources(node_id, metadata)))


def messages(found: ResourceSet) -> Iterator[Message]:
    """What an Envoy asks for, as messages read back from the frames that it would be sent."""
    for resource in found.of(names.CLUSTER):
        cluster = _message(resource, cluster_pb2.Cluster())
        yield cluster
        if cluster.type == cluster_pb2.Cluster.EDS:
            name = cluster.eds_cluster_config.service_name or cluster.name
            if (assigned := found.get(names.ENDPOINT, name)) is not None:
                yield _message(assigned, endpoint_pb2.ClusterLoadAssignment())
    wanted: set[str] = set()
    for resource in found.of(names.LISTENER):
        wanted |= resource.refs.get(names.ROUTE, frozenset())
        yield _message(resource, listener_pb2.Listener())
    for resource in found.of(names.ROUTE):
        if resource.name in wanted:
            yield _message(resource, route_pb2.RouteConfiguration())


def _message(resource: Resource, message: _M) -> _M:
    response = discovery_pb2.DiscoveryResponse.FromString(resource.any_frame)
    response.resources[0].Unpack(message)
    return message
