"""Compiled xDS resources as framed bytes, shared by all proxies that get them (DESIGN section 4, first row).

A response is a join of frames, then nonce and version: no protobuf object is touched at send. Leaves what is in the
bytes to istiod.envoy and when they go to istiod.ads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from istiod.config.origin import Origin
from wire.varint import varint

_TAG_FIELD_1 = b"\x0a"
_TAG_FIELD_2 = b"\x12"
_TAG_FIELD_3 = b"\x1a"
_MORE = 0x80
_SHORT = [bytes((length,)) for length in range(_MORE)]


def delimited(tag: bytes, body: bytes) -> bytes:
    """A length-delimited field."""
    if len(body) < _MORE:
        return tag + _SHORT[len(body)] + body
    return tag + varint(len(body)) + body


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """One xDS resource, framed once.

    ``any_frame`` is field 2 of a DiscoveryResponse (an Any), ``delta_frame`` field 2 of a DeltaDiscoveryResponse
    (a Resource with name and version around the same Any). ``version`` is the content's hash, equal on all replicas.
    ``refs`` are the names of clusters, routes and secrets that the resource names, by type URL.
    """

    name: str
    type_url: str
    version: str
    any_frame: bytes
    delta_frame: bytes
    refs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    origin: Origin | None = None


def make(
    name: str,
    type_url: str,
    body: bytes,
    refs: Mapping[str, frozenset[str]] | None = None,
    origin: Origin | None = None,
    version: str = "",
) -> Resource:
    """Frame a serialized message (deterministic encoding) of ``type_url`` as a Resource.

    ``version`` is for composites, which have it from the digests of their parts; "" means: from the bytes.
    """
    # Bodies may have half a megabyte: each frame is joined once, not built up
    head = delimited(_TAG_FIELD_1, type_url.encode()) + _TAG_FIELD_2 + varint(len(body))
    version = version or _version(head, body)
    any_frame = b"".join((_TAG_FIELD_2, varint(len(head) + len(body)), head, body))
    before, after = delimited(_TAG_FIELD_1, version.encode()), delimited(_TAG_FIELD_3, name.encode())
    length = varint(len(before) + len(any_frame) + len(after))
    return Resource(
        name=name,
        type_url=type_url,
        version=version,
        any_frame=any_frame,
        delta_frame=b"".join((_TAG_FIELD_2, length, before, any_frame, after)),
        refs=refs or {},
        origin=origin,
    )


def _version(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class ResourceSet:
    """Everything one proxy should have: per type URL layers of name -> Resource, shared layers first.

    Names are unique over the layers of a type. Endpoint layers may hold more than the proxy subscribes to. Weakly
    referenced by the compiler, which hands out the same set while nothing in it changed.
    """

    layers: Mapping[str, tuple[Mapping[str, Resource], ...]]

    def get(self, type_url: str, name: str) -> Resource | None:
        """The resource of that name, or None."""
        for layer in self.layers.get(type_url, ()):
            if (found := layer.get(name)) is not None:
                return found
        return None

    def finder(self, type_url: str) -> Callable[[str], Resource | None]:
        """``get`` of one type, for those who look up a thousand names in a row."""
        match self.layers.get(type_url, ()):
            case (only,):
                return only.get
            case (shared, own):
                return lambda name: shared.get(name) or own.get(name)
        return partial(self.get, type_url)

    def of(self, type_url: str) -> Iterator[Resource]:
        """All resources of a type, layer by layer."""
        for layer in self.layers.get(type_url, ()):
            yield from layer.values()

    def named(self, type_url: str, *by: str) -> frozenset[str]:
        """The names of a type that resources of other types refer to."""
        return frozenset[str]().union(*(one.refs.get(type_url, ()) for each in by for one in self.of(each)))

    def count(self, type_url: str) -> int:
        """How many resources of a type there are."""
        return sum(len(layer) for layer in self.layers.get(type_url, ()))


EMPTY = ResourceSet(layers={})
