"""Whether an earlier version of a resource keeps out whom the present one does (features row Z4, security).

The last good version serves in place of one that Envoy refused, also to proxies that start later. Were it to do so
without a look, a policy made since would not hold for them: whatever somebody had refused by Envoy would undo it. So
that version serves nobody new, who then takes no connection there at all.

Compared is who is let in: chains and what leads to them, certificates, RBAC, tokens, external authorization, and how
paths are read for their rules; of clusters how they prove themselves and whom they trust, of routes who must use TLS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from istiod.config.resource import Resource
from istiod.envoy import wellknown
from wire import names

_Manager = hcm_pb2.HttpConnectionManager
_HTTP_MANAGER: Final = names.TYPE_PREFIX + _Manager.DESCRIPTOR.full_name
_GUARDS: Final = ("rbac", "jwt_authn", "ext_authz", "ext_proc", "basic_auth", "api_key_auth", "oauth2")
"""Words in the types of filters that refuse."""
_HOW_READ: Final = (
    "forward_client_cert_details",
    "set_current_client_cert_details",
    "normalize_path",
    "merge_slashes",
    "path_with_escaped_slashes_action",
    "use_remote_address",
    "xff_num_trusted_hops",
    "early_header_mutation_extensions",
    "original_ip_detection_extensions",
)
_WHO_CALLS: Final = "proxy_protocol"
"""In the type of the listener filter that says from which address a call comes."""


def kept(before: Resource, present: Resource) -> bool:
    """Whether ``before`` lets in nobody whom ``present`` does not; both are of one type and name."""
    return _guards(before) == _guards(present)


def _guards(found: Resource) -> object:
    (framed,) = discovery_pb2.DiscoveryResponse.FromString(found.any_frame).resources
    if found.type_url == names.LISTENER:
        return tuple(_of_listener(listener_pb2.Listener.FromString(framed.value)))
    if found.type_url == names.CLUSTER:
        cluster = cluster_pb2.Cluster.FromString(framed.value)
        return (_bytes(cluster.transport_socket), *map(_bytes, cluster.transport_socket_matches))
    if found.type_url == names.EXTENSION:
        return tuple(_refusing([extension_pb2.TypedExtensionConfig.FromString(framed.value).typed_config]))
    if found.type_url == names.ROUTE:
        return sorted(_of_table(route_pb2.RouteConfiguration.FromString(framed.value)), key=repr)
    return ()


def _of_table(table: route_pb2.RouteConfiguration) -> Iterator[object]:
    """Who must use TLS, and where a table says something else to a filter that refuses."""
    for host in table.virtual_hosts:
        if host.require_tls:
            yield (tuple(host.domains), host.require_tls)
        places = (host.typed_per_filter_config, *(route.typed_per_filter_config for route in host.routes))
        for number, place in enumerate(places):
            several = sorted(place.items())
            yield from ((tuple(host.domains), number, name, _bytes(each)) for name, each in several if _guard(each))


def _of_listener(listener: listener_pb2.Listener) -> Iterator[object]:
    """One entry for each chain; nothing where no chain keeps anybody out, as on the way out of a workload."""
    chains = [*listener.filter_chains, listener.default_filter_chain]
    guarded = [(_bytes(chain.filter_chain_match), tuple(_of_chain(chain))) for chain in chains]
    if any(found for _, found in guarded):
        yield from sorted(guarded)
        yield from (_bytes(each) for each in listener.listener_filters if _WHO_CALLS in each.typed_config.type_url)


def _of_chain(chain: listener_components_pb2.FilterChain) -> Iterator[bytes]:
    if chain.HasField("transport_socket"):
        yield _bytes(chain.transport_socket)
    for each in chain.filters:
        if each.typed_config.type_url == _HTTP_MANAGER:
            yield from _of_manager(_Manager.FromString(each.typed_config.value))
        elif _refuses(each):
            yield _bytes(each)


def _of_manager(manager: _Manager) -> Iterator[bytes]:
    found = tuple(_bytes(each) for each in manager.http_filters if _refuses(each))
    if found:
        yield from (repr(each).encode() for each in _of_table(manager.route_config))
        read = _Manager()
        read.CopyFrom(manager)
        for descriptor, _ in manager.ListFields():
            if descriptor.name not in _HOW_READ:
                read.ClearField(descriptor.name)
        yield from (*found, _bytes(read))


def _refusing(configs: Iterable[any_pb2.Any]) -> Iterator[bytes]:
    yield from (_bytes(config) for config in configs if _guard(config))


def _refuses(one: hcm_pb2.HttpFilter | listener_components_pb2.Filter) -> bool:
    """Whether it is a filter that refuses, or is to become one by discovery."""
    return _guard(one.typed_config) or any(word in url for word in _GUARDS for url in one.config_discovery.type_urls)


def _guard(config: any_pb2.Any) -> bool:
    """Whether it is of a filter that refuses, also where its type stands within another (TypedStruct, FilterConfig)."""
    return any(word in config.type_url or word.encode() in config.value for word in _GUARDS)


def _bytes(message: Message) -> bytes:
    return wellknown.encode(message)
