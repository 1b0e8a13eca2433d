"""What one Envoy holds: its listeners, route tables, clusters and endpoints as messages.

Either what istiod compiled for it, or a configuration dump. A dump may hold types that nobody here knows; they are kept
by name, so that a reader can say that it does not know them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message

from istiod.config.resource import Resource, ResourceSet
from wire import names

_M = TypeVar("_M", bound=Message)
_STRUCT = names.TYPE_PREFIX + "google.protobuf.Struct"
Json = Mapping[str, Any]


class UnreadableDumpError(Exception):
    """A dump holds what is no message of Envoy's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """Listeners in their order; all else by name, endpoints by the name that a cluster asks for."""

    listeners: tuple[listener_pb2.Listener, ...] = ()
    routes: Mapping[str, route_pb2.RouteConfiguration] = field(default_factory=dict)
    clusters: Mapping[str, cluster_pb2.Cluster] = field(default_factory=dict)
    endpoints: Mapping[str, endpoint_pb2.ClusterLoadAssignment] = field(default_factory=dict)
    extensions: Mapping[str, extension_pb2.TypedExtensionConfig] = field(default_factory=dict)
    """What filters of its listeners ask for by name; nothing of a dump."""
    bootstrap: bootstrap_pb2.Bootstrap | None = None
    """What is merged into its own bootstrap before it starts, if it asks; nothing of a dump."""


def of_resources(found: ResourceSet) -> Held:
    """What istiod compiled for a proxy."""
    return Held(
        listeners=tuple(_all(found, names.LISTENER, listener_pb2.Listener)),
        routes={each.name: each for each in _all(found, names.ROUTE, route_pb2.RouteConfiguration)},
        clusters={each.name: each for each in _all(found, names.CLUSTER, cluster_pb2.Cluster)},
        endpoints={each.cluster_name: each for each in _all(found, names.ENDPOINT, endpoint_pb2.ClusterLoadAssignment)},
        extensions=_asked(found),
        bootstrap=next(_all(found, names.BOOTSTRAP, bootstrap_pb2.Bootstrap), None),
    )


def _asked(found: ResourceSet) -> Mapping[str, extension_pb2.TypedExtensionConfig]:
    asked = found.named(names.EXTENSION, names.LISTENER, names.CLUSTER)
    several = _all(found, names.EXTENSION, extension_pb2.TypedExtensionConfig)
    return {each.name: each for each in several if each.name in asked}


class Reader:
    """Reads what istiod compiled for several proxies: what they share once, and by name only what is asked for."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Resource, Message]] = {}

    def held(self, found: ResourceSet) -> Held:
        """What one proxy holds."""
        return Held(
            listeners=tuple(self.message(each, listener_pb2.Listener) for each in found.of(names.LISTENER)),
            routes=_ByName(self, found, names.ROUTE, route_pb2.RouteConfiguration),
            clusters=_ByName(self, found, names.CLUSTER, cluster_pb2.Cluster),
            endpoints=_ByName(self, found, names.ENDPOINT, endpoint_pb2.ClusterLoadAssignment),
        )

    def message(self, resource: Resource, kind: type[_M]) -> _M:
        """The message of a resource, the same object each time. The resource is kept, so that its id is its own."""
        known = self._known.get(id(resource))
        if known is not None and isinstance(known[1], kind):
            return known[1]
        message = _message(resource, kind)
        self._known[id(resource)] = (resource, message)
        return message


class _ByName(Mapping[str, _M]):
    """The resources of one type, read when they are asked for."""

    def __init__(self, reader: Reader, found: ResourceSet, type_url: str, kind: type[_M]) -> None:
        self._reader = reader
        self._found = found
        self._type_url = type_url
        self._kind = kind

    def __getitem__(self, name: str) -> _M:
        resource = self._found.get(self._type_url, name)
        if resource is None:
            raise KeyError(name)
        return self._reader.message(resource, self._kind)

    def __iter__(self) -> Iterator[str]:
        return (each.name for each in self._found.of(self._type_url))

    def __len__(self) -> int:
        return self._found.count(self._type_url)


def of_json(
    listeners: Iterable[Json], routes: Iterable[Json], clusters: Iterable[Json], endpoints: Iterable[Json]
) -> Held:
    """What a configuration dump says, with the fields' names as in Envoy's protos.

    Raises:
        UnreadableDumpError: it is none.
    """
    try:
        return Held(
            listeners=tuple(_parsed(each, listener_pb2.Listener) for each in listeners),
            routes={one.name: one for one in (_parsed(each, route_pb2.RouteConfiguration) for each in routes)},
            clusters={one.name: one for one in (_parsed(each, cluster_pb2.Cluster) for each in clusters)},
            endpoints={
                one.cluster_name: one
                for one in (_parsed(each, endpoint_pb2.ClusterLoadAssignment) for each in endpoints)
            },
        )
    except (json_format.ParseError, DecodeError, TypeError, ValueError) as error:
        raise UnreadableDumpError(str(error)) from error


def unpacked(packed: any_pb2.Any) -> Message | None:
    """The message in an Any; None where its type is not known here."""
    kind = _known(packed.type_url)
    return None if kind is None else kind.FromString(packed.value)


def _all(found: ResourceSet, type_url: str, kind: type[_M]) -> Iterator[_M]:
    for each in found.of(type_url):
        yield _message(each, kind)


def _message(resource: Resource, kind: type[_M]) -> _M:
    return kind.FromString(discovery_pb2.DiscoveryResponse.FromString(resource.any_frame).resources[0].value)


def _known(type_url: str) -> type[Message] | None:
    try:
        found = descriptor_pool.Default().FindMessageTypeByName(type_url.rpartition("/")[2])
    except KeyError:
        return None
    return message_factory.GetMessageClass(found)


def _parsed(text: Json, kind: type[_M]) -> _M:
    return json_format.ParseDict(_with_known_types(text), kind(), ignore_unknown_fields=True)


def _with_known_types(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_known_types(each) for each in value]
    if not isinstance(value, dict):
        return value
    said = value.get("@type")
    if isinstance(said, str) and _known(said) is None:
        return {"@type": _STRUCT, "value": {**value, "@type": said}}
    return {key: _with_known_types(each) for key, each in value.items()}
