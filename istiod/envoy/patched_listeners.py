"""What EnvoyFilters do to listeners, their filter chains and the filters in these (features rows K1-K4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from istiod.envoy import never_sent, patched, wellknown
from istiod.envoy.patched import Patches, Ports, Ready
from istiod.mesh.envoy_filters import ChainPlace, Patch

_Chain = listener_components_pb2.FilterChain
_Filter = listener_components_pb2.Filter
_ListenerFilter = listener_components_pb2.ListenerFilter
_Manager = http_connection_manager_pb2.HttpConnectionManager
_HttpFilter = http_connection_manager_pb2.HttpFilter

_MANAGER: Final = "envoy.filters.network.http_connection_manager"
_VIRTUAL: Final = ("virtualInbound", "virtualOutbound")
_ROUTES: Final = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_CHAINS: Final = ("FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER")


def listener(message: listener_pb2.Listener, patches: Patches) -> bool:
    """Patch a listener in place; False where it is removed."""
    for one in patches.of("LISTENER"):
        if not _is_listener(message, one.patch):
            continue
        if one.operation == "REMOVE":
            return False
        if one.merges:
            one.merge_into(message)
    for one in patches.of("LISTENER_FILTER"):
        if _is_listener(message, one.patch):
            _listener_filters(message, one)
    if any(patches.of(*_CHAINS)):
        _chains(message, patches)
    return True


def inline_routes(message: listener_pb2.Listener, patches: Patches, ports: Ports) -> None:
    """Patch the route configurations that stand in a listener."""
    if not any(patches.of(*_ROUTES)):
        return
    for chain in (*message.filter_chains, message.default_filter_chain):
        for one in chain.filters:
            if one.name == _MANAGER:
                manager = _Manager.FromString(one.typed_config.value)
                if manager.HasField("route_config"):
                    patched.table(manager.route_config, patches, ports)
                    one.typed_config.CopyFrom(wellknown.packed(manager))


def tables(message: listener_pb2.Listener) -> Iterator[str]:
    """Names of the route tables that a listener asks for on its own stream; a patch may name another source."""
    for chain in (*message.filter_chains, message.default_filter_chain):
        for one in chain.filters:
            if one.name == _MANAGER:
                rds = _Manager.FromString(one.typed_config.value).rds
                if rds.route_config_name and rds.config_source.HasField("ads"):
                    yield rds.route_config_name


def _listener_filters(message: listener_pb2.Listener, one: Ready) -> None:
    name = one.patch.listener.listener_filter
    chosen = (lambda item: item.name == name) if name else None
    patched.put(message.listener_filters, patched.edit(message.listener_filters, one, chosen, _ListenerFilter))
    for item in message.listener_filters:
        if one.merges and name in ("", item.name):
            _merge_filter(item, one)


def _is_listener(message: listener_pb2.Listener, patch: Patch) -> bool:
    """Whether a patch is for this listener. Ports of the virtual ones are their chains'."""
    place = patch.listener
    if place.name not in ("", message.name):
        return False
    if patch.apply_to != "LISTENER" and message.name in _VIRTUAL:
        return True
    return place.port in (0, message.address.socket_address.port_value)


def _chains(message: listener_pb2.Listener, patches: Patches) -> None:
    meant = [one for one in patches.of(*_CHAINS) if _is_listener(message, one.patch)]
    kept = [chain for chain in message.filter_chains if _chain(message.name, chain, meant)]
    if message.HasField("default_filter_chain") and not _chain(message.name, message.default_filter_chain, meant):
        message.ClearField("default_filter_chain")
    added = [one.value for one in meant if one.patch.apply_to == "FILTER_CHAIN" and one.operation == "ADD"]
    patched.put(message.filter_chains, [*kept, *added])


def _chain(name: str, chain: _Chain, meant: Sequence[Ready]) -> bool:
    """Patch a filter chain in place; False where it is removed."""
    for one in meant:
        if one.patch.apply_to != "FILTER_CHAIN" or not _is_chain(name, chain, one.patch):
            continue
        if one.operation == "REMOVE":
            return False
        if one.merges:
            _merge_chain(chain, one)
    here = [one for one in meant if _is_chain(name, chain, one.patch)]
    _network_filters(chain, [one for one in here if one.patch.apply_to == "NETWORK_FILTER"])
    _http_filters(chain, [one for one in here if one.patch.apply_to == "HTTP_FILTER"])
    return True


def _is_chain(listener_name: str, chain: _Chain, patch: Patch) -> bool:
    port, place, match = patch.listener.port, patch.listener.chain, chain.filter_chain_match
    if listener_name in _VIRTUAL and port and match.destination_port.value != port:
        return False
    return place.name in ("", chain.name) and _fits(match, place)


def _fits(match: listener_components_pb2.FilterChainMatch, place: ChainPlace) -> bool:
    return (
        (not place.server_name or place.server_name in match.server_names)
        and place.transport_protocol in ("", match.transport_protocol)
        and all(one in match.application_protocols for one in place.application_protocols)
        and place.destination_port in (0, match.destination_port.value)
    )


def _merge_chain(chain: _Chain, one: Ready) -> None:
    """Merge into a chain; where both have a transport socket of one name, into that socket only (as on Istio)."""
    said = one.value
    if (
        isinstance(said, _Chain)
        and said.HasField("transport_socket")
        and said.transport_socket.name == chain.transport_socket.name
    ):
        one.merge_packed_into(chain.transport_socket.typed_config, said.transport_socket.typed_config)
    else:
        one.merge_into(chain)


def _network_filters(chain: _Chain, meant: Sequence[Ready]) -> None:
    for one in meant:
        patched.put(chain.filters, patched.edit(chain.filters, one, _network_choice(one), _Filter))
    for item in chain.filters:
        merged = [one for one in meant if one.merges and _is_filter(item, one.patch)]
        for one in merged:
            _merge_filter(item, one)
        if merged and item.name == _MANAGER:
            never_sent.yield_to_others(item.typed_config)


def _network_choice(one: Ready) -> Callable[[_Filter], bool] | None:
    return (lambda item: _is_filter(item, one.patch)) if one.patch.listener.chain.filter is not None else None


def _is_filter(item: _Filter, patch: Patch) -> bool:
    place = patch.listener.chain.filter
    return place is None or place.name == item.name


def _merge_filter(item: _Filter | _HttpFilter | _ListenerFilter, one: Ready) -> None:
    """Merge a filter's configuration as what it is, and take a new name. Without configuration there is nothing."""
    said = one.value
    if not isinstance(said, type(item)) or not item.HasField("typed_config"):
        return
    item.name = said.name or item.name
    if said.HasField("typed_config"):
        one.merge_packed_into(item.typed_config, said.typed_config)


def _http_filters(chain: _Chain, meant: Sequence[Ready]) -> None:
    for item in chain.filters:
        own = [one for one in meant if _is_filter(item, one.patch)]
        if own and item.name == _MANAGER:
            manager = _Manager.FromString(item.typed_config.value)
            _patch_manager(manager, own)
            item.typed_config.CopyFrom(wellknown.packed(manager))


def _patch_manager(manager: _Manager, own: Sequence[Ready]) -> None:
    for one in own:
        patched.put(manager.http_filters, patched.edit(manager.http_filters, one, _http_choice(one), _HttpFilter))
    for item in manager.http_filters:
        for one in own:
            if one.merges and _is_http_filter(item, one.patch):
                _merge_filter(item, one)


def _http_choice(one: Ready) -> Callable[[_HttpFilter], bool] | None:
    place = one.patch.listener.chain.filter
    if place is None or place.inside is None:
        return None
    return lambda item: _is_http_filter(item, one.patch)


def _is_http_filter(item: _HttpFilter, patch: Patch) -> bool:
    place = patch.listener.chain.filter
    return place is None or place.inside in (None, item.name)
