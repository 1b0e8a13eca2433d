"""One refused resource as bytes: whose refusal, Envoy's words, the objects it came from, and the last good version.

What is read back may have been written by another version of istiod, or by anybody with the right to: each part is
judged, and whatever is not as it should be makes the whole record count for nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from crds.key import ConfigKey
from istiod.ads.quarantine import Refused, Rejection, key_of
from istiod.config import resource
from istiod.config.origin import Origin
from istiod.config.resource import Resource
from wire import names

VERSION: Final = 1
MOST_PACKED: Final = 256 * 1024
"""Bytes of a record; with a last good version that is larger, a record is made without it."""
MOST_UNPACKED: Final = 8 * 1024 * 1024
_MOST_TEXT: Final = 4096
_MOST_LISTED: Final = 100_000
_MESSAGES: Final[Mapping[str, Any]] = {
    names.LISTENER: listener_pb2.Listener,
    names.CLUSTER: cluster_pb2.Cluster,
    names.ROUTE: route_pb2.RouteConfiguration,
    names.ENDPOINT: endpoint_pb2.ClusterLoadAssignment,
    names.EXTENSION: extension_pb2.TypedExtensionConfig,
    names.BOOTSTRAP: bootstrap_pb2.Bootstrap,
}
"""What is kept: no Secret ever is."""


class MalformedRecordError(ValueError):
    """It is no record, or one that this version cannot read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """``marks`` are those of the objects of ``origins`` when it was written, ``at`` that time (seconds since 1970)."""

    refused: Refused
    origins: tuple[Origin, ...]
    marks: tuple[str, ...]
    at: float

    @property
    def name(self) -> str:
        """What it is kept under."""
        return name_of(self.refused)


def name_of(refused: Refused) -> str:
    """A name for the refusal of one resource by one identity: the same at all replicas, and safe as a file's."""
    said = json.dumps([refused.identity, *key_of(refused.rejection.resource)])
    return f"refused-{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}"


def keepable(found: Resource) -> bool:
    """Whether resources of this type are kept."""
    return found.type_url in _MESSAGES


def pack(record: Record) -> bytes:
    """The record as bytes."""
    rejection, good = record.refused.rejection, record.refused.instead
    said = {
        "record": VERSION,
        "identity": record.refused.identity,
        "type": rejection.resource.type_url,
        "name": rejection.resource.name,
        "version": rejection.resource.version,
        "error": rejection.error[:_MOST_TEXT],
        "withheld": rejection.withheld,
        "proxies": list(rejection.proxies),
        "origins": [[*origin.key, origin.field] for origin in record.origins],
        "marks": list(record.marks),
        "at": record.at,
        "good": None if good is None else _good(good),
    }
    return zlib.compress(json.dumps(said, sort_keys=True).encode())


def _good(good: Resource) -> dict[str, Any]:
    (framed,) = discovery_pb2.DiscoveryResponse.FromString(good.any_frame).resources
    return {
        "version": good.version,
        "body": base64.b64encode(framed.value).decode(),
        "refs": {type_url: sorted(named) for type_url, named in sorted(good.refs.items())},
        "origin": None if good.origin is None else [*good.origin.key, good.origin.field],
    }


def unpack(raw: bytes) -> Record:
    """The record of these bytes.

    Raises:
        MalformedRecordError: see there.
    """
    said = _unpacked(raw)
    try:
        return _record(said)
    except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError, DecodeError, binascii.Error) as error:
        raise MalformedRecordError(f"not a record of a refusal: {type(error).__name__} {error}") from error


def _unpacked(raw: bytes) -> Mapping[str, Any]:
    try:
        inflating = zlib.decompressobj()
        text = inflating.decompress(raw, MOST_UNPACKED)
        if not inflating.eof or inflating.unused_data:
            raise MalformedRecordError("too long, or cut short")
        said = json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        raise MalformedRecordError(f"not a record of a refusal: {error}") from error
    if not isinstance(said, dict) or said.get("record") != VERSION:
        raise MalformedRecordError("written by another version")
    return said


def _record(said: Mapping[str, Any]) -> Record:
    type_url, name = _text(said["type"]), _text(said["name"])
    if type_url not in _MESSAGES:
        raise ValueError(f"no resources of type {type_url} are kept")
    origins, marks = _origins(said["origins"]), _texts(said["marks"])
    if len(origins) != len(marks):
        raise ValueError("as many marks as objects")
    stub = resource.make(name, type_url, b"", origin=origins[0] if origins else None, version=_text(said["version"]))
    rejection = Rejection(
        resource=stub,
        error=_text(said["error"]),
        proxies=_texts(said["proxies"]),
        origins=origins,
        withheld=said["withheld"] is True,
    )
    good = None if said["good"] is None else _restored(said["good"], type_url, name)
    refused = Refused(identity=_text(said["identity"]), rejection=rejection, instead=good)
    return Record(refused=refused, origins=origins, marks=marks, at=float(said["at"]))


def _restored(said: Mapping[str, Any], type_url: str, name: str) -> Resource:
    body = base64.b64decode(said["body"], validate=True)
    message = _MESSAGES[type_url].FromString(body)
    if _name(type_url, message) != name:
        raise ValueError(f"a last good version that is not called {name}")
    refs = {_text(kind): frozenset(_texts(named)) for kind, named in said["refs"].items()}
    origin = None if said["origin"] is None else _origin(said["origin"])
    return resource.make(name, type_url, body, refs=refs, origin=origin, version=_text(said["version"]))


def _name(type_url: str, message: Any) -> str:
    if type_url == names.BOOTSTRAP:  # which has none, and there is but one
        return names.BOOTSTRAP_PATCHES
    return str(message.cluster_name if type_url == names.ENDPOINT else message.name)


def _text(given: object) -> str:
    if not isinstance(given, str) or len(given) > _MOST_TEXT:
        raise TypeError("no text, or too long a one")
    return given


def _texts(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or len(given) > _MOST_LISTED:
        raise TypeError("no list, or too long a one")
    return tuple(map(_text, given))


def _origins(given: Iterable[object]) -> tuple[Origin, ...]:
    return tuple(map(_origin, given))


def _origin(given: object) -> Origin:
    group, kind, namespace, name, field = _texts(given)
    return Origin(key=ConfigKey(group, kind, namespace, name), field=field)
