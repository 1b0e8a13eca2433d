"""What an older Envoy gets in place of a resource that it would refuse, or of which it would ignore a part.

What it does not know is left out, and told as a ``Loss``. Where that is part of a policy nothing may pass instead: the
connections of a filter chain are closed, a cluster has no endpoints, a route answers 503. A format prints "-", as Envoy
does for what it has no value of. Extensions that only an EnvoyFilter brings are left: Envoy refuses them, which is
told on that object. Which Envoy knows what is since.py's, which proxy is which Envoy istiod.mesh.envoy_release's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as tcp_rbac_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from istiod.config import resource
from istiod.config.origin import Origin
from istiod.config.resource import Resource
from istiod.envoy import joined_headers, since, wellknown
from istiod.mesh.envoy_release import Release
from wire import names

_ANY: Final = "google.protobuf.Any"
_LOG: Final = "envoy.config.accesslog.v3.AccessLog"
_OPERATOR: Final = re.compile(r"%([A-Z0-9_]+)(\([^%]*\))?(:[0-9]+)?%")
_UNAVAILABLE: Final = 503
_CLOSED: Final = listener_components_pb2.Filter(
    name="envoy.filters.network.rbac",
    typed_config=wellknown.packed(
        tcp_rbac_pb2.RBAC(stat_prefix="older_envoy", rules=rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW))
    ),
)
"""Allows nobody."""
_REFUSED: Final = route_components_pb2.DirectResponseAction(
    status=_UNAVAILABLE,
    body=base_pb2.DataSource(inline_string="this proxy's Envoy is too old for a policy that holds here\n"),
)


@dataclass(frozen=True, slots=True, order=True)
class Loss:
    """Something that an older Envoy does not get: a field, an extension or an operator, by its name.

    ``closed``: it is part of a policy, so nothing passes there.
    """

    what: str
    closed: bool = False


_NOTHING: Final = Loss("")
"""What is told of a message that says the same in other words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What one resource lost, and the object that it was made of, where one is known."""

    origin: Origin | None
    losses: tuple[Loss, ...]


def lowered(found: Resource, release: Release) -> tuple[Resource, tuple[Loss, ...]]:
    """The resource for an Envoy of a release, and what it lacks; the very same object where nothing differs."""
    if found.type_url not in since.LOOKED_AT[release] and not _named(found.any_frame, release):
        return found, ()
    kind = _KINDS.get(found.type_url)
    if kind is None:
        return found, ()
    (framed,) = discovery_pb2.DiscoveryResponse.FromString(found.any_frame).resources
    message = kind.FromString(framed.value)
    losses = set(_LOWER[kind](message, release))
    if not losses:
        return found, ()
    refs = found.refs
    if kind is cluster_pb2.Cluster and any(each.closed for each in losses):
        message, refs = _empty(message), {}
    body = wellknown.encode(message)
    made = resource.make(found.name, found.type_url, body, refs=refs, origin=found.origin)
    return made, tuple(sorted(losses - {_NOTHING}))


def _named(body: bytes, release: Release) -> bool:
    return any(each in body for each in _NEEDLES[release])


_NEEDLES: Final = {
    release: (*joined_headers.PATTERNS, *(each.encode() for each in sorted(operators)))
    for release, operators in since.UNKNOWN_OPERATORS.items()
}


def _cluster(found: cluster_pb2.Cluster, release: Release) -> Iterator[Loss]:
    yield from _strip(found, release)


def _empty(found: cluster_pb2.Cluster) -> cluster_pb2.Cluster:
    """The cluster without anybody behind it."""
    made = cluster_pb2.Cluster(name=found.name, alt_stat_name=found.alt_stat_name, type=cluster_pb2.Cluster.STATIC)
    if found.HasField("metadata"):
        made.metadata.CopyFrom(found.metadata)
    return made


def _listener(found: listener_pb2.Listener, release: Release) -> Iterator[Loss]:
    chains = list(found.filter_chains)
    if found.HasField("default_filter_chain"):
        chains.append(found.default_filter_chain)
    for chain in chains:
        losses = tuple(_strip(chain, release))
        yield from losses
        _close(losses, [chain])
    losses = tuple(_strip(found, release, but=("filter_chains", "default_filter_chain")))
    yield from losses
    _close(losses, chains)


def _close(losses: Iterable[Loss], chains: Iterable[listener_components_pb2.FilterChain]) -> None:
    if any(each.closed for each in losses):
        for chain in chains:
            filters = [_CLOSED, *chain.filters]
            del chain.filters[:]
            chain.filters.extend(filters)


def _table(found: route_pb2.RouteConfiguration, release: Release) -> Iterator[Loss]:
    for host in found.virtual_hosts:
        for route in host.routes:
            losses = tuple(_strip(route, release))
            yield from losses
            if any(each.closed for each in losses):
                route.direct_response.CopyFrom(_REFUSED)
        losses = tuple(_strip(host, release, but=("routes",)))
        yield from losses
        _refuse(losses, [host])
    losses = tuple(_strip(found, release, but=("virtual_hosts",)))
    yield from losses
    _refuse(losses, found.virtual_hosts)


def _refuse(losses: Iterable[Loss], hosts: Iterable[route_components_pb2.VirtualHost]) -> None:
    if any(each.closed for each in losses):
        for host in hosts:
            del host.routes[:]
            host.routes.add(match=route_components_pb2.RouteMatch(prefix="/"), direct_response=_REFUSED)


_KINDS: Final[dict[str, Any]] = {
    names.CLUSTER: cluster_pb2.Cluster,
    names.LISTENER: listener_pb2.Listener,
    names.ROUTE: route_pb2.RouteConfiguration,
}
_LOWER: Final[dict[Any, Any]] = {
    cluster_pb2.Cluster: _cluster,
    listener_pb2.Listener: _listener,
    route_pb2.RouteConfiguration: _table,
}


def _strip(message: Message, release: Release, *, but: tuple[str, ...] = (), formats: bool = False) -> Iterator[Loss]:
    """Take out of a message, and all in it, what the release does not know. ``formats``: its texts are formats."""
    about = message.DESCRIPTOR
    if about.full_name == _ANY:
        yield from _strip_any(message, release)
    elif formats or _may_lose(about):
        yield from _drop_fields(message, release)
        if isinstance(message, rbac_pb2.RBAC):
            yield from _widen(message, release)
        formats = formats or about.full_name in since.FORMATS
        for field, value in message.ListFields():
            if field.name not in but:
                yield from _strip_field(message, field, value, release, formats=formats)


def _widen(rules: rbac_pb2.RBAC, release: Release) -> Iterator[Loss]:
    if joined_headers.take_bytes(rules):
        yield _NOTHING
    if release < since.LINES_APART and joined_headers.widen(rules):
        yield Loss("lines of a header apart in rules that refuse")


def _strip_field(
    message: Message, field: FieldDescriptor, value: Any, release: Release, *, formats: bool
) -> Iterator[Loss]:
    if field.message_type is None:
        if formats and isinstance(value, str):
            yield from _strip_text(message, field.name, value, release)
        return
    if field.message_type.full_name == _LOG and field.is_repeated:
        yield from _drop_loggers(value, release)
    for each in _messages(field, field.message_type, value):
        yield from _strip(each, release, formats=formats)


def _messages(field: FieldDescriptor, kind: Descriptor, value: Any) -> Iterable[Message]:
    """The messages of a field: of a map its values, where they are such."""
    if kind.GetOptions().map_entry:
        return value.values() if kind.fields_by_name["value"].message_type is not None else ()
    return value if field.is_repeated else (value,)


def _drop_fields(message: Message, release: Release) -> Iterator[Loss]:
    name = message.DESCRIPTOR.full_name
    for field in since.UNKNOWN_FIELDS[release].get(name, ()):
        if _is_set(message, field):
            message.ClearField(field)
            yield Loss(f"{_short(name)}.{field}", closed=(name, field) in since.POLICY)
    if numbers := since.UNNAMED.get(name):
        unnamed: Any = UnknownFieldSet(message)  # the stubs do not say that it is a sequence
        held = [numbers[each.field_number] for each in unnamed if each.field_number in numbers]
        if held:
            message.DiscardUnknownFields()
            yield from (Loss(f"{_short(name)}.{field}") for field in held)


def _is_set(message: Message, field: str) -> bool:
    return any(each.name == field for each, _ in message.ListFields())


def _short(name: str) -> str:
    """A message's name without its package."""
    return name.partition(".v3.")[2]


def _drop_loggers(logs: Any, release: Release) -> Iterator[Loss]:
    """Leave access loggers out that are not known."""
    unknown = [each for each in logs if since.LOGGERS.get(_type(each.typed_config), release) > release]
    if unknown:
        kept = [each for each in logs if each not in unknown]
        yield from (Loss(each.name) for each in unknown)
        del logs[:]
        logs.extend(kept)


def _strip_any(message: Any, release: Release) -> Iterator[Loss]:
    kind = _class(_type(message))
    if kind is None or not _may_lose(kind.DESCRIPTOR):
        return
    try:
        inner = kind.FromString(message.value)
    except DecodeError:
        return
    losses = tuple(_strip(inner, release))
    if losses:
        message.value = wellknown.encode(inner)
        yield from losses


def _type(message: Any) -> str:
    return str(message.type_url).rpartition("/")[2]


@lru_cache(maxsize=1024)
def _class(name: str) -> Any:
    try:
        return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
    except KeyError:
        return None


def _strip_text(message: Message, field: str, said: str, release: Release) -> Iterator[Loss]:
    unknown = since.UNKNOWN_OPERATORS[release]
    if found := {each.group(1) for each in _OPERATOR.finditer(said)} & unknown:
        yield from (Loss(f"%{name}%") for name in found)
        setattr(message, field, _OPERATOR.sub(lambda each: "-" if each.group(1) in unknown else each.group(0), said))


@lru_cache(maxsize=4096)
def _may_lose(about: Descriptor) -> bool:
    """Whether a message of this kind may hold anything that some release does not know."""
    seen, waiting = {about.full_name}, [about]
    while waiting:
        each = waiting.pop()
        if each.full_name in _TOUCHED:
            return True
        for inner in (field.message_type for field in each.fields):
            if inner is not None and inner.full_name not in seen:
                seen.add(inner.full_name)
                waiting.append(inner)
    return False


_TOUCHED: Final = frozenset(
    {
        _ANY,
        _LOG,
        rbac_pb2.RBAC.DESCRIPTOR.full_name,
        *since.FORMATS,
        *since.UNNAMED,
        *(name for each in since.UNKNOWN_FIELDS.values() for name in each),
    }
)
