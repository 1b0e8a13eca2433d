"""A response, and its bytes: a join of the resources' frames, then the stream's own few bytes (DESIGN section 4).

No protobuf object is made: the fields are written here, by number, from Envoy's discovery.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Final

from istiod.config.resource import Resource, delimited

_VERSION: Final = b"\x0a"
"""version_info, and system_version_info of delta: field 1."""
_TYPE_URL: Final = b"\x22"
"""Field 4 of both."""
_NONCE: Final = b"\x2a"
"""Field 5 of both."""
_REMOVED: Final = b"\x32"
"""removed_resources of delta: field 6."""
_ANY_FRAME: Final = attrgetter("any_frame")
_DELTA_FRAME: Final = attrgetter("delta_frame")
"""Thousands of frames per response: without a step of Python for each."""


@lru_cache(maxsize=64)
def _typed(type_url: str) -> bytes:
    return delimited(_TYPE_URL, type_url.encode())


@dataclass(frozen=True, slots=True)
class Send:
    """One response. ``removed`` is told by delta only; state of the world tells it by leaving out."""

    type_url: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    nonce: str
    delta: bool

    def encode(self) -> bytes:
        """A DeltaDiscoveryResponse or DiscoveryResponse."""
        nonce = self.nonce.encode()
        tail = _typed(self.type_url) + delimited(_NONCE, nonce) + delimited(_VERSION, nonce)
        if not self.delta:
            return b"".join([*map(_ANY_FRAME, self.resources), tail])
        removed = (delimited(_REMOVED, name.encode()) for name in self.removed)
        return b"".join([*map(_DELTA_FRAME, self.resources), *removed, tail])
