"""The values of EnvoyFilter patches: JSON of Envoy's API, read into messages (features rows K2, K4).

Types of extensions are looked for among those that Envoy publishes. One that is not there goes to Envoy as a
TypedStruct, which it reads itself; fields that are not there are left out and reported.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message import Message
from udpa.type.v1 import typed_struct_pb2 as udpa_pb2
from xds.type.v3 import typed_struct_pb2

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from istiod.mesh.envoy_filters import EnvoyFilterIndex, Patch
from wire import names

_TYPES: Final[dict[str, type[Message]]] = {
    "BOOTSTRAP": bootstrap_pb2.Bootstrap,
    "CLUSTER": cluster_pb2.Cluster,
    "EXTENSION_CONFIG": extension_pb2.TypedExtensionConfig,
    "FILTER_CHAIN": listener_components_pb2.FilterChain,
    "HTTP_FILTER": http_connection_manager_pb2.HttpFilter,
    "HTTP_ROUTE": route_components_pb2.Route,
    "LISTENER": listener_pb2.Listener,
    "LISTENER_FILTER": listener_components_pb2.ListenerFilter,
    "NETWORK_FILTER": listener_components_pb2.Filter,
    "ROUTE_CONFIGURATION": route_pb2.RouteConfiguration,
    "VIRTUAL_HOST": route_components_pb2.VirtualHost,
}
_TYPE: Final = "@type"
_STRUCT: Final = names.TYPE_PREFIX + typed_struct_pb2.TypedStruct.DESCRIPTOR.full_name
_STRUCTS: Final = (_STRUCT, names.TYPE_PREFIX + udpa_pb2.TypedStruct.DESCRIPTOR.full_name)
_PUBLISHED: Final = re.compile(r"((?:envoy|udpa|xds)(?:\.[a-z][a-z0-9_]*)*\.v[0-9][a-z0-9_]*)\.[A-Z]\w*(?:\.\w+)*\Z")
_LONGEST: Final = 300


def read(patch: Patch) -> Message | None:
    """What a patch adds or merges; an empty message where it only removes, None where it cannot be read."""
    found = _read(patch.apply_to, patch.value)
    return found if isinstance(found, Message) else None


def findings(index: EnvoyFilterIndex) -> Iterator[Diagnostic]:
    """Patches whose values cannot be read, which have no effect, or hold fields that are not known."""
    for patch in (patch for one in index.all() for patch in one.patches):
        path, name = f"{patch.field}.patch.value", _TYPES[patch.apply_to].DESCRIPTOR.full_name
        found = _read(patch.apply_to, patch.value)
        if isinstance(found, str):
            yield diagnostic.error(Code.BAD_VALUE, patch.key, path, f"is no {name}: {found}")
        elif patch.value and (unknown := _unknown(patch.apply_to, patch.value)):
            message = f"is no {name} as known here: {unknown}; such fields are left out"
            yield diagnostic.warning(Code.UNKNOWN_FIELD, patch.key, path, message)


@lru_cache(maxsize=1024)
def _read(apply_to: str, text: str) -> Message | str:
    found = _TYPES[apply_to]()
    try:
        json_format.ParseDict(_prepared(json.loads(text or "{}")), found, ignore_unknown_fields=True)
    except (json_format.ParseError, TypeError) as problem:
        return str(problem)[:_LONGEST]
    return found


@lru_cache(maxsize=1024)
def _unknown(apply_to: str, text: str) -> str:
    try:
        json_format.ParseDict(_prepared(json.loads(text)), _TYPES[apply_to]())
    except json_format.ParseError as problem:
        return str(problem)[:_LONGEST]
    return ""


def _prepared(value: Any) -> Any:
    """The JSON with every type that is not known turned into a TypedStruct.

    Raises:
        ParseError: a type is no text, which protobuf's own parser stumbles over.
    """
    if isinstance(value, list):
        return [_prepared(each) for each in value]
    if not isinstance(value, dict):
        return value
    url = value.get(_TYPE)
    if url in _STRUCTS:
        return value
    if not isinstance(url, str | None):
        raise json_format.ParseError(f"{_TYPE} is no text")
    if url is not None and not _is_known(url.rpartition("/")[2]):
        return {_TYPE: _STRUCT, "typeUrl": url, "value": {k: v for k, v in value.items() if k != _TYPE}}
    return {name: _prepared(each) for name, each in value.items()}


@lru_cache(maxsize=1024)
def _is_known(name: str) -> bool:
    """Whether there is such a message type; the modules of its package are imported for that."""
    published = _PUBLISHED.match(name)
    if published is not None:
        try:
            package = importlib.import_module(published[1])
        except ImportError:
            return False
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{published[1]}.{module.name}")
    try:
        descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        return False
    return True
