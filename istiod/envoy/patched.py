"""What EnvoyFilters do to clusters and route configurations that the compiler makes (features rows K1-K4).

Order and meaning are Istio's: a patch sees what those before it left. Listeners are patched_listeners.py's, the reading
of values patch_values.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from google.protobuf.message import Message

from istiod.envoy import packed, patch_values
from istiod.mesh.envoy_filters import Patch, PatchSet, TablePlace
from wire import merging

OUTBOUND: Final = "SIDECAR_OUTBOUND"
INBOUND: Final = "SIDECAR_INBOUND"
GATEWAY: Final = "GATEWAY"
_MERGES: Final = ("MERGE", "MERGE_AND_REPLACE_LIST")
_KEY_PARTS: Final = 4
_SECURE_NAME: Final = 5
_ACTIONS: Final = {"route": "ROUTE", "redirect": "REDIRECT", "direct_response": "DIRECT_RESPONSE"}

M = TypeVar("M", bound=Message)
Ports = Mapping[int, frozenset[int]]
"""What servers' ports a gateway's listener port stands for; where it is not there, itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """A patch with its value read."""

    patch: Patch
    value: Message

    @property
    def operation(self) -> str:
        """What is done."""
        return self.patch.operation

    @property
    def merges(self) -> bool:
        """Whether its value is merged into what is there."""
        return self.patch.operation in _MERGES

    def merge_into(self, message: Message) -> None:
        """Merge its value."""
        merging.merge(message, self.value, replaces_lists=self.patch.operation != "MERGE")

    def merge_packed_into(self, message: Any, said: Any) -> None:
        """Merge what an Any of its value holds into an Any."""
        packed.merge_packed(message, said, replaces_lists=self.patch.operation != "MERGE")


class Patches:
    """The patches of one context, by what they are applied to."""

    __slots__ = ("_by_kind", "context")

    def __init__(self, chosen: PatchSet, context: str) -> None:
        self.context = context
        self._by_kind: dict[str, list[Ready]] = {}
        for patch in chosen.patches:
            value = patch_values.read(patch) if _is_for(patch, context) else None
            if value is not None:
                self._by_kind.setdefault(patch.apply_to, []).append(Ready(patch=patch, value=value))

    def of(self, *kinds: str) -> Sequence[Ready]:
        """Those of some kinds, kind by kind."""
        return [one for kind in kinds for one in self._by_kind.get(kind, ())]

    def added(self, kind: str) -> Iterator[Ready]:
        """Clusters, listeners or extension configurations to add; none for any context twice to a sidecar."""
        for one in self._by_kind.get(kind, ()):
            if one.operation == "ADD" and (one.patch.context != "ANY" or self.context != INBOUND):
                yield one


def _is_for(patch: Patch, context: str) -> bool:
    """Whether a patch is for a context. What a sidecar asks for as a whole it asks for once, for both of its sides."""
    whole = patch.apply_to in ("BOOTSTRAP", "EXTENSION_CONFIG") and context == OUTBOUND
    return patch.context in (context, "ANY") or (whole and patch.context == INBOUND)


def edit(items: Iterable[M], one: Ready, chosen: Callable[[Any], bool] | None, kind: type[M]) -> list[M]:
    """A list after an operation that puts an item in, replaces or removes some.

    Args:
        items: what is there.
        one: the patch; one that merges changes nothing here.
        chosen: which items the patch names; None where it names none: then the ends are meant.
        kind: the type of items.
    """
    found, value = list(items), one.value
    if one.operation == "REMOVE":
        return found if chosen is None else [item for item in found if not chosen(item)]
    place = next((i for i, item in enumerate(found) if chosen and chosen(item)), None)
    before, after = (0, len(found)) if chosen is None else (place, None if place is None else place + 1)
    spans = {
        "ADD": (len(found), len(found)),
        "INSERT_FIRST": (0, 0),
        "INSERT_BEFORE": (before, before),
        "INSERT_AFTER": (after, after),
        "REPLACE": (place, after),
    }
    start, end = spans.get(one.operation, (None, None))
    if start is not None and end is not None and isinstance(value, kind):
        found[start:end] = [value]
    return found


def put(field: Any, items: Iterable[Message]) -> None:
    """Make a repeated field hold these messages."""
    kept = list(items)
    del field[:]
    field.extend(kept)


def cluster(message: cluster_pb2.Cluster, hosts: Sequence[str], patches: Patches) -> bool:
    """Patch a cluster in place; False where it is removed. ``hosts`` are its services' (inbound names say none)."""
    for one in patches.of("CLUSTER"):
        if not _is_meant(message.name, hosts, one.patch):
            continue
        if one.operation == "REMOVE":
            return False
        if one.merges:
            _merge_cluster(message, one)
    return True


def _is_meant(name: str, hosts: Sequence[str], patch: Patch) -> bool:
    place = patch.cluster
    if place.name:
        return place.name == name
    direction, port, subset, host = parse_key(name)
    named = hosts if direction == "inbound" and hosts else (host,)
    return (
        place.subset in ("", subset)
        and (not place.service or place.service in named)
        and place.port in (0, int(port) if port.isdecimal() else 0)
    )


def parse_key(name: str) -> tuple[str, str, str, str]:
    """Direction, port, subset and host of ``outbound|80|v1|HOST`` or ``outbound_.80_.v1_.HOST``; else four times ""."""
    separator = "_." if name.startswith(("outbound_.", "inbound_.")) else "|"
    parts = name.split(separator, _KEY_PARTS - 1)
    return (parts[0], parts[1], parts[2], parts[3]) if len(parts) == _KEY_PARTS else ("", "", "", "")


def _merge_cluster(message: cluster_pb2.Cluster, one: Ready) -> None:
    said = one.value
    if not (isinstance(said, cluster_pb2.Cluster) and said.HasField("transport_socket")):
        one.merge_into(message)
    elif message.transport_socket_matches:
        sockets = (match.transport_socket for match in message.transport_socket_matches)
        _merge_first_socket(sockets, said.transport_socket, one)
    elif message.transport_socket.name == said.transport_socket.name:
        one.merge_packed_into(message.transport_socket.typed_config, said.transport_socket.typed_config)
    else:
        message.transport_socket.CopyFrom(said.transport_socket)


def _merge_first_socket(
    sockets: Iterable[base_pb2.TransportSocket], said: base_pb2.TransportSocket, one: Ready
) -> None:
    for socket in sockets:
        if socket.name == said.name:
            one.merge_packed_into(socket.typed_config, said.typed_config)
            return


def table(message: route_pb2.RouteConfiguration, patches: Patches, ports: Ports) -> None:
    """Patch a route configuration in place."""

    def here(one: Ready) -> bool:
        return _is_table(message.name, one.patch.table, patches.context, ports)

    for one in patches.of("ROUTE_CONFIGURATION"):
        if one.merges and here(one):
            one.merge_into(message)
    of_hosts = [one for one in patches.of("VIRTUAL_HOST") if here(one)]
    of_routes = [one for one in patches.of("HTTP_ROUTE") if here(one)]
    kept = [host for host in message.virtual_hosts if _patch_host(host, of_hosts, of_routes)]
    added = [one.value for one in of_hosts if one.operation == "ADD"]
    put(message.virtual_hosts, [*kept, *added])


def _is_table(name: str, place: TablePlace, context: str, ports: Ports) -> bool:
    if place.name not in ("", name):
        return False
    if context != GATEWAY:
        return place.port in (0, _table_port(name))
    port, port_name, gateway = _gateway_table(name)
    return (
        (not place.port or place.port in ports.get(port, (port,)))
        and place.port_name in ("", port_name)
        and place.gateway in ("", gateway)
    )


def _table_port(name: str) -> int:
    text = parse_key(name)[1] if name.startswith("inbound") else name
    return int(text) if text.isdecimal() else 0


def _gateway_table(name: str) -> tuple[int, str, str]:
    """Port, port name and gateway of ``http.80`` and ``https.443.PORTNAME.GATEWAY.NAMESPACE``."""
    kind, *parts = name.split(".")
    if kind not in ("http", "https") or not parts or not parts[0].isdecimal():
        return 0, "", ""
    if kind == "https" and len(parts) == _SECURE_NAME - 1:
        return int(parts[0]), parts[1], f"{parts[3]}/{parts[2]}"
    return int(parts[0]), "", ""


def _patch_host(host: route_components_pb2.VirtualHost, of_hosts: Iterable[Ready], of_routes: Iterable[Ready]) -> bool:
    """Patch a virtual host in place; False where it is removed."""
    for one in of_hosts:
        if not _is_host(host, one.patch.table):
            continue
        if one.operation == "REMOVE":
            return False
        if one.merges:
            one.merge_into(host)
        elif one.operation == "REPLACE" and isinstance(one.value, route_components_pb2.VirtualHost):
            host.CopyFrom(one.value)
    meant = [one for one in of_routes if _is_host(host, one.patch.table)]
    put(host.routes, [route for route in host.routes if _patch_route(route, meant)])
    for one in meant:
        _add_route(host, one)
    return True


def _is_host(host: route_components_pb2.VirtualHost, place: TablePlace) -> bool:
    return place.host in ("", host.name) and (not place.domain or place.domain in host.domains)


def _patch_route(route: route_components_pb2.Route, meant: Iterable[Ready]) -> bool:
    """Merge into a route in place; False where it is removed."""
    for one in meant:
        if not _is_route(route, one.patch.table):
            continue
        if one.operation == "REMOVE":
            return False
        if one.merges:
            one.merge_into(route)
    return True


def _add_route(host: route_components_pb2.VirtualHost, one: Ready) -> None:
    if one.operation in ("REMOVE", "REPLACE"):  # removed already; routes are not replaced
        return
    place = one.patch.table

    def chosen(route: route_components_pb2.Route) -> bool:
        return _is_route(route, place)

    if one.operation == "INSERT_FIRST" and not any(map(chosen, host.routes)) and place.route is not None:
        return
    put(host.routes, edit(host.routes, one, chosen if place.route else None, route_components_pb2.Route))


def _is_route(route: route_components_pb2.Route, place: TablePlace) -> bool:
    if place.route is None:
        return True
    does = _ACTIONS.get(str(route.WhichOneof("action")))
    return place.route.name in ("", route.name) and (place.route.action == "ANY" or does in (None, place.route.action))
