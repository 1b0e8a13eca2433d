"""Which objects a resource that Envoy refused came from, and what to tell their owners (features rows D15 and Z4).

Read back from the resource's own bytes: every cluster, filter chain and route carries its origin in its metadata. Where
several objects share a resource, those are meant of which Envoy's words quote something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import Message

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from crds.key import ConfigKey
from istiod.config.origin import Origin
from istiod.config.resource import Resource
from istiod.envoy import wellknown
from wire import names

MAX_OBJECTS: Final = 5
"""Of more objects than this none is accused by itself."""
MAX_WORDS: Final = 600
"""How much of Envoy's words is shown, in characters."""
_LEAST_QUOTE: Final = 4
_MARK: Final = re.compile(r"goo\.gle/debug\w*")
_PATH_PARTS: Final = 5
"""version, "namespaces", namespace, kind, name."""


def findings(
    resource: Resource, error: str, proxies: Sequence[str] = (), known_origins: Sequence[Origin] | None = None
) -> tuple[Diagnostic, ...]:
    """What to tell about a refused resource: one finding per object that it may come from, with the proxies.

    ``known_origins`` is for a resource of which only the name is left.
    """
    kind = resource.type_url.rpartition(".")[2]
    message = f"Envoy refuses {kind} {resource.name}: {plain(error)}"
    found = origins(resource, error) if known_origins is None else tuple(known_origins)
    known = tuple(plain(each) for each in proxies)
    if not found or len(found) > MAX_OBJECTS:
        return (replace(diagnostic.error(Code.REJECTED_BY_ENVOY, None, "", message), proxies=known),)
    if len(found) > 1:
        message = f"this object, or one of {len(found) - 1} others: {message}"
    told = (diagnostic.error(Code.REJECTED_BY_ENVOY, o.key, o.field, message) for o in found)
    return tuple(replace(each, proxies=known) for each in told)


def plain(words: str) -> str:
    """A proxy's words on one line, without control characters: they come from outside.

    Protobuf marks its debug texts with a word that differs from process to process.
    """
    return "".join(c for c in " ".join(_MARK.sub("", words).split()) if c.isprintable())[:MAX_WORDS]


def origins(resource: Resource, error: str) -> tuple[Origin, ...]:
    """The objects and fields of those parts of a resource that the error quotes best; all if it quotes none."""
    if resource.origin is not None and resource.origin.key.kind == "EnvoyFilter":  # its patches are no parts
        return (resource.origin,)
    scored = [(_quoted(error, quotes), origin) for origin, quotes in _parts(resource)]
    best = max((score for score, _ in scored), default=0)
    found = tuple(dict.fromkeys(origin for score, origin in scored if score == best))
    return found or ((resource.origin,) if resource.origin is not None else ())


def _quoted(error: str, quotes: Iterator[str]) -> int:
    return max((len(quote) for quote in quotes if len(quote) >= _LEAST_QUOTE and quote in error), default=0)


def _parts(resource: Resource) -> Iterator[tuple[Origin, Iterator[str]]]:
    """Each part with an origin, and the texts in it that an error may quote. A cluster is of one object: no parts."""
    (framed,) = discovery_pb2.DiscoveryResponse.FromString(resource.any_frame).resources
    found: Iterator[tuple[base_pb2.Metadata, Iterator[str]]] = iter(())
    if resource.type_url == names.ROUTE:
        found = _routes(route_pb2.RouteConfiguration.FromString(framed.value))
    elif resource.type_url == names.LISTENER:
        chains = listener_pb2.Listener.FromString(framed.value).filter_chains
        found = ((chain.metadata, _texts(chain)) for chain in chains)
    for metadata, quotes in found:
        if (origin := origin_of(metadata)) is not None:
            yield origin, quotes


def _routes(message: route_pb2.RouteConfiguration) -> Iterator[tuple[base_pb2.Metadata, Iterator[str]]]:
    for host in message.virtual_hosts:
        for route in host.routes:
            yield route.metadata, iter((*_texts(route), host.name, *host.domains))


def _texts(message: Message) -> Iterator[str]:
    """Every string in a message, but not in what is packed into it as bytes."""
    for field, value in message.ListFields():
        for each in value if field.is_repeated else (value,):
            if isinstance(each, str):
                yield each
            elif isinstance(each, Message):
                yield from _texts(each)


def origin_of(metadata: base_pb2.Metadata) -> Origin | None:
    """What a part was made from: ``istio.config`` and ``istio.field``, as wellknown.origin_metadata writes them."""
    fields = metadata.filter_metadata[wellknown.ISTIO].fields if wellknown.ISTIO in metadata.filter_metadata else {}
    key = key_of(fields["config"].string_value) if "config" in fields else None
    if key is None:
        return None
    return Origin(key=key, field=fields["field"].string_value if "field" in fields else "")


def key_of(path: str) -> ConfigKey | None:
    """The object of a path, as wellknown.config_path writes it; None where it is no such path."""
    head, *rest = path.strip("/").split("/")
    group = rest.pop(0) if head == "apis" and rest else ""
    if len(rest) != _PATH_PARTS:
        return None
    _, _, namespace, kind, name = rest
    return ConfigKey(group, "".join(part[:1].upper() + part[1:] for part in kind.split("-")), namespace, name)
