"""What istiod has for one proxy, in the shape of Envoy's own /config_dump, so that the two can be laid side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, json_format

from istiod.config.resource import Resource, ResourceSet
from protos import nds_pb2
from wire import names

_ADMIN: Final = names.TYPE_PREFIX + "envoy.admin.v3."
_REDACTED: Final = b"[redacted]"

Json = dict[str, Any]


def config_dump(held: ResourceSet) -> Json:
    """Clusters, listeners, routes, endpoints, secrets and extensions; keys and passwords are left out."""

    def entries(type_url: str, made: Callable[[Resource], Json]) -> list[Json]:
        return [made(each) for each in sorted(held.of(type_url), key=lambda each: each.name)]

    return {
        "configs": [
            _section("Clusters", "dynamic_active_clusters", entries(names.CLUSTER, _entry("cluster"))),
            _section("Listeners", "dynamic_listeners", entries(names.LISTENER, _listener)),
            _section("Routes", "dynamic_route_configs", entries(names.ROUTE, _entry("route_config"))),
            _section("Endpoints", "dynamic_endpoint_configs", [_entry("endpoint_config")(e) for e in endpoints(held)]),
            _section("Secrets", "dynamic_active_secrets", entries(names.SECRET, _secret)),
            _section("Ecds", "ecds_filters", [_entry("ecds_filter")(each) for each in _asked(held)]),
        ]
    }


def extensions(held: ResourceSet) -> list[Json]:
    """The configurations that filters of the proxy's listeners ask for by name."""
    return [_json(_any(each)) for each in _asked(held)]


def _asked(held: ResourceSet) -> Iterator[Resource]:
    wanted = held.named(names.EXTENSION, names.LISTENER, names.CLUSTER)
    for name in sorted(wanted):
        if (found := held.get(names.EXTENSION, name)) is not None:
            yield found


def load_assignments(held: ResourceSet) -> list[Json]:
    """The endpoints of the proxy's clusters."""
    return [_json(_any(each)) for each in endpoints(held)]


def name_table(held: ResourceSet) -> Json:
    """What the proxy's agent answers DNS queries with; nothing where it answers none."""
    found = nds_pb2.NameTable()
    for each in held.of(names.NAME_TABLE):
        _any(each).Unpack(found)
    made: Mapping[str, Any] = json_format.MessageToDict(found)
    return dict(made)


def endpoints(held: ResourceSet) -> Iterator[Resource]:
    """Load assignments of those clusters that ask for them: a set holds those of others too."""
    for each in sorted(held.of(names.CLUSTER), key=lambda each: each.name):
        cluster = cluster_pb2.Cluster()
        _any(each).Unpack(cluster)
        if cluster.type == cluster_pb2.Cluster.EDS:
            name = cluster.eds_cluster_config.service_name or cluster.name
            if (found := held.get(names.ENDPOINT, name)) is not None:
                yield found


def _section(kind: str, part: str, entries: list[Json]) -> Json:
    return {"@type": f"{_ADMIN}{kind}ConfigDump", part: entries}


def _entry(part: str) -> Callable[[Resource], Json]:
    return lambda each: {"version_info": each.version, part: _json(_any(each))}


def _listener(each: Resource) -> Json:
    return {"name": each.name, "active_state": _entry("listener")(each)}


def _secret(each: Resource) -> Json:
    secret = secret_pb2.Secret()
    packed = _any(each)
    packed.Unpack(secret)
    certificate = secret.tls_certificate
    for private in (certificate.private_key, certificate.pkcs12, certificate.password):
        if private.WhichOneof("specifier"):
            private.inline_bytes = _REDACTED
    if secret.HasField("generic_secret"):
        secret.generic_secret.secret.inline_bytes = _REDACTED
    if secret.HasField("session_ticket_keys"):
        del secret.session_ticket_keys.keys[:]
    packed.Pack(secret)
    return {"name": each.name, "version_info": each.version, "secret": _json(packed)}


def _any(resource: Resource) -> any_pb2.Any:
    return discovery_pb2.DiscoveryResponse.FromString(resource.any_frame).resources[0]


def _json(message: any_pb2.Any) -> Json:
    found: Mapping[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return dict(found)
