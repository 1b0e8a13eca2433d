"""Configurations of filters that Envoy asks for by name (ECDS), and the listeners and clusters that ask (row K2).

EnvoyFilters bring both: a filter with ``config_discovery`` in place of its configuration, and the configuration with
``applyTo: EXTENSION_CONFIG``. Each may come without the other, which is told on the object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2
from udpa.type.v1 import typed_struct_pb2 as udpa_pb2
from xds.type.v3 import typed_struct_pb2

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from istiod.envoy import patch_values, patched, wellknown
from istiod.mesh.envoy_filters import EnvoyFilter, EnvoyFilterIndex, Patch, PatchSet
from istiod.mesh.grouping import grouped

KIND: Final = "EXTENSION_CONFIG"
_OPTIONS: Final[Any] = http_protocol_options_pb2.HttpProtocolOptions.DESCRIPTOR
_MANAGER: Final[Any] = http_connection_manager_pb2.HttpConnectionManager.DESCRIPTOR
_STRUCTS: Final[tuple[Any, ...]] = (typed_struct_pb2.TypedStruct, udpa_pb2.TypedStruct)
_SOURCE: Final = ("config_source", "configSource")
_ASKS: Final = ("config_discovery", "configDiscovery")
_TYPES: Final = ("type_urls", "typeUrls")


def asks(chosen: PatchSet) -> bool:
    """Whether some patch may bring a filter that asks for its configuration: its value says so somewhere."""
    return any(each in patch.value for patch in chosen.patches for each in _ASKS)


def asked(message: listener_pb2.Listener | cluster_pb2.Cluster) -> Iterator[str]:
    """The names of configurations that filters of a listener or of an upstream wait for on the proxy's stream."""
    found = _of_cluster(message) if isinstance(message, cluster_pb2.Cluster) else _of_listener(message)
    yield from (each.name for each in found if _asks(each))


def forget(cluster: cluster_pb2.Cluster) -> None:
    """Take filters out of a cluster that ask on the proxy's stream: Envoy crashes on one in its bootstrap."""
    for each in [each for each in cluster.filters if _asks(each)]:
        cluster.filters.remove(each)
    for options in cluster.typed_extension_protocol_options.values():
        if options.Is(_OPTIONS):
            said = http_protocol_options_pb2.HttpProtocolOptions.FromString(options.value)
            for one in [one for one in said.http_filters if _asks(one)]:
                said.http_filters.remove(one)
            options.CopyFrom(wellknown.packed(said))


def _asks(each: Any) -> bool:
    return bool(each.HasField("config_discovery") and each.config_discovery.config_source.HasField("ads"))


def _of_cluster(message: cluster_pb2.Cluster) -> Iterator[Any]:
    yield from message.filters
    for options in message.typed_extension_protocol_options.values():
        if options.Is(_OPTIONS):
            yield from http_protocol_options_pb2.HttpProtocolOptions.FromString(options.value).http_filters


def _of_listener(message: listener_pb2.Listener) -> Iterator[Any]:
    for chain in (*message.filter_chains, message.default_filter_chain):
        for each in chain.filters:
            yield each
            if each.typed_config.Is(_MANAGER):
                manager = http_connection_manager_pb2.HttpConnectionManager.FromString(each.typed_config.value)
                yield from manager.http_filters
    yield from message.listener_filters


def type_name(packed: any_pb2.Any) -> str:
    """The type of an extension's configuration, without prefix: of a TypedStruct what it stands for."""
    for kind in _STRUCTS:
        if packed.Is(kind.DESCRIPTOR):
            return str(kind.FromString(packed.value).type_url).rpartition("/")[2]
    return packed.type_url.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A filter that asks for a configuration, or the configuration: ``types`` are those that it may have, or has."""

    whose: EnvoyFilter
    patch: Patch
    name: str
    types: tuple[str, ...]
    falls_back: bool = False

    def meets(self, other: _Part, root: str) -> bool:
        """Whether there may be a proxy that this and another one of its name are for."""
        spaces = {self.patch.key.namespace, other.patch.key.namespace} - {root}
        labels, others = dict(self.whose.selector), dict(other.whose.selector)
        contexts = {_proxies(self.patch), _proxies(other.patch)} - {""}
        return (
            len(spaces) <= 1
            and all(others.get(label, value) == value for label, value in labels.items())
            and len(contexts) <= 1
        )


def _proxies(patch: Patch) -> str:
    if patch.context == "ANY":
        return ""
    return "gateway" if patch.context == patched.GATEWAY else "sidecar"


def findings(index: EnvoyFilterIndex) -> Iterator[Diagnostic]:
    """Filters that ask for what no EnvoyFilter brings, and the other way round."""
    every = [(one, patch) for one in index.all() for patch in one.patches]
    given = grouped((part.name, part) for one, patch in every for part in _given(one, patch))
    asking = grouped((part.name, part) for one, patch in every for part in _asking(one, patch))
    root = index.root_namespace
    for name, several in asking.items():
        for part in several:
            yield from _unanswered(part, [each for each in given.get(name, ()) if part.meets(each, root)])
    for name, several in given.items():
        for part in several:
            if not any(part.meets(each, root) for each in asking.get(name, ())):
                text = f"no EnvoyFilter for the same proxies has a filter that asks for {name!r}: nobody is sent it"
                yield diagnostic.warning(Code.EXTENSION_CONFIG, part.patch.key, part.patch.field, text)
        yield from _repeated(several, root)


def _unanswered(part: _Part, found: list[_Part]) -> Iterator[Diagnostic]:
    path = f"{part.patch.field}.patch.value"
    if not found:
        then = "has its default_config then" if part.falls_back else "then answers 500 (HTTP) or closes connections"
        text = f"no EnvoyFilter for the same proxies adds the extension configuration {part.name!r}"
        text = f"{text}: each proxy waits for its initial_fetch_timeout (15s by default), and {then}"
        yield diagnostic.warning(Code.EXTENSION_CONFIG, part.patch.key, path, text)
    elif part.types and not any(set(part.types).intersection(each.types) for each in found):
        text = f"its type_urls do not have {found[0].types[0]}, as {found[0].patch.key} gives it: Envoy refuses that"
        yield diagnostic.warning(Code.EXTENSION_CONFIG, part.patch.key, path, text)


def _repeated(given: Iterable[_Part], root: str) -> Iterator[Diagnostic]:
    """Of configurations of one name for one proxy the first serves: tell the others, in the order of patches."""
    ranked = sorted(given, key=lambda one: (one.whose.priority, one.patch.key.namespace != root, one.whose.age))
    for at, part in enumerate(ranked):
        first = next((each for each in ranked[:at] if part.meets(each, root)), None)
        if first is not None:
            text = f"{first.patch.key} adds an extension configuration {part.name!r}, too, which serves where both hold"
            yield diagnostic.warning(Code.EXTENSION_CONFIG, part.patch.key, part.patch.field, text)


def _given(whose: EnvoyFilter, patch: Patch) -> Iterator[_Part]:
    if patch.apply_to == KIND and patch.operation == "ADD":
        value = patch_values.read(patch)
        if isinstance(value, extension_pb2.TypedExtensionConfig):
            yield _Part(whose=whose, patch=patch, name=value.name, types=(type_name(value.typed_config),))


def _asking(whose: EnvoyFilter, patch: Patch) -> Iterator[_Part]:
    if patch.apply_to != KIND and any(each in patch.value for each in _ASKS):
        for name, types, falls_back in _discovered(patch.value):
            yield _Part(whose=whose, patch=patch, name=name, types=types, falls_back=falls_back)


@lru_cache(maxsize=1024)
def _discovered(text: str) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    """Names, types and whether there is a default, of all filters in a value that ask on their proxy's stream."""
    return tuple(_in(json.loads(text)))


def _in(value: Any) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    if isinstance(value, list):
        for each in value:
            yield from _in(each)
    elif isinstance(value, dict):
        said = _first(value, _ASKS)
        source = _first(said, _SOURCE) if isinstance(said, dict) else None
        if isinstance(said, dict) and isinstance(source, dict) and "ads" in source:
            types = _first(said, _TYPES)
            plain = tuple(str(each).rpartition("/")[2] for each in (types if isinstance(types, list) else ()))
            yield str(value.get("name", "")), plain, _first(said, ("default_config", "defaultConfig")) is not None
        for each in value.values():
            yield from _in(each)


def _first(value: dict[str, Any], spellings: Iterable[str]) -> Any:
    return next((value[each] for each in spellings if each in value), None)
