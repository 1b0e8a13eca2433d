"""A bootstrap with EnvoyFilters' patches in it (feature row K2): protobuf's merge, as for all other patches.

The result is in Envoy's binary form, so that nobody here has to know the types of what patches pack.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from wire import merging

_PUBLISHED: Final = re.compile(r"[^/]*/((?:envoy|udpa|xds)(?:\.[a-z][a-z0-9_]*)*\.v[0-9][a-z0-9_]*)\.[A-Z]\w*\Z")
_TYPE: Final = "@type"


class PatchError(Exception):
    """The patches cannot be merged; the text says why."""


def merged(bootstrap: Mapping[str, Any], patches: bytes) -> bytes:
    """A bootstrap as ``agent.bootstrap.build`` makes it, merged with a serialized Bootstrap.

    Raises:
        PatchError: one of both is no bootstrap.
    """
    for name in set(_types(bootstrap)):
        _import(name)
    found = bootstrap_pb2.Bootstrap()
    try:
        json_format.ParseDict(dict(bootstrap), found, ignore_unknown_fields=True)
        merging.merge(found, bootstrap_pb2.Bootstrap.FromString(patches))
    except (json_format.ParseError, DecodeError) as error:
        raise PatchError(str(error)) from error
    return found.SerializeToString(deterministic=True)


def _types(value: Any) -> Iterator[str]:
    """The types of all that is packed."""
    if isinstance(value, Mapping):
        if isinstance(name := value.get(_TYPE), str):
            yield name
        for each in value.values():
            yield from _types(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _types(each)


def _import(name: str) -> None:
    """Have a type known: those of Envoy come with the modules of their package."""
    published = _PUBLISHED.match(name)
    if published is None:
        return
    try:
        package = importlib.import_module(published[1])
    except ImportError:  # what is not known then is told by the parser
        return
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{published[1]}.{module.name}")
